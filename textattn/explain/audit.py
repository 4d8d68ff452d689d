"""How far the highlights of one model can be trusted: every method measured on the same texts, with chance beside it.

Erasure is the primary evidence (DeYoung et al. 2020; Serrano & Smith 2019); rank correlations with other methods
(Jain & Wallace 2019) say what attention resembles, not whether it is right (Neely et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textattn.data.evidence import marked_tokens
from textattn.errors import ConfigError
from textattn.explain.agreement import agreement
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
    total_variation,
)
from textattn.explain.erasure import falls, leave_one_out, logits_of, pack, rows_of
from textattn.explain.erasure_curves import VARIANTS, Erased, erase_in_order
from textattn.explain.gradients import FIRST_STEPS
from textattn.explain.methods import METHODS, attribute, check_method
from textattn.explain.surrogates import num_samples
from textattn.explain.targets import Targets
from textattn.explain.verdict import verdict
from textattn.inference.classifier import Classifier
from textattn.inference.session import Floats
from textattn.report import Report
from textattn.tokens.token_arrays import TokenArrays

if TYPE_CHECKING:
    from textattn.data.read import Split

RANDOM = "random"
AUDITED = ("attention", "attention_x_gradient", "gradient_x_input", "integrated_gradients", "occlusion")
# Tokens that a method which runs a text many times may read; it then has as many of the texts as that is enough for.
TOKENS_FOR_SLOW_METHODS = 2_000_000
# Going through a token forth and back in PyTorch takes about so many times as long as forth with ONNX Runtime.
BACKWARD_COST = 6

Scores = list[NDArray[np.float64]]


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
    """Measures the explanations of a model on some texts of a split, drawn at random.

    Probabilities are those of the network, as in the literature; calibration would make all differences larger or
    smaller, and no explanation better.

    Args:
        examples: most texts.
        methods: those to measure, besides a random ranking.
        others: models trained alike with other seeds: does their attention agree?
        slow_tokens: tokens that each method which runs a text many times may read; bounds its number of texts.

    Returns:
        For JSON. `methods`: for each its comprehensiveness and sufficiency, the share of answers that change without
        its top token, the mean share erased until the answer changes, and where the data have evidence the agreement
        with it. `attention`: what holds for attention alone. `verdict`: one sentence.

    Raises:
        ConfigError: there is no such method.
        InputError: the model has no model.safetensors; or a run in `others` does not fit.
    """
    for method in methods:
        check_method(method)
    report = report or Report()
    classifier = classifier.uncalibrated()
    generator = np.random.default_rng(seed)
    if len(split) > examples:
        split = split.take(np.sort(generator.permutation(len(split))[:examples]))
    texts = _Texts(classifier, split, seed, slow_tokens)
    measured: dict[str, Any] = {}
    scores: dict[str, Scores] = {}
    erased: dict[str, Erased] = {}
    for method in [RANDOM, *methods]:
        if method == "attention_x_gradient" and not texts.has_weights:
            continue
        with report.progress(f"Auditing {method}", len(texts), "texts") as advance:
            rows = texts.rows_for(method)
            scores[method] = texts.scores(method, rows, advance)
            erased[method] = texts.erase(scores[method])
        over = erased[method].comprehensiveness["deletion"] - erased[RANDOM].comprehensiveness["deletion"][: len(rows)]
        measured[method] = _as_json(erased[method], over, seed)
        if (found := texts.agreement_with_evidence(scores[method])) is not None:
            measured[method]["evidence"] = found
    result: dict[str, Any] = {
        "split": split.name,
        "num_examples": len(texts),
        "tokens_median": int(np.median(texts.tokens.lengths)),
        "methods": measured,
    }
    if split.evidence is not None:
        result["evidence"] = texts.facts_of_evidence()
    if "attention" in scores:
        with report.progress("Auditing the attention itself", len(texts), "texts"):
            result["attention"] = texts.attention(scores["attention"])
    if others:
        result["seeds"] = agreement([classifier, *others], split)
    result["verdict"] = verdict(result)
    return result


class _Texts:
    """The texts of an audit and what the model answers to them."""

    def __init__(self, classifier: Classifier, split: Split, seed: int, slow_tokens: int) -> None:
        from textattn.model.attention import WeightedPooling

        self.classifier = classifier
        self.seed = seed
        self.slow_tokens = slow_tokens
        self.split = split
        self.tokens = classifier.tokenizer.encode(split)
        self.ids = rows_of(self.tokens)
        self.logits = logits_of(classifier, self.ids)
        self.probs = classifier.logits_to_probabilities(self.logits)
        self.answers = self.probs.argmax(axis=1)
        self.has_weights = isinstance(classifier.torch_session.model.attention, WeightedPooling)
        self.evidence: list[NDArray[np.bool_] | None] = [None] * len(split)
        self.unread: list[float] = []
        self._without: list[Floats] | None = None
        if split.evidence is not None:
            self._read_evidence(split)

    def __len__(self) -> int:
        return len(self.ids)

    def _read_evidence(self, split: Split) -> None:
        assert split.evidence is not None
        texts = list(split)
        for number, (text, tokenized) in enumerate(
            zip(texts, self.classifier.tokenizer.encode_with_offsets(texts), strict=True)
        ):
            spans = split.evidence[number]
            if spans is None:
                continue
            self.evidence[number] = marked_tokens(spans, tokenized.offsets)
            read = [marked_tokens(spans[i : i + 1], tokenized.offsets).any() for i in range(len(spans))]
            self.unread.append(1 - float(np.mean(read)) if text else 0.0)

    def rows_for(self, method: str) -> NDArray[np.int64]:
        """The first texts, as many as the method has time for."""
        lengths = self.tokens.lengths
        if method == "occlusion":
            cost = lengths**2
        elif method == "integrated_gradients":
            cost = BACKWARD_COST * 2 * FIRST_STEPS * lengths
        elif method in ("lime", "kernel_shap"):
            cost = np.array([num_samples(int(length)) * int(length) for length in lengths])
        else:
            return np.arange(len(self))
        return np.arange(max(int((np.cumsum(cost) <= self.slow_tokens).sum()), 1))

    def scores(self, method: str, rows: NDArray[np.int64], advance: Any) -> Scores:
        if method == RANDOM:
            generator = np.random.default_rng([self.seed, 1])
            return [generator.random(len(self.ids[row])) for row in rows]
        if method == "occlusion":
            return falls(self.logits[rows], self.without_each_token(advance), self._targets(rows))
        return attribute(
            self.classifier, self._tokens(rows), self._targets(rows), method, seed=self.seed, on_row=advance
        ).scores

    def without_each_token(self, advance: Any = None) -> list[Floats]:
        """Logits (tokens, num_outputs) of the texts that there is time for; they are run once."""
        if self._without is None:
            rows = self.rows_for("occlusion")
            each = [np.arange(len(self.ids[row])) for row in rows]
            self._without = leave_one_out(self.classifier, self._tokens(rows), each, advance)
        return self._without

    def _tokens(self, rows: NDArray[np.int64]) -> TokenArrays:
        return pack([self.ids[row] for row in rows])

    def _targets(self, rows: NDArray[np.int64]) -> Targets:
        return Targets(self.answers[rows], None, self.classifier.config.output)

    def erase(self, scores: Scores) -> Erased:
        generator = np.random.default_rng([self.seed, 2])
        orders = [order_by(row, generator) for row in scores]
        return erase_in_order(self.classifier, self.ids[: len(scores)], orders, self.probs[: len(scores)])

    def agreement_with_evidence(self, scores: Scores) -> dict[str, Any] | None:
        """ERASER's plausibility: of each text as many tokens are chosen as have evidence on average."""
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
        return {
            "auprc": _interval(areas, self.seed),
            "token_f1": _interval(token_f1s, self.seed),
            "iou_f1": f1(float(np.mean(precisions)), float(np.mean(recalls))),
        }

    def facts_of_evidence(self) -> dict[str, Any]:
        known = [mask for mask in self.evidence if mask is not None]
        return {
            "num_examples": len(known),
            "share_of_tokens": float(np.mean([mask.mean() for mask in known])) if known else None,
            "share_not_read": float(np.mean(self.unread)) if self.unread else None,
        }

    def attention(self, weights: Scores) -> dict[str, Any] | None:
        """What holds for attention alone; None where the model has no weights of its own."""
        if not self.has_weights:
            return None
        from textattn.explain.attention_checks import check_attention

        rows = np.arange(len(self))
        gradients = attribute(self.classifier, self.tokens, self._targets(rows), "gradient_x_input").scores
        multi_label = self.classifier.config.multi_label
        changes = [
            total_variation(self.classifier.logits_to_probabilities(logits), probs, multi_label=multi_label)
            for logits, probs in zip(self.without_each_token(), self.probs, strict=False)
        ]
        checks = check_attention(self.classifier, self.tokens, self.probs, self.seed)
        distance = total_variation(checks.uniform, self.probs, multi_label=multi_label)
        pairs = zip(weights, gradients, strict=True)
        facts: dict[str, Any] = {
            "tau_gradient": _interval([kendall_tau(a, np.abs(g)) for a, g in pairs], self.seed),
            "tau_leave_one_out": _interval(
                [kendall_tau(a, change) for a, change in zip(weights, changes, strict=False)], self.seed
            ),
            "tau_gradient_leave_one_out": _interval(
                [kendall_tau(np.abs(g), change) for g, change in zip(gradients, changes, strict=False)], self.seed
            ),
            "conicity": _interval(checks.conicity, self.seed),
            "permuted_total_variation": _interval(checks.permuted, self.seed),
            "uniform_total_variation": _interval(distance, self.seed),
            "uniform_decisions_changed": float((checks.uniform.argmax(axis=1) != self.answers).mean()),
            "top_weight_flips": float(checks.top_weight_flips.mean()),
            "random_weight_flips": float(checks.random_weight_flips.mean()),
            "weights_erased_until_flip": float(checks.erased_until_flip.mean()),
            "random_weights_erased_until_flip": float(checks.random_erased_until_flip.mean()),
        }
        labels = self.split.labels
        if labels.ndim == 1:
            facts["accuracy"] = float((self.answers == labels).mean())
            facts["uniform_accuracy"] = float((checks.uniform.argmax(axis=1) == labels).mean())
        return facts


def _as_json(erased: Erased, over_random: NDArray[np.float64], seed: int) -> dict[str, Any]:
    return {
        "num_examples": len(over_random),
        "comprehensiveness": {v: _interval(erased.comprehensiveness[v], seed) for v in VARIANTS},
        "comprehensiveness_over_random": _interval(over_random, seed),
        "sufficiency": {v: _interval(erased.sufficiency[v], seed) for v in VARIANTS},
        "top_token_flips": float(erased.top_token_flips.mean()),
        "erased_until_flip": float(erased.erased_until_flip.mean()),
    }


def _interval(values: Any, seed: int) -> dict[str, Any] | None:
    found: Interval | None = bootstrap(values, seed)
    return None if found is None else found._asdict()


def parse_methods(text: str) -> tuple[str, ...]:
    """`--methods a,b` or `all`.

    Raises:
        ConfigError: there is no such method.
    """
    if text == "all":
        return tuple(METHODS)
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ConfigError("--methods: none given", f"--methods {','.join(AUDITED)}")
    for name in names:
        check_method(name)
    return names
