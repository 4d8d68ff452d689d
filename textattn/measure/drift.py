"""Drift: whether the texts that a model answers are still like those of its validation split.

Compared are the answers, their scores, the lengths of the texts, the share of their tokens that the model does not
know, and the share of those that carried its answers on the validation split. The reference holds counts and token ids,
and no text, so it can be kept with the model. What is compared with it is counted as it comes, in bounded memory.

A difference counts as drift only if it is more than chance (a G-test, or Kolmogorov-Smirnov on counted values, both
with Holm's correction) and not small: of a million texts any difference is more than chance.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textattn.errors import InputError
from textattn.measure.multiple_tests import LEVEL, holm

Floats = NDArray[np.floating[Any]]
Counts = NDArray[np.int64]
FORMAT_VERSION = 1
# Effect sizes are between 0 and 1: the share of the texts that would have to change. From MODERATE on it is drift.
MODERATE, LARGE = 0.1, 0.25
# Values lie in this many ranges between the lowest and the highest that are usual, and in no more beyond these.
RANGES, BEYOND = 500, 500
# A G-test needs this many expected texts in each cell; rarer labels are put together.
LEAST_EXPECTED = 5.0
# For fewer texts than this the approximation is too rough; the exact p-value is computed for up to so many others.
FEW, EXACT = 100, 10_000
WORDS_SHOWN = 10
LABELS, SCORES, LENGTHS, UNKNOWN, CARRIERS = "answers", "scores", "lengths", "unknown", "carriers"
MEANINGS = {
    LABELS: "share of each label",
    SCORES: "score or number of the answer",
    LENGTHS: "tokens of a text",
    UNKNOWN: "share of unknown tokens",
    CARRIERS: "share of words that carry the answers",
}


@dataclass(frozen=True)
class Scale:
    """How values are counted: in ranges of equal width."""

    low: float = 0.0
    width: float = 1 / RANGES

    def numbers(self, values: Floats) -> Counts:
        """The number of the range of each value; a value far outside is counted in the outermost one."""
        found = np.floor((values - self.low) / self.width + 1e-9)
        clipped = np.clip(np.nan_to_num(found), -BEYOND, RANGES + BEYOND)
        return np.asarray(clipped, np.int64)

    @classmethod
    def of(cls, values: Floats) -> Scale:
        """The scale for values such as these; probabilities have the one between 0 and 1."""
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        if low >= 0 and high <= 1:
            return cls()
        return cls(low, max(high - low, 1e-9) / RANGES)


SHARE = Scale()
# Up to 1,000 tokens each length is a range of its own.
TOKENS = Scale(0.0, 1.0)


@dataclass(frozen=True)
class Observed:
    """What is counted of some texts."""

    labels: Counts
    """(num_labels,) the number of texts that got each label."""
    scores: Floats
    """(texts,) the score of each answer."""
    lengths: Counts
    """(texts,) tokens of each text."""
    unknown: Floats
    """(texts,) the share of tokens that are not in the vocabulary."""
    carriers: Floats | None
    """(texts,) the share of tokens that are among those that carry the answers; None if these are not known."""
    with_carrier: Counts
    """(num_carriers,) the number of texts that contain each of them."""


@dataclass
class Figures:
    """Counts of all texts so far."""

    labels: Counts
    with_carrier: Counts
    score_scale: Scale = SHARE
    num_texts: int = 0
    values: dict[str, Counter[int]] = field(default_factory=dict)
    """Number of the range -> number of texts, for each figure but the labels."""

    def scale(self, name: str) -> Scale:
        """How the values of a figure are counted."""
        return {SCORES: self.score_scale, LENGTHS: TOKENS}.get(name, SHARE)

    def add(self, seen: Observed) -> None:
        """Count some texts."""
        self.num_texts += len(seen.lengths)
        self.labels = self.labels + seen.labels
        self.with_carrier = self.with_carrier + seen.with_carrier
        columns = {SCORES: seen.scores, LENGTHS: seen.lengths, UNKNOWN: seen.unknown, CARRIERS: seen.carriers}
        for name, column in columns.items():
            if column is not None:
                numbers, counts = np.unique(self.scale(name).numbers(np.asarray(column)), return_counts=True)
                counter = self.values.setdefault(name, Counter())
                counter.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))

    def mean(self, name: str) -> float | None:
        """The mean of a figure, up to the width of a range; None without texts."""
        counter = self.values.get(name)
        if not counter:
            return None
        scale = self.scale(name)
        total = sum(number * count for number, count in counter.items()) / counter.total()
        return float(scale.low + scale.width * total)


@dataclass(frozen=True)
class Reference:
    """The figures of the validation split of a model: the content of reference.json."""

    split: str
    figures: Figures
    carriers: list[int] | None
    """Ids of the tokens that contributed most to the answers; None if the model has no contributions."""
    exclusive: bool = True
    """Whether a text has exactly one label."""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        figures = self.figures
        return {
            "format_version": FORMAT_VERSION,
            "split": self.split,
            "num_texts": figures.num_texts,
            "exclusive": self.exclusive,
            "labels": figures.labels.tolist(),
            "score_scale": [figures.score_scale.low, figures.score_scale.width],
            "carriers": self.carriers,
            "with_carrier": figures.with_carrier.tolist(),
            "values": {name: sorted(counter.items()) for name, counter in figures.values.items()},
        }

    @classmethod
    def from_json(cls, value: Any, where: str, num_labels: int) -> Reference:
        """Read the result of `to_json`.

        Args:
            where: the file, for messages.
            num_labels: the number of labels of the model.

        Raises:
            InputError: it is damaged, of another model, or written by a newer version.
        """
        try:
            if value["format_version"] > FORMAT_VERSION:
                raise InputError("written by a newer version", "pip install --upgrade textattn", place=where)
            carriers = value["carriers"]
            labels, with_carrier = (np.array(value[key], np.int64) for key in ("labels", "with_carrier"))
            low, width = (float(number) for number in value["score_scale"])
            counters = {
                str(name): Counter({int(number): int(count) for number, count in pairs})
                for name, pairs in value["values"].items()
            }
            total = int(value["num_texts"])
            figures = Figures(labels, with_carrier, Scale(low, width), total, counters)
            sizes = labels.shape == (num_labels,) and with_carrier.shape == (len(carriers or []),) and width > 0
            if not sizes or total < 1 or any(counter.total() != total for counter in counters.values()):
                raise ValueError("the numbers do not fit together")
            found = None if carriers is None else [int(token) for token in carriers]
            return cls(str(value["split"]), figures, found, bool(value["exclusive"]))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(f"damaged ({error!r})", place=where) from None


@dataclass(frozen=True)
class Difference:
    """How much one figure differs from the reference."""

    effect: float
    """0: not at all, 1: entirely. For answers the share of texts that would have to get another label (the total
    variation distance); for values the largest difference of the shares below any value (Kolmogorov-Smirnov)."""
    p: float
    """Of the test alone."""
    p_adjusted: float
    """Of all tests together (Holm)."""
    before: float | None
    """Mean of the reference; None for the answers."""
    now: float | None

    @property
    def is_certain(self) -> bool:
        """Whether it is more than chance."""
        return self.p_adjusted <= LEVEL

    @property
    def size(self) -> str:
        """`none` if it may be chance, else `small`, `moderate` or `large`."""
        if not self.is_certain:
            return "none"
        return "small" if self.effect < MODERATE else "moderate" if self.effect < LARGE else "large"


@dataclass(frozen=True)
class DriftReport:
    """What has drifted."""

    num_texts: int
    num_reference: int
    split: str
    differences: dict[str, Difference]
    label_shares: tuple[list[float], list[float]]
    """Of each label, in the reference and now."""
    words: list[tuple[int, float, float]]
    """Tokens that carry answers and are in more or fewer texts than before by more than chance, with the two shares of
    texts, the largest differences first."""

    @property
    def drifted(self) -> list[str]:
        """The figures that have drifted, the largest effect first."""
        found = [name for name, one in self.differences.items() if one.size in ("moderate", "large")]
        return sorted(found, key=lambda name: -self.differences[name].effect)

    @property
    def detectable(self) -> float:
        """The smallest effect that this many texts tell from chance."""
        if not self.num_texts:
            return 1.0
        from scipy.stats import kstwo

        alpha = LEVEL / max(len(self.differences), 1)
        return min(1.0, float(kstwo.isf(alpha, _effective(self.num_reference, self.num_texts))))

    def verdict(self) -> str:
        """The result in one sentence."""
        texts = f"{self.num_texts:,} text{'s' if self.num_texts != 1 else ''}"
        if self.drifted:
            parts = [f"{MEANINGS[name]} ({self.differences[name].effect:.2f})" for name in self.drifted]
            return f"Drift: the {texts} differ from the {self.split} split in {', '.join(parts)}."
        if self.detectable > MODERATE:
            return (
                f"No drift was found, but {texts} show only differences above {self.detectable:.2f} "
                f"beside {self.num_reference:,} of the {self.split} split."
            )
        small = [MEANINGS[name] for name, one in self.differences.items() if one.is_certain]
        but = f"; there are small ones in {', '.join(small)}" if small else ""
        return f"No drift: the {texts} differ from the {self.split} split by less than {MODERATE} in every figure{but}."

    def to_json(self, labels: Sequence[str], words: Mapping[int, str]) -> dict[str, Any]:
        """The report as JSON values.

        Args:
            labels: the names of the labels.
            words: the tokens by their ids.
        """
        before, now = self.label_shares
        return {
            "drift": bool(self.drifted),
            "verdict": self.verdict(),
            "num_texts": self.num_texts,
            "num_reference": self.num_reference,
            "split": self.split,
            "detectable": self.detectable,
            "figures": {
                name: {
                    "size": one.size, "effect": one.effect, "p": one.p, "p_adjusted": one.p_adjusted,
                    "reference": one.before, "new": one.now,
                }
                for name, one in self.differences.items()
            },
            "labels": {
                label: {"reference": a, "new": b} for label, a, b in zip(labels, before, now, strict=True)
            },
            "words": [{"word": words[token], "reference": a, "new": b} for token, a, b in self.words],
        }  # fmt: skip


class Drift:
    """Counts the texts that a model answers, and compares them with its reference. Several threads may use it."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget the texts so far."""
        before = self.reference.figures
        with self._lock:
            self._now = Figures(np.zeros_like(before.labels), np.zeros_like(before.with_carrier), before.score_scale)

    def update(self, seen: Observed) -> None:
        """Count some texts; see `textattn.inference.observed`."""
        with self._lock:
            self._now.add(seen)

    def report(self) -> DriftReport:
        """Compare the texts so far with the reference."""
        with self._lock:
            return compare(self.reference, self._now)


