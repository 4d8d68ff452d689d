"""The figures of an audit, and their form in metrics.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from textattn.explain.audit_measures import Interval
from textattn.explain.erasure import Variant
from textattn.explain.verdict import STANDARD_DEVIATIONS, verdict


@dataclass(frozen=True)
class EvidenceAgreement:
    """How well the scores of a method agree with what people marked (ERASER's plausibility)."""

    auprc: Interval | None
    token_f1: Interval | None
    iou_f1: float


@dataclass(frozen=True)
class Signs:
    """Whether the signs of a method are right, by leave-one-out. Of random rankings: the shares of all tokens."""

    num_examples: int
    supporting: Interval | None
    """Share of the tokens shown as for the answer whose deletion lowers its probability. None where there are none."""
    opposing: Interval | None
    """Share of those shown as against it whose deletion raises it."""


@dataclass(frozen=True)
class MethodResult:
    """What the erasure of a method's top tokens did to the answers."""

    num_examples: int
    comprehensiveness: dict[Variant, Interval | None]
    comprehensiveness_over_random: Interval | None
    """Of deletion, less that of a random ranking of the same texts."""
    sufficiency: dict[Variant, Interval | None]
    top_token_flips: float
    """Share of the texts whose answer changes without the top token."""
    erased_until_flip: float
    """Mean share of the tokens erased until the answer changes."""
    outliers: dict[Variant, Interval | None]
    """Share of the texts without the top tokens that are unlike whole texts; see `textattn.explain.support`."""
    share_of_best: Interval | None = None
    """Area between the erasure curves of chance and of the method, as a share of that between chance and the best order
    known. None where it was not measured, the texts are too long for the search, or nothing is better than chance."""
    signs: Signs | None = None
    """None for a method without signs."""
    noise_overlap: Interval | None = None
    """Share of the top tokens that stay the same with noise in the embeddings. None where it was not measured."""
    evidence: EvidenceAgreement | None = None
    """None where no text has any."""

    def to_json(self) -> dict[str, Any]:
        """Without what was not measured."""
        value = asdict(self)
        optional = ("share_of_best", "signs", "noise_overlap", "evidence")
        return {key: value[key] for key in value if key not in optional or value[key] is not None}


@dataclass(frozen=True)
class AttentionResult:
    """What holds for the attention alone; see `textattn.explain.attention_checks`."""

    tau_gradient: Interval | None
    tau_leave_one_out: Interval | None
    tau_gradient_leave_one_out: Interval | None
    conicity: Interval | None
    permuted_total_variation: Interval | None
    uniform_total_variation: Interval | None
    uniform_decisions_changed: float
    top_weight_flips: float
    random_weight_flips: float
    weights_erased_until_flip: float
    random_weights_erased_until_flip: float
    accuracy: float | None = None
    """None for multi-label data."""
    uniform_accuracy: float | None = None
    """With equal weights."""

    def to_json(self) -> dict[str, Any]:
        """Without the accuracies of multi-label data."""
        value = asdict(self)
        return {key: value[key] for key in value if "accuracy" not in key or value[key] is not None}


@dataclass(frozen=True)
class NoiseFacts:
    """What noise in the embeddings does to the answers; see `textattn.explain.noise`."""

    relative_size: float
    """Standard deviation of the noise, as a share of the root mean square of the embeddings."""
    draws: int
    total_variation: Interval | None
    """Mean distance of the answers with and without noise."""


@dataclass(frozen=True)
class EvidenceFacts:
    """What people marked in the texts."""

    num_examples: int
    """Texts with marks."""
    share_of_tokens: float | None
    share_not_read: float | None
    """Mean share of the marked spans of a text that truncation cut off."""


@dataclass(frozen=True)
class SeedAgreement:
    """Means over texts and pairs of models, of words."""

    num_models: int
    attention_tau: float | None
    """None where the attention of all texts is constant."""
    attention_overlap: float | None
    """Share of the top tenth of the words of one model that are in that of the other."""
    attention_jensen_shannon: float | None
    """None, as the two above, where a model is a linear model alone, without attention."""
    contributions_tau: float | None
    """Of texts with the same answer. None without any, or where a model cannot divide its answers."""
    contributions_overlap: float | None
    equal_answers: float
    """Share of the answers that are the same."""


@dataclass(frozen=True)
class AuditResult:
    """All figures of an audit."""

    split: str
    num_examples: int
    num_known: int
    """Whole texts with which erased ones were compared."""
    tokens_median: int
    methods: dict[str, MethodResult]
    """By name; `random` is chance."""
    evidence: EvidenceFacts | None
    """None where the data have none."""
    attention: AttentionResult | None
    """None where attention was not audited, or the model has none or no weights of its own."""
    seeds: SeedAgreement | None
    """None for a single model."""
    noise: NoiseFacts | None = None
    """None where it was not measured: of a linear model alone the embeddings say nothing."""
    of_numbers: bool = False
    """Whether answers are numbers. What falls is then not a probability but the distance of the number from the mean of
    the training split, in standard deviations, and an answer changes when the number crosses that mean."""

    def to_json(self) -> dict[str, Any]:
        """As kept in metrics.json, with the verdict."""
        value: dict[str, Any] = {
            "split": self.split,
            "num_examples": self.num_examples,
            "num_known": self.num_known,
            "tokens_median": self.tokens_median,
            "methods": {name: result.to_json() for name, result in self.methods.items()},
        }
        if self.of_numbers:
            value["unit"] = STANDARD_DEVIATIONS
        if self.evidence is not None:
            value["evidence"] = asdict(self.evidence)
        if "attention" in self.methods:
            value["attention"] = None if self.attention is None else self.attention.to_json()
        if self.noise is not None:
            value["noise"] = asdict(self.noise)
        if self.seeds is not None:
            value["seeds"] = asdict(self.seeds)
        value["verdict"] = verdict(value)
        return value
