"""Erased texts compared with whole ones, and explanations with and without noise: against loops, scipy and theory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from explain_models import TEXTS, build, model_of, same, split_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import false_discovery_control
from test_faithfulness import share_of

import textattn as package
from textattn.api import Model
from textattn.explain.audit import audit
from textattn.explain.audited_texts import AuditedTexts
from textattn.explain.erasure import rows_of
from textattn.explain.forward_pass import ForwardPass
from textattn.explain.noise import DRAWS, RELATIVE_SIZE, run_with_noise
from textattn.explain.support import Support, simes
from textattn.inference.evaluation import load_split

many = settings(max_examples=100, deadline=None)
# Few different values, so that features tie.
VECTORS = st.integers(1, 4).flatmap(
    lambda dim: st.lists(st.lists(st.integers(-3, 3), min_size=dim, max_size=dim), min_size=2, max_size=12)
)


# MaSF.


def by_bh(p_values: Sequence[float]) -> float:
    """Simes's p-value is the least of those adjusted by Benjamini and Hochberg."""
    return float(false_discovery_control(np.array(p_values), method="bh").min())


def statistic(known: Sequence[Sequence[float]], vector: Sequence[float]) -> float:
    """Two-sided in each feature, with the vector itself among the known ones; then Simes over the features."""
    p_values = []
    for feature, value in enumerate(vector):
        low = 1 + sum(other[feature] <= value for other in known)
        high = 1 + sum(other[feature] >= value for other in known)
        p_values.append(min(1.0, 2 * min(low, high) / (1 + len(known))))
    return by_bh(p_values)


def likeness(whole: Sequence[Sequence[float]], vector: Sequence[float], source: int) -> float:
    """The share of whole texts, the vector among them, that are at least as unlike the others."""
    others = [place for place in range(len(whole)) if place != source]
    found = statistic([whole[place] for place in others], vector)
    unlike = [
        statistic([whole[other] for other in range(len(whole)) if other != place], whole[place]) for place in others
    ]
    return (1 + sum(value <= found + 1e-12 for value in unlike)) / len(whole)


@many
@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=20))
def test_simes_is_the_least_adjusted_p_value(p_values: list[float]) -> None:
    same(simes(np.array(p_values)), by_bh(p_values), 1e-12)
    same(simes(np.array([p_values, p_values])), [by_bh(p_values)] * 2, 1e-12)


@many
@given(whole=VECTORS, data=st.data())
def test_p_values_are_those_of_loops(whole: list[list[int]], data: st.DataObject) -> None:
    support = Support(np.array(whole, np.float32))
    source = data.draw(st.integers(0, len(whole) - 1))
    vector = data.draw(st.lists(st.integers(-5, 5), min_size=len(whole[0]), max_size=len(whole[0])))
    found = support.p_values(np.array([vector, whole[source]], np.float32), np.array([source, source]))
    expected = [likeness(whole, vector, source), likeness(whole, whole[source], source)]
    same(found, expected, 1e-12)


def test_whole_texts_are_rejected_as_often_as_the_level_says() -> None:
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(20, 20))  # features that depend on each other
    whole, fresh = ((generator.normal(size=(400, 20)) @ mixing).astype(np.float32) for _ in range(2))
    support = Support(whole)
    of_fresh = support.p_values(fresh, np.arange(400))
    for level in (0.05, 0.2, 0.5):
        assert (of_fresh <= level).mean() == pytest.approx(level, abs=3.5 * np.sqrt(2 * level * (1 - level) / 400))
    # A shift of all features by a few deviations is seen, and one in a single feature as well.
    assert (support.p_values(whole + 4 * whole.std(axis=0), np.arange(400)) <= 0.05).mean() > 0.9
    whole[:, 3] += 20 * whole[:, 3].std()
    assert (support.p_values(whole, np.arange(400)) <= 0.05).all()


