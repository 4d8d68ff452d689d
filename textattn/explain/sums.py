"""How contributions add up to the answer, in one line for a terminal, a page or a notebook."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textattn.explain.explanations import Explanation, Sum
    from textattn.tasks.ordinal import Steps


def sum_line(
    explanation: Explanation,
    total: Sum,
    *,
    decimals: int = 2,
    minus: str = "-",
    name: Callable[[str], str] = str,
) -> str:
    """How bias, words and n-grams lead to the answer: `0.20 bias + 1.30 words = 1.50, the log-odds of pos`.

    Args:
        total: the sum of the explanation.
        decimals: digits after the point. They are fixed, so that a reader can add the numbers up.
        minus: the minus sign.
        name: writes the name of a label.
    """

    if explanation.prediction.decimals is not None:
        decimals = explanation.prediction.decimals

    def number(value: float) -> str:
        return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", minus)  # + 0.0: no negative zero

    def added(value: float) -> str:
        return f"{minus if value < 0 else '+'} {abs(value):.{decimals}f}"

    ngrams = "" if total.ngrams is None else f" {added(total.ngrams)} n-grams"
    parts = f"{number(total.bias)} bias {added(total.words)} words{ngrams} = {number(total.answer)}"
    target = name(explanation.target)
    if explanation.prediction.is_number:
        is_limited = abs(total.answer - explanation.prediction.score) >= 0.5 * 10**-decimals
        limit = f", limited to {number(explanation.prediction.score)} by the range of the training data"
        return f"{parts}, the predicted {target}{limit * is_limited}"
    if total.steps is not None:
        return f"{parts}, the mean log-odds {_steps(explanation, total.steps, name)}"
    if not total.is_log_odds:
        return f"{parts}, the logit of {target} less the mean of the others"
    other = "" if explanation.against is None else f" rather than {name(explanation.against)}"
    calibration = "" if total.temperature == 1 else f", which calibration divides by {total.temperature:.2f}"
    return f"{parts}, the log-odds of {target}{other}{calibration}"


def _steps(explanation: Explanation, steps: Steps, name: Callable[[str], str]) -> str:
    """The steps between grades, in words."""
    target, other = name(explanation.target), explanation.against
    if steps == "none up":
        return f"against each step from {target} up to {name(other or '')}"
    start = "" if other is None else f" from {name(other)}"
    return f"of each step{start} up to {target}{' and of stopping there' * (steps == 'up and stop')}"
