"""The measures of an audit, for one text at a time, as the papers define them. Numpy only; no model, no sampling.

DeYoung et al. 2020 (ERASER): comprehensiveness, sufficiency, token F1, IOU F1, AUPRC. Jain & Wallace 2019: Kendall's
tau, total variation. Mohankumar et al. 2020: conicity. Madsen et al. 2024 (arXiv 2310.07819): area between curves. Hu
et al. 2023 (SEAT): overlap of the top tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
# Shares of the tokens of a text that are erased (ERASER's bins).
FRACTIONS = (0.01, 0.05, 0.10, 0.20, 0.50)
# A predicted span counts as found from this overlap on (ERASER).
LEAST_OVERLAP = 0.5
RESAMPLES = 1000
# Share of the tokens that are the top of an explanation, where two are compared.
TOP = 0.1
# Share of the strongest score of a text from which on a token counts as shown for or against the answer.
STRONG = 0.1


@dataclass(frozen=True)
class Interval:
    """A mean, or a ratio of two sums, with its 95 % interval over texts."""

    mean: float
    low: float
    high: float
    num_texts: int


def num_erased(fraction: float, length: int) -> int:
    """Tokens that are that share of `length`: rounded up, so at least one."""
    return min(max(math.ceil(fraction * length - 1e-9), 1), length)


def order_by(scores: Array, generator: np.random.Generator) -> NDArray[np.int64]:
    """Tokens from the highest score to the lowest; equal ones in random order, so that a constant ranks nothing."""
    shuffled = generator.permutation(len(scores))
    return np.asarray(shuffled[np.argsort(-scores[shuffled], kind="stable")])


def comprehensiveness(whole: float, without: Sequence[float]) -> float:
    """How far the probability of the answer falls without the top tokens, mean over the shares erased."""
    return float(np.mean([whole - p for p in without]))


def sufficiency(whole: float, alone: Sequence[float]) -> float:
    """How far it falls when only the top tokens are left; 0 is best."""
    return float(np.mean([whole - p for p in alone]))


def area(counts: Sequence[int], probs: Sequence[float], length: int) -> float:
    """Area under a curve of probabilities over the share of tokens erased, by trapezoids.

    Args:
        counts: tokens erased at each point, ascending.
        probs: probability of the answer there.
        length: tokens of the text.
    """
    shares, heights = np.asarray(counts) / length, np.asarray(probs)
    return float((np.diff(shares) * (heights[1:] + heights[:-1]) / 2).sum())


class SignCounts(NamedTuple):
    """Tokens of a text that a method shows with a sign, and those of them whose sign is right."""

    supporting: int
    supporting_right: int
    opposing: int
    opposing_right: int


def check_signs(scores: Array, falls: Array) -> SignCounts:
    """Compares signs with leave-one-out. Small scores, below `STRONG`, are not counted; all others count the same.

    Args:
        scores: (tokens,) positive for the answer, negative against it.
        falls: (tokens,) how far the probability of the answer falls when the token is deleted.
    """
    strength = np.abs(scores)
    strong = strength >= STRONG * strength.max()
    supporting, opposing = strong & (scores > 0), strong & (scores < 0)
    return SignCounts(
        int(supporting.sum()),
        int((supporting & (falls > 0)).sum()),
        int(opposing.sum()),
        int((opposing & (falls < 0)).sum()),
    )


def top_overlap(a: NDArray[np.int64], b: NDArray[np.int64], fraction: float = TOP) -> float:
    """Share of the first tokens of one order that are also among the first of the other.

    Args:
        a: (tokens,) positions, the most important first.
        b: the same of the other order.
        fraction: share of the tokens that are compared; at least one.
    """
    count = num_erased(fraction, len(a))
    return len(np.intersect1d(a[:count], b[:count])) / count


def kendall_tau(a: Array, b: Array) -> float:
    """Kendall's tau-b of two scorings of the same tokens; nan where one of them is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    from scipy.stats import kendalltau

    return float(kendalltau(a, b).statistic)


def jensen_shannon(p: Array, q: Array) -> float:
    """Jensen-Shannon divergence of two distributions, in nats: 0 to ln 2."""
    middle = (p + q) / 2

    def to_middle(x: Array) -> float:
        there = x > 0
        return float((x[there] * np.log(x[there] / middle[there])).sum())

    return (to_middle(p) + to_middle(q)) / 2


def conicity(states: Array) -> float:
    """Mean cosine of the states, (tokens, dim), with their mean: 1 if all point the same way."""
    mean = states.mean(axis=0)
    norms = np.linalg.norm(states, axis=1) * np.linalg.norm(mean)
    return float((states @ mean / np.maximum(norms, 1e-12)).mean())


def spans_of(chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Runs of chosen tokens, half-open."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(np.int8), [0]])))
    return [(int(first), int(last)) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def f1(precision: float, recall: float) -> float:
    """Harmonic mean; 0 where both are."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def token_f1(chosen: NDArray[np.bool_], evidence: NDArray[np.bool_]) -> float:
    """F1 of the chosen tokens against those of the evidence."""
    both = int((chosen & evidence).sum())
    return f1(both / max(int(chosen.sum()), 1), both / max(int(evidence.sum()), 1))


def iou_precision_recall(chosen: NDArray[np.bool_], evidence: NDArray[np.bool_]) -> tuple[float, float]:
    """Share of chosen spans that match, and matches for each span of the evidence, by intersection over union.

    ERASER's definition: each chosen span is compared with the span of the evidence that it overlaps best, and both
    shares have the number of chosen spans that match above the line.
    """
    predicted, true = spans_of(chosen), spans_of(evidence)

    def overlap(a: tuple[int, int], b: tuple[int, int]) -> float:
        shared = max(0, min(a[1], b[1]) - max(a[0], b[0]))
        return shared / (a[1] - a[0] + b[1] - b[0] - shared)

    found = sum(max((overlap(p, t) for t in true), default=0.0) >= LEAST_OVERLAP for p in predicted)
    return found / max(len(predicted), 1), found / max(len(true), 1)


def auprc(scores: Array, evidence: NDArray[np.bool_]) -> float:
    """Area under the precision-recall curve, by trapezoids as ERASER does; nan without any evidence."""
    if not evidence.any():
        return math.nan
    from sklearn.metrics import auc, precision_recall_curve

    precision, recall, _ = precision_recall_curve(evidence, scores)
    return float(auc(recall, precision))


def bootstrap(values: Sequence[float] | Array, seed: int = 0) -> Interval | None:
    """Mean of the values that are numbers, with percentiles 2.5 and 97.5 of its bootstrap; None without any."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return None
    generator = np.random.default_rng(seed)
    means = known[generator.integers(0, len(known), (RESAMPLES, len(known)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(known.mean()), float(low), float(high), len(known))


def bootstrap_ratio(parts: Sequence[float] | Array, wholes: Sequence[float] | Array, seed: int = 0) -> Interval | None:
    """Sum of `parts` over the sum of `wholes`, both (rows,), with percentiles 2.5 and 97.5 of its bootstrap over rows.

    None where the sum of `wholes` is not positive. Resamples in which it is not are left out.
    """
    over, under = np.asarray(parts, np.float64), np.asarray(wholes, np.float64)
    if not under.sum() > 0:
        return None
    drawn = np.random.default_rng(seed).integers(0, len(under), (RESAMPLES, len(under)))
    overs, unders = over[drawn].sum(axis=1), under[drawn].sum(axis=1)
    ratios = overs[unders > 0] / unders[unders > 0]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Interval(float(over.sum() / under.sum()), float(low), float(high), int((under != 0).sum()))
