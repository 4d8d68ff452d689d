"""The figures of an audit, worked out again slowly from the answers to one text at a time; and audits of all models."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import TINY
from explain_models import MODELS, OUTPUTS, TEXTS, build, logits, model_of, odds, same, split_of
from numpy.typing import NDArray
from test_faithfulness import (
    aopc,
    area_under_precision_recall,
    mean_cosine_with_mean,
    partial_match,
    runs,
    share_of,
    tau_b,
)

import textattn as package
from textattn.data.read import Split
from textattn.explain import audit_measures as faithfulness
from textattn.explain.audit import AUDITED, audit
from textattn.explain.audited_texts import AuditedTexts
from textattn.explain.methods import method_names
from textattn.explain.surrogates import num_samples
from textattn.explain.verdict import shown_method
from textattn.inference.classifier import Classifier
from textattn.inference.evaluation import load_split

BINS = ("0.01", "0.05", "0.1", "0.2", "0.5")
STEPS = (*BINS, "0.75", "1")
NUMBER = 10
SCORED = ("attention", "occlusion", "gradient_x_input")


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(x - x.max())
    return e / e.sum()  # type: ignore[no-any-return]


class Facts(NamedTuple):
    """What the test finds out about one text."""

    scores: dict[str, list[float]]
    comprehensiveness: dict[str, dict[str, float]]
    sufficiency: dict[str, dict[str, float]]
    top_token_flips: dict[str, bool]
    until_flip: dict[str, float]
    evidence: list[bool]
    attention: dict[str, float]


class Slow:
    """A text through the model, with whatever erased: one run each."""

    def __init__(self, classifier: Classifier, ids: list[int]) -> None:
        self.classifier = classifier
        self.ids = ids
        self.whole = self.probs(ids)
        self.answer = int(self.whole.argmax())

    def probs(self, ids: list[int]) -> NDArray[np.float64]:
        return softmax(np.array(logits(self.classifier, ids)))

    def keep(self, places: set[int], variant: str) -> NDArray[np.float64]:
        """What the model says when only these places are left."""
        unk_id = self.classifier.tokenizer.unk_id
        if variant == "mask":
            return self.probs([token if place in places else unk_id for place, token in enumerate(self.ids)])
        return self.probs([token for place, token in enumerate(self.ids) if place in places] or [unk_id])

    def without(self, places: set[int], variant: str = "deletion") -> NDArray[np.float64]:
        return self.keep(set(range(len(self.ids))) - places, variant)

    def scores(self) -> dict[str, list[float]]:
        ids = np.array([self.ids], np.int64)
        weights = self.classifier.session.run(ids, np.ones_like(ids)).attention_weights[0]
        whole = odds(self.classifier.config, logits(self.classifier, self.ids), self.answer)
        config, unk_id = self.classifier.config, self.classifier.tokenizer.unk_id
        without = [logits(self.classifier, self.ids[:i] + self.ids[i + 1 :] or [unk_id]) for i in range(len(self.ids))]
        whole = odds(config, logits(self.classifier, self.ids), self.answer)
        falls = [whole - odds(config, x, self.answer) for x in without]
        model = model_of(self.classifier)
        embeddings = model.embedding(torch.from_numpy(ids)).detach().requires_grad_()
        x = model.forward_from_embeddings(embeddings, torch.ones(1, len(self.ids))).logits[0]
        (gradient,) = torch.autograd.grad(odds(config, list(x), self.answer), embeddings)
        return {
            "attention": weights.tolist(),
            "occlusion": falls,
            "gradient_x_input": (gradient * embeddings).sum(-1)[0].tolist(),
        }

    def attention(self, scores: dict[str, list[float]]) -> dict[str, float]:
        """Jain & Wallace's correlations, Serrano & Smith's erasure of weights, conicity, equal weights."""
        weights, gradient = np.array(scores["attention"]), np.abs(scores["gradient_x_input"])
        count = len(self.ids)
        loo = [float(np.abs(self.without({place}) - self.whole).sum() / 2) for place in range(count)]
        model = model_of(self.classifier)
        with torch.no_grad():
            output = model(torch.tensor([self.ids]), torch.ones(1, count))
        states = output.hidden_states[0].double().numpy()
        matrix, bias = (p.detach().double().numpy() for p in (model.classifier.weight, model.classifier.bias))

        def answer(new: NDArray[np.float64]) -> NDArray[np.float64]:
            return softmax(matrix @ (new @ states) + bias)

        assert output.head_weights is not None
        own = output.head_weights[0, 0].double().numpy()  # of sigmoid no shares
        shared = model.architecture.attention != "sigmoid"
        same(answer(own), self.whole)
        order = np.argsort(-weights)
        until = 1.0
        for erased in range(1, count):
            left = own.copy()
            left[order[:erased]] = 0
            if answer(left / left.sum() if shared else left).argmax() != self.answer:
                until = erased / count
                break
        uniform = answer(np.full(count, own.sum() / count))
        generator = np.random.default_rng(8)
        permuted = [answer(own[generator.permutation(count)]) for _ in range(50)]
        return {
            "permuted": float(np.median(np.abs(np.array(permuted) - self.whole).sum(1) / 2)),
            "tau_gradient": tau_b(weights.tolist(), gradient.tolist()),
            "tau_leave_one_out": tau_b(weights.tolist(), loo),
            "tau_gradient_leave_one_out": tau_b(gradient.tolist(), loo),
            "conicity": mean_cosine_with_mean(states.tolist()),
            "uniform_total_variation": float(np.abs(uniform - self.whole).sum() / 2),
            "uniform_decisions_changed": float(uniform.argmax() != self.answer),
            "top_weight_flips": float(until == 1 / count and count > 1),
            "weights_erased_until_flip": until,
            "uniform_answer": float(uniform.argmax()),
        }

    def facts(self, evidence: list[bool], methods: Sequence[str] = SCORED) -> Facts | None:
        """None where two tokens have the same score, and with it either order."""
        scores = self.scores()
        if any(len(set(scores[method])) < len(self.ids) for method in methods):
            return None
        comp: dict[str, dict[str, float]] = {method: {} for method in scores}
        suff: dict[str, dict[str, float]] = {method: {} for method in scores}
        top, until = {}, {}
        count = len(self.ids)
        for method, row in scores.items():
            order = np.argsort(-np.array(row)).tolist()
            tops = [set(order[: share_of(fraction, count)]) for fraction in BINS]
            for variant in ("deletion", "mask"):
                p = float(self.whole[self.answer])
                comp[method][variant] = aopc(p, [float(self.without(t, variant)[self.answer]) for t in tops])
                suff[method][variant] = aopc(p, [float(self.keep(t, variant)[self.answer]) for t in tops])
            top[method] = bool(self.without({order[0]}).argmax() != self.answer)
            shares = [
                float(step)
                for step in STEPS
                if self.without(set(order[: share_of(step, count)])).argmax() != self.answer
            ]
            until[method] = min(shares, default=1.0)
        return Facts(scores, comp, suff, top, until, evidence, self.attention(scores))


@pytest.fixture(scope="module", params=["additive", "sigmoid"])
def classifier(
    request: pytest.FixtureRequest, trained_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Classifier:
    if request.param == "additive":
        return package.load(trained_run)
    folder = tmp_path_factory.mktemp("sigmoid") / "run"
    return package.load(package.train("quickstart", [*TINY, "model.attention=sigmoid", f"output.dir={folder}"]))


@pytest.fixture(scope="module")
def chosen(classifier: Classifier) -> tuple[Split, list[Facts]]:
    """Some texts of the bundled corpus, and what the test finds out about them."""
    whole = load_split(classifier, None, "test", {"evidence": "evidence"})
    assert whole.evidence is not None
    rows, found = [], []
    for number, text in enumerate(whole):
        spans = whole.evidence[number]
        (row,) = classifier.tokenizer.encode_with_offsets([text])
        assert spans is not None
        marked = {place for first, last in spans.tolist() for place in range(first, last)}
        facts = Slow(classifier, row.input_ids).facts([bool(marked & set(range(*offset))) for offset in row.offsets])
        if facts is not None:
            assert not row.truncated
            assert any(facts.evidence)
            rows.append(number)
            found.append(facts)
        if len(rows) == NUMBER:
            return whole.take(np.array(rows)), found
    pytest.fail("too many ties")


@pytest.fixture(scope="module")
def split(chosen: tuple[Split, list[Facts]]) -> Split:
    return chosen[0]


@pytest.fixture(scope="module")
def slow(chosen: tuple[Split, list[Facts]]) -> list[Facts]:
    return chosen[1]


@pytest.fixture(scope="module")
def audited(classifier: Classifier, split: Split) -> dict[str, Any]:
    return audit(classifier, split, methods=SCORED, seed=3)


def mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known)


def interval(found: dict[str, Any], values: Sequence[float]) -> None:
    known = [value for value in values if not math.isnan(value)]
    same(found["mean"], mean(known))
    assert found["num_texts"] == len(known)
    # As many texts as there are, drawn again and again: the quantiles of their means, known up to chance.
    drawn = np.random.default_rng(1).choice(known, (20_000, len(known))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    error = float(np.std(known) / math.sqrt(len(known)))
    assert found["low"] == pytest.approx(low, abs=0.35 * error + 1e-6)
    assert found["high"] == pytest.approx(high, abs=0.35 * error + 1e-6)


@pytest.mark.parametrize("method", SCORED)
def test_erasing_tokens(method: str, audited: dict[str, Any], slow: list[Facts]) -> None:
    measured = audited["methods"][method]
    assert measured["num_examples"] == audited["num_examples"] == NUMBER
    for variant in ("deletion", "mask"):
        interval(measured["comprehensiveness"][variant], [f.comprehensiveness[method][variant] for f in slow])
        interval(measured["sufficiency"][variant], [f.sufficiency[method][variant] for f in slow])
    same(measured["top_token_flips"], np.mean([f.top_token_flips[method] for f in slow]), 1e-12)
    same(measured["erased_until_flip"], np.mean([f.until_flip[method] for f in slow]), 1e-12)
    own, chance = (audited["methods"][name]["comprehensiveness"]["deletion"]["mean"] for name in (method, "random"))
    same(measured["comprehensiveness_over_random"]["mean"], own - chance, 1e-9)


def test_the_attention_itself(audited: dict[str, Any], slow: list[Facts], split: Split) -> None:
    facts = audited["attention"]
    for name in (
        "tau_gradient",
        "tau_leave_one_out",
        "tau_gradient_leave_one_out",
        "conicity",
        "uniform_total_variation",
    ):
        interval(facts[name], [f.attention[name] for f in slow])
    for name in ("uniform_decisions_changed", "top_weight_flips", "weights_erased_until_flip"):
        same(facts[name], np.mean([f.attention[name] for f in slow]))
    same(facts["uniform_accuracy"], np.mean([f.attention["uniform_answer"] for f in slow] == split.labels), 1e-12)
    assert 0 <= facts["accuracy"] <= 1


@pytest.mark.parametrize("method", SCORED)
def test_agreement_with_evidence(method: str, audited: dict[str, Any], slow: list[Facts]) -> None:
    share = mean([sum(f.evidence) / len(f.evidence) for f in slow])
    assert audited["evidence"] == {
        "num_examples": NUMBER,
        "share_of_tokens": pytest.approx(share),
        "share_not_read": 0,
    }
    areas, f1s, truth, predicted = [], [], [], []
    for f in slow:
        scores = f.scores[method]
        order = np.argsort(-np.array(scores)).tolist()
        chosen = set(order[: max(1, math.ceil(share * len(scores)))])
        marked = {place for place, flag in enumerate(f.evidence) if flag}
        areas.append(area_under_precision_recall(scores, f.evidence))
        f1s.append(2 * len(chosen & marked) / (len(chosen) + len(marked)))
        truth.append(runs(f.evidence))
        predicted.append(runs([place in chosen for place in range(len(scores))]))
    found = audited["methods"][method]["evidence"]
    interval(found["auprc"], areas)
    interval(found["token_f1"], f1s)
    same(found["iou_f1"], partial_match(truth, predicted, 0.5), 1e-9)


@pytest.mark.parametrize("method", ["occlusion", "gradient_x_input"])
def test_signs_against_leave_one_out(
    method: str, classifier: Classifier, audited: dict[str, Any], split: Split
) -> None:
    counts = {"supporting": [0, 0], "opposing": [0, 0]}
    of_all = {"supporting": [0, 0], "opposing": [0, 0]}
    texts = [Slow(classifier, row.input_ids) for row in classifier.tokenizer.encode_with_offsets(list(split))]
    for text in texts:
        scores = text.scores()[method]
        for place, score in enumerate(scores):
            fall = float(text.whole[text.answer] - text.without({place})[text.answer])
            for side, sign in (("supporting", 1), ("opposing", -1)):
                of_all[side][0] += 1
                of_all[side][1] += sign * fall > 0
                if sign * score >= 0.1 * max(map(abs, scores)):
                    counts[side][0] += 1
                    counts[side][1] += sign * fall > 0
    for name, expected in ((method, counts), ("random", of_all)):
        found = audited["methods"][name]["signs"]
        assert found["num_examples"] == NUMBER
        for side, (number, right) in expected.items():
            same(found[side]["mean"], right / number, 1e-12)
            assert 0 <= found[side]["low"] <= found[side]["mean"] <= found[side]["high"] <= 1
    assert "signs" not in audited["methods"]["attention"]
    if method == "occlusion":  # it is leave-one-out
        assert found is not None
        same(audited["methods"]["occlusion"]["signs"]["supporting"]["mean"], 1, 1e-12)
        same(audited["methods"]["occlusion"]["signs"]["opposing"]["mean"], 1, 1e-12)


class Searched(NamedTuple):
    """What the test finds out about the erasure curves of one text."""

    areas: list[float]
    """Of given orders."""
    greedy: float


def searched(text: Slow, orders: Sequence[Sequence[int]]) -> Searched:
    """The curve by trapezoids at tenths of the tokens; the best order by trying every token that is left."""
    length = len(text.ids)
    counts = sorted({share_of(f"0.{tenth}", length) for tenth in range(1, 10)} | {length})

    def area(order: Sequence[int]) -> float:
        points = [(0.0, float(text.whole[text.answer]))]
        points += [(n / length, float(text.without(set(order[:n]))[text.answer])) for n in counts]
        return sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in itertools.pairwise(points))

    gone: list[int] = []
    for count in counts:
        left = [place for place in range(length) if place not in gone]
        left.sort(key=lambda place: float(text.without({*gone, place})[text.answer]))
        gone += left[: count - len(gone)]
    return Searched([area(order) for order in orders], area(gone))


def test_the_share_of_the_best_order(classifier: Classifier, split: Split) -> None:
    """Against a search by the test, of one run at a time."""
    some = split.take(np.arange(4))
    texts = AuditedTexts(classifier.uncalibrated(), some, seed=0, slow_tokens=10**9)
    slow = [Slow(classifier, row.input_ids) for row in classifier.tokenizer.encode_with_offsets(list(some))]
    generator = np.random.default_rng(7)
    scores = {
        "random": [generator.random(len(text.ids)) for text in slow],
        "attention": [np.array(text.scores()["attention"]) for text in slow],
        "backwards": [-np.array(text.scores()["occlusion"]) for text in slow],
        # A method that has time for two of the texts only.
        "occlusion": [np.array(text.scores()["occlusion"]) for text in slow][:2],
    }
    seen = []
    found = texts.shares_of_best(scores, seen.append)
    assert seen == [1, 2, 3, 4]
    orders = [[np.argsort(-rows[i]).tolist() for rows in scores.values() if i < len(rows)] for i in range(4)]
    facts = [searched(text, order) for text, order in zip(slow, orders, strict=True)]
    best = [min(fact.greedy, *fact.areas) for fact in facts]
    for place, (name, rows) in enumerate(scores.items()):
        over = sum(fact.areas[0] - fact.areas[place] for fact in facts[: len(rows)])
        most = sum(fact.areas[0] - low for fact, low in zip(facts, best[: len(rows)], strict=False))
        interval = found[name]
        assert interval is not None
        same(interval.mean, over / most, 1e-4)
        assert interval.num_texts == len(rows)
        assert interval.high <= 1 + 1e-9
    chance, backwards = found["random"], found["backwards"]
    assert chance is not None
    assert backwards is not None
    assert chance.mean == 0
    assert backwards.mean < 0


def test_the_search_has_as_many_texts_as_there_is_time_for(classifier: Classifier, split: Split) -> None:
    lengths = classifier.tokenizer.encode(split).lengths.tolist()
    run: list[int] = []

    def counted(length: int) -> int:
        """Tokens of the texts that the search runs."""
        run.clear()
        left = length
        for count in np.diff(sorted({0, *(share_of(f"0.{t}", length) for t in range(1, 10)), length})).tolist():
            run.extend([left - 1] * left)
            left -= count
        return sum(run)

    budget = sum(counted(length) for length in lengths[:3])
    for tokens, expected in ((budget, 3), (budget - 1, 2), (1, 1)):
        result = audit(classifier, split, methods=("attention",), slow_tokens=tokens)
        assert result["methods"]["attention"]["share_of_best"]["num_texts"] == expected
    assert (
        "share_of_best" not in audit(classifier, split, methods=("attention",), thorough=False)["methods"]["attention"]
    )


@pytest.mark.slow
def test_five_labels_and_answers_that_stand_for_long() -> None:
    """Few answers have half of the probability, and texts need other shares erased until theirs is another."""
    methods = ("attention", "gradient_x_input")
    classifier = build(output=OUTPUTS[1], spread=0.4)
    words = sorted({word for text in TEXTS for word in text.split()})
    generator = np.random.default_rng(2)
    texts = [" ".join(generator.choice(words, size)) for size in range(2, 32)]
    rows = classifier.tokenizer.encode_with_offsets(texts)
    slow = [Slow(classifier, row.input_ids).facts([], methods) for row in rows]
    kept = [(text, facts) for text, facts in zip(texts, slow, strict=True) if facts is not None]
    assert len(kept) > 20
    result = audit(classifier, split_of([text for text, _ in kept]), methods=methods)
    for method in methods:
        measured = result["methods"][method]
        assert {f.until_flip[method] for _, f in kept} >= {0.1, 0.2, 0.5, 0.75, 1}
        same(measured["erased_until_flip"], np.mean([f.until_flip[method] for _, f in kept]), 1e-12)
        same(measured["top_token_flips"], np.mean([f.top_token_flips[method] for _, f in kept]), 1e-12)
        interval(measured["comprehensiveness"]["mask"], [f.comprehensiveness[method]["mask"] for _, f in kept])
    expected = np.mean([f.attention["permuted"] for _, f in kept])
    assert expected > 0.005
    assert result["attention"]["permuted_total_variation"]["mean"] == pytest.approx(expected, rel=0.1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals take most of the time of an audit of a few texts."""
    monkeypatch.setattr(faithfulness, "RESAMPLES", 20)


