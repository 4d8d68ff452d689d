"""Erasure curves: how the answers to texts change as more and more of their tokens are erased, in a given order.

The measures are those of ERASER (DeYoung et al. 2020), and the share erased until the answer changes (Serrano & Smith
2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from textattn.explain.audit_measures import FRACTIONS, area, comprehensiveness, num_erased, sufficiency
from textattn.explain.erasure import Variant, answers_of, erase
from textattn.explain.support import REJECTED, Support
from textattn.inference.classifier import Classifier

Ids = NDArray[np.int32]
Order = NDArray[np.int64]
VARIANTS: tuple[Variant, ...] = ("deletion", "mask")
# Shares of the tokens that are erased, one after the other, until the answer changes.
STEPS = (*FRACTIONS, 0.75, 1.0)
# Shares of the tokens that are erased at the points of the curve whose area is measured (Madsen et al. 2024).
CURVE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Erased(NamedTuple):
    """What erasure did to the answers to some texts."""

    comprehensiveness: dict[Variant, NDArray[np.float64]]
    """(rows,) fall of the probability without the first tokens, for each way to erase."""
    sufficiency: dict[Variant, NDArray[np.float64]]
    """(rows,) fall of the probability with the first tokens alone, for each way to erase."""
    top_token_flips: NDArray[np.bool_]
    """(rows,) whether the answer changes when the first token is deleted."""
    erased_until_flip: NDArray[np.float64]
    """(rows,) smallest of STEPS at which the answer changes; 1 also where it never does."""
    outliers: dict[Variant, NDArray[np.float64]]
    """(rows,) share of the texts without the first tokens that are unlike whole texts, for each way to erase."""


def erase_in_order(
    classifier: Classifier,
    rows: Sequence[Ids],
    orders: Sequence[Order],
    probs: NDArray[np.float64],
    support: Support,
    on_rows: Callable[[int], None] | None = None,
) -> Erased:
    """Erases the first tokens of each text in the order given for it.

    Args:
        rows: (tokens,) token ids of each text.
        orders: (tokens,) positions of its tokens, the most important first.
        probs: (rows, labels) probabilities of the whole texts.
        support: the whole texts; the first of them are these texts.
        on_rows: called with the number of erased texts that have run.
    """
    runner = _Runner(classifier, rows, orders, classifier.task.top(probs), support, on_rows)
    counts = [[num_erased(fraction, len(row)) for fraction in FRACTIONS] for row in rows]
    for number, row_counts in enumerate(counts):
        runner.want(number, 1, "deletion", kept=False)
        for count in row_counts:
            for variant in VARIANTS:
                runner.want(number, count, variant, kept=False)
                runner.want(number, count, variant, kept=True)
    runner.run()
    answers = classifier.task.top(probs)
    whole = classifier.task.strength(probs, answers)

    def curve(number: int, variant: Variant, kept: bool) -> list[float]:
        return [runner.prob(number, count, variant, kept) for count in counts[number]]

    comp = {
        variant: np.array(
            [comprehensiveness(p, curve(number, variant, False)) for number, p in enumerate(whole.tolist())]
        )
        for variant in VARIANTS
    }
    suff = {
        variant: np.array([sufficiency(p, curve(number, variant, True)) for number, p in enumerate(whole.tolist())])
        for variant in VARIANTS
    }
    top = np.array([runner.flipped(number, 1) for number in range(len(rows))])
    outliers = {
        variant: np.array(
            [
                np.mean([runner.p_value(number, count, variant) <= REJECTED for count in row_counts])
                for number, row_counts in enumerate(counts)
            ]
        )
        for variant in VARIANTS
    }
    return Erased(comp, suff, top, _until_flip(runner, rows), outliers)


def areas_under_curves(
    classifier: Classifier, rows: Sequence[Ids], orders: Sequence[Order], probs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The area under the probability of the answer as tokens are deleted in order, from none to all: (rows,).

    The arguments are those of `erase_in_order`. The last point is the text without any token.
    """
    answers = classifier.task.top(probs)
    runner = _Runner(classifier, rows, orders, answers)
    counts = [[num_erased(share, len(row)) for share in CURVE] for row in rows]
    for number, row_counts in enumerate(counts):
        for count in row_counts:
            runner.want(number, count, "deletion", kept=False)
    runner.run()
    areas, whole = [], classifier.task.strength(probs, answers)
    for number, row_counts in enumerate(counts):
        curve = [runner.prob(number, count, "deletion", kept=False) for count in row_counts]
        areas.append(area([0, *row_counts], [float(whole[number]), *curve], len(rows[number])))
    return np.array(areas)


