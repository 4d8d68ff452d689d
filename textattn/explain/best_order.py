"""The best order in which to erase the tokens of a text, as far as a greedy search finds it.

No explanation can be much better than this order, so it is the upper end of the scale on which methods are measured;
a random order is the lower end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from textattn.explain.audit_measures import num_erased
from textattn.explain.erasure import erase, logits_of
from textattn.explain.erasure_curves import CURVE, Ids, Order
from textattn.inference.classifier import Classifier


def points(length: int) -> list[int]:
    """Numbers of tokens erased at the points of the curve of a text, ascending, without repetition."""
    return sorted({num_erased(share, length) for share in CURVE})


def search_cost(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens that the search runs through the model for each text, (rows,)."""

    def cost(length: int) -> int:
        left = [length - erased for erased in [0, *points(length)][:-1]]
        return sum(count * (count - 1) for count in left)

    return np.array([cost(int(length)) for length in lengths], np.int64)


def best_orders(
    classifier: Classifier,
    rows: Sequence[Ids],
    answers: NDArray[np.int64],
    on_row: Callable[[int], None] | None = None,
) -> list[Order]:
    """Finds for each text the order in which the probability of its answer falls fastest.

    From one point of the erasure curve to the next, it deletes those tokens whose deletion, each by itself, from what
    is left lowers the probability most. In texts of up to ten tokens that is one token at a time, in longer ones a
    tenth of the tokens: one at a time would take time in the third power of their length.

    Args:
        rows: (tokens,) token ids of each text.
        answers: (rows,) the answer whose probability is to fall.
        on_row: called with the number of texts done.
    """
    orders = []
    for number, (ids, answer) in enumerate(zip(rows, answers.tolist(), strict=True)):
        orders.append(_search(classifier, ids, answer))
        if on_row is not None:
            on_row(number + 1)
    return orders


def _search(classifier: Classifier, ids: Ids, answer: int) -> Order:
    left = np.arange(len(ids))
    order: list[int] = []
    for target in points(len(ids)):
        count = target - len(order)
        if count < len(left):
            without = (
                erase(ids, np.isin(np.arange(len(ids)), np.delete(left, place)), classifier.tokenizer.unk_id)
                for place in range(len(left))
            )
            probs = classifier.logits_to_probabilities(logits_of(classifier, without))
            strengths = classifier.task.strength(probs, np.full(len(probs), answer))
            chosen = np.argsort(strengths, kind="stable")[:count]
        else:
            chosen = np.arange(len(left))
        order += left[chosen].tolist()
        left = np.delete(left, chosen)
    return np.array(order, np.int64)
