"""How far the highlights of one model can be trusted: every method measured on the same texts, with chance beside it.

Erasure is the primary evidence (DeYoung et al. 2020; Serrano & Smith 2019); rank correlations with other methods
(Jain & Wallace 2019) say what attention resembles, not whether it is right (Neely et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textattn.data.evidence import marked_tokens
from textattn.errors import ConfigError, Option
from textattn.explain.audit_measures import (
    Interval,
    auprc,
    bootstrap,
    f1,
    iou_precision_recall,
    kendall_tau,
    num_erased,
    order_by,
    token_f1,
)
from textattn.explain.audit_results import (
    AttentionResult,
    AuditResult,
    EvidenceAgreement,
    EvidenceFacts,
    MethodResult,
)
from textattn.explain.erasure import pack
from textattn.explain.erasure_curves import VARIANTS, Erased, erase_in_order
from textattn.explain.forward_pass import ForwardPass
from textattn.explain.methods import audited_names, find_method, method_names
from textattn.explain.methods._base import Method, Need
from textattn.explain.seed_agreement import seed_agreement
from textattn.explain.targets import Targets
from textattn.inference.classifier import Classifier
from textattn.report import Report
from textattn.tokens.token_arrays import TokenArrays

if TYPE_CHECKING:
    from textattn.data.read import Split

RANDOM = "random"
AUDITED = audited_names()
# Tokens that a slow method may run through the model; it scores as many of the texts as that is enough for.
TOKENS_FOR_SLOW_METHODS = 2_000_000

Scores = list[NDArray[np.float64]]


@dataclass(frozen=True)
class AuditSettings:
    """What to audit."""

    examples: int = 500
    """Most texts; of more, so many are drawn at random."""
    methods: Sequence[str] = AUDITED
    """Names of the methods to measure, besides a random ranking."""
    seed: int = 0
    slow_tokens: int = TOKENS_FOR_SLOW_METHODS
    """Tokens that each slow method may run through the model; bounds its number of texts."""


def audit(
    classifier: Classifier,
    split: Split,
    *,
    examples: int = 500,
    methods: Sequence[str] = AUDITED,
    others: Sequence[Classifier] = (),
    seed: int = 0,
    slow_tokens: int = TOKENS_FOR_SLOW_METHODS,
    report: Report | None = None,
) -> dict[str, Any]:
    """`measure`, as JSON. `verdict` in it is one sentence on the words that `explain` shows."""
    settings = AuditSettings(examples, methods, seed, slow_tokens)
    return measure(classifier, split, settings, others, report).to_json()


def measure(
    classifier: Classifier,
    split: Split,
    settings: AuditSettings,
    others: Sequence[Classifier] = (),
    report: Report | None = None,
) -> AuditResult:
    """Measures the explanations of a model on some texts of a split, drawn at random.

    Probabilities are those of the network, as in the literature; calibration would make all differences larger or
    smaller, and no explanation better.

    Args:
        others: models trained alike with other seeds, whose attention is compared.

    Raises:
        ConfigError: there is no such method, or it does not apply to this model.
        InputError: the model has no model.safetensors; or a model in `others` does not fit.
    """
    methods = [find_method(name) for name in settings.methods]
    report = report or Report()
    classifier = classifier.uncalibrated()
    generator = np.random.default_rng(settings.seed)
    if len(split) > settings.examples:
        split = split.take(np.sort(generator.permutation(len(split))[: settings.examples]))
    texts = _Texts(classifier, split, settings)
    with report.progress(f"Auditing {RANDOM}", len(texts), "texts"):
        scores: dict[str, Scores] = {RANDOM: texts.random_scores()}
        chance = texts.erase(scores[RANDOM])
    results = {RANDOM: texts.result(scores[RANDOM], chance, chance)}
    for method in methods:
        if not texts.allow(method):
            continue
        with report.progress(f"Auditing {method.name}", len(texts), "texts") as advance:
            scores[method.name] = texts.scores(method, advance)
            erased = texts.erase(scores[method.name])
        results[method.name] = texts.result(scores[method.name], erased, chance)
    attention = None
    if "attention" in scores:
        with report.progress("Auditing the attention itself", len(texts), "texts"):
            attention = texts.attention(scores)
    return AuditResult(
        split=split.name,
        num_examples=len(texts),
        tokens_median=int(np.median(texts.tokens.lengths)),
        methods=results,
        evidence=None if split.evidence is None else texts.facts_of_evidence(),
        attention=attention,
        seeds=seed_agreement([classifier, *others], split) if others else None,
    )


class _Texts:
    """The texts of an audit and what the model answers to them."""

    def __init__(self, classifier: Classifier, split: Split, settings: AuditSettings) -> None:
        from textattn.model.attention import WeightedPooling

        self.classifier = classifier
        self.seed = settings.seed
        self.slow_tokens = settings.slow_tokens
        self.split = split
        self.evidence: list[NDArray[np.bool_] | None] = [None] * len(split)
        self.unread: list[float] = []
        self.tokens = classifier.tokenizer.encode(split) if split.evidence is None else self._read_evidence()
        self.forward = ForwardPass.run(classifier, self.tokens)
        self.probs = classifier.logits_to_probabilities(self.forward.logits)
        self.answers = self.probs.argmax(axis=1)
        self.has_weights = isinstance(classifier.torch_session.model.attention, WeightedPooling)
        self._parts: dict[int, ForwardPass] = {}

    def __len__(self) -> int:
        return len(self.forward)

    def allow(self, method: Method) -> bool:
        """Whether the model has the attention weights, or the exact parts of its answers, that the method needs."""
        if Need.ADDITIVE in method.needs and self.classifier.dividing_session is None:
            return False
        return self.has_weights or Need.ATTENTION_WEIGHTS not in method.needs

    def _read_evidence(self) -> TokenArrays:
        """Finds the marked tokens; returns the tokens of all texts."""
        assert self.split.evidence is not None
        texts = list(self.split)
        tokenized = self.classifier.tokenizer.encode_with_offsets(texts)
        for number, (text, row) in enumerate(zip(texts, tokenized, strict=True)):
            spans = self.split.evidence[number]
            if spans is None:
                continue
            self.evidence[number] = marked_tokens(spans, row.offsets)
            read = [marked_tokens(spans[i : i + 1], row.offsets).any() for i in range(len(spans))]
            self.unread.append(1 - float(np.mean(read)) if text else 0.0)
        return pack([np.array(row.input_ids, np.int32) for row in tokenized])

    def forward_for(self, method: Method) -> ForwardPass:
        """The first texts, as many as the method has time for. Methods with as many share what they run."""
        cost = method.cost(self.tokens.lengths)
        if cost is None:
            return self.forward
        count = max(int((np.cumsum(cost) <= self.slow_tokens).sum()), 1)
        return self._parts.setdefault(count, self.forward.first(count))

    def random_scores(self) -> Scores:
        """A ranking by chance."""
        generator = np.random.default_rng([self.seed, 1])
        return [generator.random(length) for length in self.tokens.lengths]

    def scores(self, method: Method, advance: Callable[[int], None] | None = None) -> Scores:
        """(tokens,) scores for the answer to each text that the method has time for."""
        method.check_model(self.classifier)
        forward = self.forward_for(method)
        targets = Targets(self.answers[: len(forward)], None, self.classifier.config.output)
        return method.attribute(forward, targets, seed=self.seed, on_row=advance).scores

    def erase(self, scores: Scores) -> Erased:
        """Erases the tokens with the highest scores."""
        generator = np.random.default_rng([self.seed, 2])
        orders = [order_by(row, generator) for row in scores]
        return erase_in_order(self.classifier, self.forward.ids[: len(scores)], orders, self.probs[: len(scores)])

    def result(self, scores: Scores, erased: Erased, chance: Erased) -> MethodResult:
        """The figures of a method; `chance` is what the erasure of random tokens did."""
        count = len(scores)
        return MethodResult(
            num_examples=count,
            comprehensiveness={v: bootstrap(erased.comprehensiveness[v], self.seed) for v in VARIANTS},
            comprehensiveness_over_random=bootstrap(
                erased.comprehensiveness["deletion"] - chance.comprehensiveness["deletion"][:count], self.seed
            ),
            sufficiency={v: bootstrap(erased.sufficiency[v], self.seed) for v in VARIANTS},
            top_token_flips=float(erased.top_token_flips.mean()),
            erased_until_flip=float(erased.erased_until_flip.mean()),
            evidence=self._agreement_with_evidence(scores),
        )

    def _agreement_with_evidence(self, scores: Scores) -> EvidenceAgreement | None:
        """ERASER's plausibility: in each text as many tokens are chosen as have evidence on average."""
        rows = [row for row in range(len(scores)) if self.evidence[row] is not None]
        if not rows:
            return None
        known = [mask for mask in self.evidence if mask is not None]
        share = float(np.mean([mask.mean() for mask in known]))
        generator = np.random.default_rng([self.seed, 3])
        areas, token_f1s, precisions, recalls = [], [], [], []
        for row in rows:
            mask = self.evidence[row]
            assert mask is not None
            chosen = np.zeros(len(mask), np.bool_)
            chosen[order_by(scores[row], generator)[: num_erased(share, len(mask))]] = True
            areas.append(auprc(scores[row], mask))
            token_f1s.append(token_f1(chosen, mask))
            precision, recall = iou_precision_recall(chosen, mask)
            precisions.append(precision)
            recalls.append(recall)
        return EvidenceAgreement(
            auprc=bootstrap(areas, self.seed),
            token_f1=bootstrap(token_f1s, self.seed),
            iou_f1=f1(float(np.mean(precisions)), float(np.mean(recalls))),
        )

    def facts_of_evidence(self) -> EvidenceFacts:
        """What people marked."""
        known = [mask for mask in self.evidence if mask is not None]
        return EvidenceFacts(
            num_examples=len(known),
            share_of_tokens=float(np.mean([mask.mean() for mask in known])) if known else None,
            share_not_read=float(np.mean(self.unread)) if self.unread else None,
        )

    def attention(self, scores: dict[str, Scores]) -> AttentionResult | None:
        """What holds for attention alone; None where the model has no weights of its own.

        Args:
            scores: by method; gradients are computed where they are not among them.
        """
        if not self.has_weights:
            return None
        from textattn.explain.attention_checks import check_attention

        distance = self.classifier.task.distance

        def tau(first: Scores, second: Scores) -> Interval | None:
            return bootstrap([kendall_tau(a, b) for a, b in zip(first, second, strict=False)], self.seed)

        weights = scores["attention"]
        gradients = scores.get("gradient_x_input") or self.scores(find_method("gradient_x_input"))
        steepness = [np.abs(gradient) for gradient in gradients]
        without = self.forward_for(find_method("occlusion")).without_each_word()
        changes = [
            distance(self.classifier.logits_to_probabilities(logits), probs)
            for logits, probs in zip(without, self.probs, strict=False)
        ]
        checks = check_attention(self.classifier, self.tokens, self.probs, self.seed)
        uniform_answers = checks.uniform.argmax(axis=1)
        labels = self.split.labels
        return AttentionResult(
            tau_gradient=tau(weights, steepness),
            tau_leave_one_out=tau(weights, changes),
            tau_gradient_leave_one_out=tau(steepness, changes),
            conicity=bootstrap(checks.conicity, self.seed),
            permuted_total_variation=bootstrap(checks.permuted, self.seed),
            uniform_total_variation=bootstrap(distance(checks.uniform, self.probs), self.seed),
            uniform_decisions_changed=float((uniform_answers != self.answers).mean()),
            top_weight_flips=float(checks.top_weight_flips.mean()),
            random_weight_flips=float(checks.random_weight_flips.mean()),
            weights_erased_until_flip=float(checks.erased_until_flip.mean()),
            random_weights_erased_until_flip=float(checks.random_erased_until_flip.mean()),
            accuracy=float((self.answers == labels).mean()) if labels.ndim == 1 else None,
            uniform_accuracy=float((uniform_answers == labels).mean()) if labels.ndim == 1 else None,
        )


def parse_methods(text: str) -> tuple[str, ...]:
    """The names in `--methods a,b`; `all` stands for the methods for every model.

    Raises:
        ConfigError: there is no such method.
    """
    if text == "all":
        return method_names()
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ConfigError("none given", Option("methods", ",".join(AUDITED)), setting=Option("methods"))
    for name in names:
        find_method(name)
    return names