def _until_flip(runner: _Runner, rows: Sequence[Ids]) -> NDArray[np.float64]:
    share = np.ones(len(rows))
    standing = list(range(len(rows)))
    for step in STEPS:
        for number in standing:
            runner.want(number, num_erased(step, len(rows[number])), "deletion", kept=False)
        runner.run()
        flipped = {number for number in standing if runner.flipped(number, num_erased(step, len(rows[number])))}
        share[list(flipped)] = step
        standing = [number for number in standing if number not in flipped]
    return share


_Key = tuple[int, int, Variant, bool]


class _Result(NamedTuple):
    """What the model says of an erased text."""

    prob: float
    """Probability of the answer to the whole text, see `Task.strength`."""
    flipped: bool
    p_value: float
    """Of its likeness to whole texts, where the first tokens were erased; otherwise 1."""


class _Runner:
    """Runs each erased text once, however often it is wanted: in short texts several shares are the same tokens."""

    def __init__(
        self,
        classifier: Classifier,
        rows: Sequence[Ids],
        orders: Sequence[Order],
        answers: NDArray[np.int64],
        support: Support | None = None,
        on_rows: Callable[[int], None] | None = None,
    ) -> None:
        self.classifier = classifier
        self.rows = rows
        self.orders = orders
        self.answers = answers
        self.support = support
        self.on_rows = on_rows
        self.wanted: dict[_Key, None] = {}
        self.found: dict[_Key, _Result] = {}

    def want(self, number: int, count: int, variant: Variant, *, kept: bool) -> None:
        key = (number, count, variant, kept)
        if key not in self.found:
            self.wanted[key] = None

    def run(self) -> None:
        if not self.wanted:
            return
        done = len(self.found)

        def advance(rows: int) -> None:
            if self.on_rows is not None:
                self.on_rows(done + rows)

        logits, contexts = answers_of(self.classifier, self._texts(), advance)
        p_values = np.ones(len(logits))
        if self.support is not None:
            without = np.array([not kept for _, _, _, kept in self.wanted])
            sources = np.array([number for number, *_ in self.wanted])
            p_values[without] = self.support.p_values(contexts[without], sources[without])
        probs = self.classifier.logits_to_probabilities(logits)
        task = self.classifier.task
        answers = self.answers[[number for number, *_ in self.wanted]]
        columns = (task.strength(probs, answers), task.top(probs) != answers, p_values)
        for key, *values in zip(self.wanted, *(column.tolist() for column in columns), strict=True):
            self.found[key] = _Result(*values)
        self.wanted = {}

    def _texts(self) -> Iterator[Ids]:
        unk_id = self.classifier.tokenizer.unk_id
        for number, count, variant, kept in self.wanted:
            chosen = np.zeros(len(self.rows[number]), np.bool_)
            chosen[self.orders[number][:count]] = True
            yield erase(self.rows[number], chosen if kept else ~chosen, unk_id, variant)

    def prob(self, number: int, count: int, variant: Variant, kept: bool) -> float:
        return self.found[number, count, variant, kept].prob

    def flipped(self, number: int, count: int) -> bool:
        return self.found[number, count, "deletion", False].flipped

    def p_value(self, number: int, count: int, variant: Variant) -> float:
        return self.found[number, count, variant, False].p_value