# Which texts.


@pytest.mark.usefixtures("quick")
def test_an_audit_is_the_same_twice_and_draws_its_texts_by_seed(classifier: Classifier) -> None:
    whole = load_split(classifier, None, "test", {})
    state = torch.get_rng_state()
    first, again, other = (audit(classifier, whole, examples=20, methods=("attention",), seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first == again != other
    assert first["num_examples"] == 20
    assert "evidence" not in first
    in_torch = audit(
        package.load(classifier.files.path, runtime="torch"), whole, examples=20, methods=("attention",), seed=1
    )
    for name, value in first["methods"]["attention"]["comprehensiveness"]["deletion"].items():
        same(in_torch["methods"]["attention"]["comprehensiveness"]["deletion"][name], value, 1e-4)


@pytest.mark.usefixtures("quick")
def test_slow_methods_have_as_many_texts_as_there_is_time_for(classifier: Classifier, split: Split) -> None:
    lengths = classifier.tokenizer.encode(split).lengths.tolist()
    time = sum(length**2 for length in lengths[:4]) + 1
    found = audit(classifier, split, methods=("attention", "occlusion", "lime"), slow_tokens=time)["methods"]
    runs_of_lime = np.cumsum([num_samples(length) * length for length in lengths])
    assert found["occlusion"]["num_examples"] == 4
    assert found["lime"]["num_examples"] == max(1, int((runs_of_lime <= time).sum()))
    assert found["attention"]["num_examples"] == NUMBER
    least = audit(classifier, split, methods=("occlusion",), slow_tokens=1)["methods"]
    assert least["occlusion"]["num_examples"] == 1


# Every model.


def in_json(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["verdict"].endswith((".", ")."))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("attention", "encoder", "anchor"), [*MODELS, ("max", "lstm", "none"), ("last", "gru", "none")]
)
def test_every_model_is_audited(attention: str, encoder: str, anchor: str) -> None:
    result = audit(build(attention, encoder, anchor), split_of(TEXTS))
    in_json(result)
    weighted = attention not in ("max", "last")
    assert (result["attention"] is not None) == weighted
    without = (set() if weighted else {"attention_x_gradient"}) | ({"contributions"} if attention == "mlp" else set())
    assert set(result["methods"]) == {"random", *AUDITED} - without
    assert shown_method(result) == ("attention" if attention == "mlp" else "contributions")
    if attention == "mean":
        assert result["attention"]["tau_gradient"] is None
        assert result["attention"]["uniform_decisions_changed"] == 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("output", OUTPUTS)
def test_every_kind_of_answer_is_audited(output: tuple[int, str, bool]) -> None:
    labels = np.eye(3, dtype=np.uint8)[[0, 1, 2, 0, 1, 2]] if output[2] else np.array([0, 1, 0, 1, 0, 1])
    spans = [np.array([[0, 3]]), None, np.array([[4, 8], [9, 11]]), None, np.array([[80, 83]]), None]
    methods = (*AUDITED, "lime", "kernel_shap") if output[2] else AUDITED
    result = audit(build(output=output), split_of(TEXTS, labels, spans), methods=methods)
    in_json(result)
    assert ("accuracy" in result["attention"]) != output[2]
    assert result["evidence"]["num_examples"] == 3
    assert set(result["methods"]) == {"random", *methods}
    for measured in result["methods"].values():
        assert measured["evidence"]["auprc"]["num_texts"] == 3


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("texts", [["bad"], ["good", "", "zzz"], [" "]])
def test_an_audit_of_next_to_nothing(texts: list[str]) -> None:
    evidence = [np.array([[0, len(text)]]) if text.strip() else None for text in texts]
    result = audit(build(), split_of(texts, evidence=evidence), methods=method_names())
    in_json(result)
    assert result["num_examples"] == len(texts)
    assert "too few" in result["verdict"]


@pytest.mark.usefixtures("quick")
def test_evidence_that_was_cut_off_is_counted() -> None:
    short = build(max_length=3)
    spans = [np.array([[0, 3], [4, 8]]), np.array([[4, 6], [7, 11]]), np.array([[11, 14]])]
    texts = ["the food was good", "bad no good", "kind staff bad food"]
    result = audit(short, split_of(texts, evidence=spans), methods=("attention",))
    assert result["evidence"]["share_not_read"] == 0
    spans[0] = np.array([[0, 3], [13, 17]])
    spans[2] = np.array([[15, 19]])
    result = audit(short, split_of(texts, evidence=spans), methods=("attention",))
    same(result["evidence"]["share_not_read"], (0.5 + 0 + 1) / 3)
    in_json(result)


@pytest.mark.usefixtures("quick")
def test_evidence_that_begins_inside_a_word_is_read() -> None:
    result = audit(build(), split_of(["the food was good"], evidence=[np.array([[5, 8]])]), methods=("attention",))
    assert result["evidence"]["share_of_tokens"] == 0.25  # the word is marked
    assert result["evidence"]["share_not_read"] == 0