def test_of_a_single_text_nothing_is_unlike() -> None:
    assert Support(np.ones((1, 3), np.float32)).p_values(np.zeros((1, 3), np.float32), np.array([0])).tolist() == [1]


def test_the_share_of_outliers_is_that_of_the_erased_texts() -> None:
    """Of a few audited texts, compared with all texts of the split."""
    classifier = build()
    generator = np.random.default_rng(2)
    words = sorted({word for text in TEXTS for word in text.split()})
    # Long texts are alike, so that a text cut in half is not like them.
    texts = [" ".join(generator.choice(words, size)) for size in generator.integers(14, 20, 60)]
    result = audit(classifier, split_of(texts), examples=5, methods=("attention",), seed=1)
    assert result["num_known"] == 60
    chosen = np.sort(np.random.default_rng(1).permutation(60)[:5]).tolist()
    whole = classifier.embed(texts).tolist()
    tokens = rows_of(classifier.tokenizer.encode(texts))
    weights = ForwardPass.run(classifier, classifier.tokenizer.encode(texts)).attention_weights
    shares: dict[str, list[float]] = {"deletion": [], "mask": []}
    for row in chosen:
        order, ids = np.argsort(-weights[row]), tokens[row]
        rejected: dict[str, list[bool]] = {"deletion": [], "mask": []}
        for fraction in ("0.01", "0.05", "0.1", "0.2", "0.5"):
            gone = order[: share_of(fraction, len(ids))]
            masked = ids.copy()
            masked[gone] = classifier.tokenizer.unk_id
            for variant, left in (("deletion", np.delete(ids, gone)), ("mask", masked)):
                output = classifier.session.run(left[None].astype(np.int64), np.ones((1, len(left)), np.int64))
                rejected[variant].append(likeness(whole, output.context[0].tolist(), row) <= 0.05)
        for variant, flags in rejected.items():
            shares[variant].append(float(np.mean(flags)))
    assert 0 < np.mean(shares["deletion"]) < 1
    for variant, values in shares.items():
        same(result["methods"]["attention"]["outliers"][variant]["mean"], np.mean(values), 1e-12)


def test_texts_to_compare_with_are_bounded() -> None:
    texts = [f"{text} {other}" for text in TEXTS for other in TEXTS]
    lengths = build().tokenizer.encode(texts).lengths
    drawn = np.random.default_rng(0).permutation(len(texts))
    budget = int(lengths[drawn[4:14]].sum())
    found = audit(build(), split_of(texts), examples=4, methods=(), slow_tokens=8 * budget, thorough=False)
    assert found["num_known"] == 14


# Noise.


def directions_of(classifier: Model, texts: Sequence[str]) -> NDArray[np.float64]:
    answers = classifier.predict_proba(texts).argmax(axis=1)
    directions = -np.ones((len(texts), 3)) / 2
    directions[np.arange(len(texts)), answers] = 1
    return directions


def test_noise_has_the_size_that_is_said() -> None:
    """Without an encoder, and with equal weights, logits are linear in the embeddings: their spread is known."""
    classifier = build("mean", "none")
    generator = np.random.default_rng(3)
    words = sorted({word for text in TEXTS for word in text.split()})
    texts = [" ".join(generator.choice(words, size)) for size in generator.integers(1, 30, 300)]
    tokens = classifier.tokenizer.encode(texts)
    noisy = run_with_noise(classifier, tokens, directions_of(classifier, texts), seed=0)
    clean, *moved = (np.log(probs) for probs in noisy.probs)
    model = model_of(classifier)
    embeddings = model.embedding.weight.detach().double().numpy()
    matrix = model.classifier.weight.detach().double().numpy()
    scaled = []
    for row, ids in enumerate(rows_of(tokens)):
        size = RELATIVE_SIZE * np.sqrt((embeddings[ids] ** 2).mean())
        # Of a difference of two logits: the mean of the noise of all tokens, times the difference of two rows.
        deviation = size / np.sqrt(len(ids)) * np.linalg.norm(matrix[0] - matrix[1])
        for probs in moved:
            change = (probs[row, 0] - probs[row, 1]) - (clean[row, 0] - clean[row, 1])
            scaled.append(change / deviation)
    assert len(scaled) == 300 * DRAWS
    assert np.std(scaled) == pytest.approx(1, abs=3.5 / np.sqrt(2 * len(scaled)))
    assert abs(np.mean(scaled)) < 3.5 / np.sqrt(len(scaled))


