"""How far the highlights of one model can be trusted: every method measured on the same texts, with chance beside it.

Erasure is the primary evidence (DeYoung et al. 2020; Serrano & Smith 2019); rank correlations with other methods
(Jain & Wallace 2019) say what attention resembles, not whether it is right (Neely et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from textattn.errors import ConfigError, Option
from textattn.explain.audit_measures import Interval
from textattn.explain.audit_results import AuditResult, NoiseFacts, Signs
from textattn.explain.audited_texts import AuditedTexts, Scores
from textattn.explain.erasure_curves import Erased
from textattn.explain.methods import audited_names, default_method, find_method, method_names
from textattn.explain.seed_agreement import seed_agreement
from textattn.inference.classifier import Classifier
from textattn.report import Report

if TYPE_CHECKING:
    from textattn.data.read import Split

RANDOM = "random"
AUDITED = audited_names()
# Tokens that a slow method may run through the model; it scores as many of the texts as that is enough for.
TOKENS_FOR_SLOW_METHODS = 2_000_000


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
    thorough: bool = True
    """Whether to measure what takes long as well: how much better than each method the best order is that a search
    finds, and what noise does. The audit after a training does not."""


def audit(  # noqa: PLR0913 (each field of AuditSettings is a keyword)
    classifier: Classifier,
    split: Split,
    *,
    examples: int = 500,
    methods: Sequence[str] = AUDITED,
    others: Sequence[Classifier] = (),
    seed: int = 0,
    slow_tokens: int = TOKENS_FOR_SLOW_METHODS,
    thorough: bool = True,
    report: Report | None = None,
) -> dict[str, Any]:
    """`measure`, as JSON. `verdict` in it is one sentence on the words that `explain` shows."""
    settings = AuditSettings(examples, methods, seed, slow_tokens, thorough)
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
        others: models trained alike with other seeds, whose explanations are compared.

    Raises:
        ConfigError: there is no such method, or it does not apply to this model.
        InputError: the model has no model.safetensors; or a model in `others` does not fit.
    """
    methods = [find_method(name) for name in settings.methods]
    report = report or Report()
    classifier = classifier.uncalibrated()
    generator = np.random.default_rng(settings.seed)
    more = None
    if len(split) > settings.examples:
        drawn = generator.permutation(len(split))
        more = split.take(drawn[settings.examples :])
        split = split.take(np.sort(drawn[: settings.examples]))
    texts = AuditedTexts(classifier, split, settings.seed, settings.slow_tokens, more)
    fitting = [method for method in methods if texts.allow(method)]
    if methods and not fitting:
        raise ConfigError(
            f"{', '.join(method.name for method in methods)}: not for this model ({classifier.config.summary()})",
            Option("methods", default_method(classifier)),
            setting=Option("methods"),
        )
    methods = fitting
    with report.progress(f"Auditing {RANDOM}", len(texts), "texts"):
        scores: dict[str, Scores] = {RANDOM: texts.random_scores()}
        erased: dict[str, Erased] = {RANDOM: texts.erase(scores[RANDOM])}
    for method in methods:
        with report.progress(f"Auditing {method.name}", len(texts), "texts") as advance:
            scores[method.name] = texts.scores(method, advance)
            erased[method.name] = texts.erase(scores[method.name])
    signs: dict[str, Signs] = {}
    if any(method.signed for method in methods):
        with report.progress("Auditing the signs", len(texts), "texts"):
            signs = {method.name: texts.signs(scores[method.name]) for method in methods if method.signed}
            signs[RANDOM] = texts.signs_of_chance()
    shares: dict[str, Interval | None] = {}
    noise: NoiseFacts | None = None
    overlaps: dict[str, Interval | None] = {}
    if settings.thorough:
        with report.progress("Searching for the best order", texts.num_searched, "texts") as advance:
            shares = texts.shares_of_best(scores, advance)
        if classifier.config.has_network:
            with report.progress("Adding noise to the embeddings", len(texts), "texts"):
                noise, overlaps = texts.noise()
    results = {
        name: texts.result(
            scores[name],
            erased[name],
            erased[RANDOM],
            signs=signs.get(name),
            share_of_best=shares.get(name),
            noise_overlap=overlaps.get(name),
        )
        for name in scores
    }
    attention = None
    if "attention" in scores:
        with report.progress("Auditing the attention itself", len(texts), "texts"):
            attention = texts.attention(scores)
    return AuditResult(
        split=split.name,
        num_examples=len(texts),
        num_known=len(texts.support),
        tokens_median=int(np.median(texts.tokens.lengths)),
        methods=results,
        evidence=None if split.evidence is None else texts.facts_of_evidence(),
        attention=attention,
        seeds=seed_agreement([classifier, *others], split) if others else None,
        noise=noise,
        of_numbers=split.is_numeric,
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