def compare(reference: Reference, now: Figures) -> DriftReport:
    """Compare two sets of texts."""
    before = reference.figures
    sizes = (before.num_texts, now.num_texts)
    found: dict[str, tuple[float, float]] = {}
    if len(before.labels) > 1:
        test = _exclusive_labels if reference.exclusive else _several_labels
        found[LABELS] = test(before.labels, now.labels, *sizes)
    for name, counter in before.values.items():
        found[name] = _kolmogorov_smirnov(counter, now.values.get(name, Counter()))
    adjusted = holm([p for _, p in found.values()])
    differences = {
        name: Difference(effect, p, corrected, before.mean(name), now.mean(name))
        for (name, (effect, p)), corrected in zip(found.items(), adjusted, strict=True)
    }
    shares = [_shares(labels, total).tolist() for labels, total in ((before.labels, sizes[0]), (now.labels, sizes[1]))]
    words = _changed_words(reference, now)
    return DriftReport(sizes[1], sizes[0], reference.split, differences, (shares[0], shares[1]), words)


def _shares(counts: Counts, total: int) -> Floats:
    return np.asarray(counts / max(total, 1))


def _kolmogorov_smirnov(before: Counter[int], now: Counter[int]) -> tuple[float, float]:
    """The largest difference of the cumulative shares, and its p-value; ties make the p-value larger, never smaller."""
    from scipy.stats import ks_2samp, kstwo

    n, m = before.total(), now.total()
    if not n or not m:
        return 0.0, 1.0
    if min(n, m) < FEW and max(n, m) <= EXACT:
        values = [np.repeat(list(one), list(one.values())) for one in (before, now)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the sizes are too large for the exact value
            found = ks_2samp(*values, method="exact")
        return float(found.statistic), float(found.pvalue)
    numbers = sorted(before.keys() | now.keys())
    first, second = (np.cumsum([counter[number] for number in numbers]) for counter in (before, now))
    effect = float(np.abs(first / n - second / m).max())
    # The approximation of scipy.stats.ks_2samp for two samples.
    return effect, float(np.clip(kstwo.sf(effect, _effective(n, m)), 0, 1))


def _effective(n: int, m: int) -> int:
    """The size of a sample that differs from its distribution as two samples of these sizes differ from each other."""
    return max(1, round(n * m / (n + m)))


def _exclusive_labels(before: Counts, now: Counts, *_: int) -> tuple[float, float]:
    """The total variation distance of the labels, and the p-value of a G-test with rare labels put together."""
    n, m = int(before.sum()), int(now.sum())
    if not n or not m:
        return 0.0, 1.0
    effect = float(np.abs(before / n - now / m).sum() / 2)
    pairs = np.stack([before, now])
    expected = pairs.sum(axis=0) * (min(n, m) / (n + m))
    rare = expected < LEAST_EXPECTED
    pairs = np.concatenate([pairs[:, ~rare], pairs[:, rare].sum(axis=1, keepdims=True)], axis=1)
    return effect, _independence(pairs[:, pairs.sum(axis=0) > 0])


def _several_labels(before: Counts, now: Counts, n: int, m: int) -> tuple[float, float]:
    """The largest difference of the shares of texts with a label, and the least p-value (Holm over the labels)."""
    if not n or not m:
        return 0.0, 1.0
    effect = float(np.abs(before / n - now / m).max())
    return effect, min(holm([_independence(_table(a, b, n, m)) for a, b in zip(before, now, strict=True)]))


def _changed_words(reference: Reference, now: Figures) -> list[tuple[int, float, float]]:
    """The tokens that carry answers and are in more or fewer texts than before; see `DriftReport.words`."""
    n, m = reference.figures.num_texts, now.num_texts
    if not reference.carriers or not m:
        return []
    pairs = list(zip(reference.figures.with_carrier, now.with_carrier, strict=True))
    adjusted = holm([_independence(_table(a, b, n, m)) for a, b in pairs])
    found = [
        (token, float(a / n), float(b / m))
        for token, (a, b), p in zip(reference.carriers, pairs, adjusted, strict=True)
        if p <= LEVEL
    ]
    return sorted(found, key=lambda word: -abs(word[1] - word[2]))[:WORDS_SHOWN]


def _table(a: int, b: int, n: int, m: int) -> Counts:
    """Texts with and without something, of `n` before and `m` now."""
    return np.array([[a, n - a], [b, m - b]], np.int64)


def _independence(table: Counts) -> float:
    """The p-value of the hypothesis that both rows have the same shares."""
    from scipy.stats import chi2_contingency, fisher_exact

    if table.shape[1] < 2 or (table.sum(axis=0) == 0).any() or (table.sum(axis=1) == 0).any():
        return 1.0
    if table.shape == (2, 2):
        expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
        if expected.min() < LEAST_EXPECTED:
            return float(fisher_exact(table)[1])
    return float(chi2_contingency(table, lambda_="log-likelihood")[1])