def test_without_noise_the_scores_are_those_of_explain_and_noise_has_a_seed() -> None:
    classifier = build("multi_head", "lstm", "values")
    tokens, directions = classifier.tokenizer.encode(TEXTS), directions_of(classifier, TEXTS)
    noisy = run_with_noise(classifier, tokens, directions, 1)
    same(noisy.probs[0], classifier.predict_proba(TEXTS))
    for method, draws in noisy.scores.items():
        assert len(draws) == 1 + DRAWS
        for found, explanation in zip(draws[0], classifier.explain(TEXTS, method=method), strict=True):
            same(found, explanation.weights)
    again, other = (run_with_noise(classifier, tokens, directions, seed) for seed in (1, 2))
    for first, second, third in zip(noisy.probs[1:], again.probs[1:], other.probs[1:], strict=True):
        assert (first == second).all()
        assert (first != third).any()
    assert (noisy.probs[1] != noisy.probs[2]).any()
    # The noise of a text does not depend on the texts beside it.
    few = run_with_noise(classifier, classifier.tokenizer.encode(TEXTS[:2]), directions[:2], 1)
    same(few.probs[1], noisy.probs[1][:2])


@pytest.mark.parametrize(
    ("attention", "expected"),
    [("mlp", {"attention"}), ("max", {"contributions"}), ("additive", {"attention", "contributions"})],
)
def test_noise_is_measured_where_there_is_something_to_measure(attention: str, expected: set[str]) -> None:
    methods = audit(build(attention), split_of(TEXTS))["methods"]
    assert {name for name, result in methods.items() if "noise_overlap" in result} == expected


def test_the_figures_of_noise() -> None:
    classifier = build()
    texts = AuditedTexts(classifier, split_of(TEXTS), seed=5, slow_tokens=10**6)
    facts, overlaps = texts.noise()
    noisy = run_with_noise(classifier, texts.tokens, directions_of(classifier, TEXTS), 5)
    distances = [np.abs(probs - noisy.probs[0]).sum(1).mean() / 2 for probs in noisy.probs[1:]]
    assert (facts.relative_size, facts.draws) == (0.1, 3)
    assert facts.total_variation is not None
    same(facts.total_variation.mean, np.mean(distances), 1e-9)
    assert facts.total_variation.mean > 0
    for method, (clean, *moved) in noisy.scores.items():
        shares = []
        for row, scores in enumerate(clean):
            count = share_of("0.1", len(scores))
            tops = [set(np.argsort(-other[row])[:count].tolist()) for other in moved]
            shares.append(np.mean([len(set(np.argsort(-scores)[:count].tolist()) & top) / count for top in tops]))
        found = overlaps[method]
        assert found is not None
        same(found.mean, np.mean(shares), 1e-9)
        assert found.num_texts == len(TEXTS)


def test_a_short_audit_leaves_out_what_takes_long(trained_run: object) -> None:
    classifier = package.load(str(trained_run))
    split = load_split(classifier, None, "test", {}).take(np.arange(6))
    brief = audit(classifier, split, methods=("contributions",), thorough=False)
    assert "noise" not in brief
    assert set(brief["methods"]["contributions"]) & {"noise_overlap", "share_of_best"} == set()
    whole = audit(classifier, split, methods=("contributions",))
    assert {key: whole[key] for key in ("num_known", "verdict")} == {
        key: brief[key] for key in ("num_known", "verdict")
    }
    for name, result in brief["methods"].items():
        assert {key: whole["methods"][name][key] for key in result} == result
