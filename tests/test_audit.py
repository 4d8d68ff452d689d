"""The audit finds evidence that was planted, and says so where the attention has none of it."""

from __future__ import annotations

import csv
import itertools
import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import unsealed
from explain_models import OUTPUTS, TEXTS, build, model_of, same, split_of
from safetensors.torch import save_file
from test_faithfulness import kullback_leibler, tau_b
from torch import Tensor

import textattn as package
from textattn.api import Model
from textattn.data.read import Split
from textattn.errors import ConfigError, InputError
from textattn.explain.audit import audit, parse_methods
from textattn.explain.erasure import logits_of, rows_of
from textattn.explain.methods import method_names
from textattn.explain.verdict import GOOD_SHARE, IDLE, level, shown_method, verdict
from textattn.export.onnx_model import export_onnx
from textattn.inference.evaluation import load_split
from textattn.storage.model_files import ModelFiles, model_metadata, read_model_config
from textattn.storage.run_dir import CONFIG, TOKENIZER, WEIGHTS, write_json
from textattn.tasks import SingleLabel
from textattn.tokens.batches import collate

CUES = {"pos": ["superb", "lovely", "great", "fine"], "neg": ["awful", "dreadful", "poor", "bad"]}
ALL_CUES = {*CUES["pos"], *CUES["neg"]}
FILLERS = ["".join(sounds) for sounds in itertools.product("bdkt", "ae", "lnrs", "aeiou")][:100]
# All that a shipped config might change is written out.
SETTINGS: dict[str, Any] = {
    "recipe": "plain",
    "tokenizer": {"min_frequency": 1},
    "model": {"embedding_dim": 16, "hidden_size": 8},
    "training": {"batch_size": 32, "epochs": 8, "learning_rate": 2e-2},
    "output": {"attention_splits": [], "prediction_splits": [], "audit_examples": 0, "plots": False},
}


def write(file: Path, number: int, labels: tuple[str, ...], seed: int) -> None:
    """Texts of fillers, and in those with the label pos or neg one cue; the evidence is where it stands.

    Without a third label the lack of one kind of cue would tell the other, and half of the texts had no evidence.
    """
    generator = random.Random(seed)
    with file.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["text", "label", "evidence"])
        for i in range(number):
            label = labels[i % len(labels)]
            words = generator.choices(FILLERS, k=generator.randint(8, 20))
            evidence = ""
            if label in CUES:
                place = generator.randrange(len(words))
                words[place] = generator.choice(CUES[label])
                start = len(" ".join([*words[:place], ""]))
                evidence = json.dumps([[start, start + len(words[place])]])
            rows.writerow([" ".join(words), label, evidence])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    write(folder / "train.csv", 400, ("neg", "pos", "none"), 0)
    write(folder / "validation.csv", 60, ("neg", "pos", "none"), 1)
    write(folder / "test.csv", 100, ("neg", "pos"), 2)
    return folder


def train(folder: Path, name: str, **model: str) -> Path:
    files = {split: str(folder / f"{split}.csv") for split in ("train", "validation", "test")}
    data = {"files": files, "evidence": "evidence"}
    settings = {**SETTINGS, "data": data, "model": {**SETTINGS["model"], **model}}
    return package.train(settings, [f"output.dir={folder / name}"])


@pytest.fixture(scope="module")
def planted(folder: Path) -> Model:
    """Its states are bound to their words, so that attention to a state is attention to the word."""
    return package.load(train(folder, "anchored", anchor="states"))


@pytest.fixture(scope="module")
def pooled(folder: Path) -> Path:
    """All states count the same, so that each has to say what the LSTM has read."""
    return train(folder, "pooled", attention="mean")


def test_split(classifier: Model) -> Split:
    return load_split(classifier, None, "test", {})


test_split.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def audited(planted: Model) -> dict[str, Any]:
    return audit(planted, test_split(planted), examples=100)


def hits(classifier: Model, texts: list[str], method: str) -> float:
    """Share of the texts in which the highest word is the cue."""
    found = classifier.explain(texts, method=method)
    return float(np.mean([max(e.words, key=lambda word: word.weight).text in ALL_CUES for e in found]))


# Planted evidence.


def test_the_cue_is_learnt(planted: Model) -> None:
    assert planted.evaluate()["accuracy"] == 1


@pytest.mark.parametrize("method", method_names())
def test_every_method_finds_the_cue(planted: Model, method: str) -> None:
    texts = list(test_split(planted))
    assert hits(planted, texts[:20] if method in ("lime", "kernel_shap") else texts, method) >= 0.95


def test_contributions_find_the_cue_with_the_right_sign(planted: Model) -> None:
    """And the cue of another label, put into the same text, speaks against the answer."""
    texts = list(test_split(planted))
    assert hits(planted, texts, "contributions") >= 0.99
    right = 0
    for text in texts:
        (explained,) = planted.explain(text)
        (other,) = {"neg", "pos"} - {explained.prediction.label}
        cue, weights = CUES[other][0], planted.explain(text, target=other)[0]
        (added,) = planted.explain(f"{text} {cue}", target=explained.prediction.label)
        own = next(word.weight for word in weights.words if word.text in ALL_CUES)
        right += own < 0 and added.words[-1].weight < 0
    assert right >= 0.99 * len(texts)


def test_the_audit_finds_attention_good(audited: dict[str, Any]) -> None:
    assert level(audited) == "good"
    assert audited["verdict"].startswith(
        "The words that contributions highlight are good evidence: erasing them lowers"
    )
    for method, measured in audited["methods"].items():
        own = measured["comprehensiveness"]
        if method == "random":
            assert own["deletion"]["mean"] < 0.4
            continue
        assert level(audited, method) == "good"
        assert measured["comprehensiveness_over_random"]["low"] > 0.3
        assert own["deletion"]["mean"] > 0.6
        assert own["mask"]["mean"] > 0.6
        # The cue alone is nearly as good as the whole text, and without it the answer is another one.
        assert abs(measured["sufficiency"]["mask"]["mean"]) < 0.15
        assert measured["top_token_flips"] > 0.9
        assert measured["erased_until_flip"] < 0.1
        # After the cue, the best order has small gains to make that are not found by the scores of the whole text.
        assert 0.75 < measured["share_of_best"]["mean"] <= 1
        if "signs" in measured:
            assert measured["signs"]["supporting"]["mean"] > 0.8
    assert audited["attention"]["accuracy"] == 1
    assert audited["attention"]["uniform_accuracy"] < 0.95
    assert audited["attention"]["weights_erased_until_flip"] < audited["attention"]["random_weights_erased_until_flip"]


def test_the_audit_finds_what_people_would_mark(audited: dict[str, Any], planted: Model) -> None:
    lengths = planted.tokenizer.encode(test_split(planted)).lengths
    facts = audited["evidence"]
    assert (facts["num_examples"], facts["share_not_read"]) == (100, 0)
    assert facts["share_of_tokens"] == pytest.approx(np.mean(1 / lengths))
    for method in ("attention", "occlusion"):
        found = audited["methods"][method]["evidence"]
        assert found["auprc"]["mean"] > 0.97
        assert found["token_f1"]["mean"] > 0.75  # of longer texts two words are chosen, and one is right
        assert found["iou_f1"] > 0.75
    by_chance = audited["methods"]["random"]["evidence"]
    assert by_chance["auprc"]["mean"] < 0.4
    assert by_chance["token_f1"]["mean"] < 0.3


def test_chance_is_where_chance_should_be(audited: dict[str, Any], planted: Model) -> None:
    """Against rankings drawn by the test; texts are independent, so the mean is normal."""
    ids = rows_of(planted.tokenizer.encode(test_split(planted)))
    without = [[np.delete(row, place) for place in range(len(row))] for row in ids]
    whole = logits_of(planted, ids).argmax(1)
    shares = [
        float((logits_of(planted, rows).argmax(1) != answer).mean())
        for rows, answer in zip(without, whole, strict=True)
    ]
    deviation = float(np.sqrt(sum(p * (1 - p) for p in shares))) / len(shares)
    assert abs(audited["methods"]["random"]["top_token_flips"] - np.mean(shares)) < 3.5 * deviation
    over = audited["methods"]["random"]["comprehensiveness_over_random"]
    assert (over["mean"], over["low"], over["high"]) == (0, 0, 0)
    other = audit(planted, test_split(planted), methods=(), seed=5)["methods"]["random"]["comprehensiveness"][
        "deletion"
    ]
    first = audited["methods"]["random"]["comprehensiveness"]["deletion"]
    assert other["mean"] != first["mean"]
    assert other["low"] < first["mean"] + 0.05
    assert other["high"] > first["mean"] - 0.05


def test_weights_at_random_are_where_chance_should_be(audited: dict[str, Any], planted: Model) -> None:
    """Serrano & Smith's comparison, and Jain & Wallace's permutations, drawn again."""
    model = model_of(planted)
    generator = np.random.default_rng(9)
    shares, permuted = [], []
    for ids in rows_of(planted.tokenizer.encode(test_split(planted))):
        with torch.no_grad():
            output = model(torch.from_numpy(ids[None].astype(np.int64)), torch.ones(1, len(ids)))
        states, weights = output.hidden_states[0].double().numpy(), output.attention_weights[0].double().numpy()
        matrix, bias = (p.detach().double().numpy() for p in (model.classifier.weight, model.classifier.bias))
        answer = int(output.logits.argmax())
        flips = []
        for place in range(len(ids)):
            left = np.where(np.arange(len(ids)) == place, 0, weights)
            flips.append((matrix @ (left / left.sum() @ states) + bias).argmax() != answer)
        shares.append(float(np.mean(flips)))
        orders = [generator.permutation(len(ids)) for _ in range(40)]
        logits = np.array([matrix @ (weights[order] @ states) + bias for order in [np.arange(len(ids)), *orders]])
        probs = SingleLabel(["a", "b", "c"]).probabilities(logits)  # type: ignore[arg-type]
        permuted.append(float(np.median(np.abs(probs[1:] - probs[0]).sum(1) / 2)))
    deviation = float(np.sqrt(sum(p * (1 - p) for p in shares))) / len(shares)
    assert abs(audited["attention"]["random_weight_flips"] - np.mean(shares)) < 3.5 * deviation + 1e-9
    assert audited["attention"]["permuted_total_variation"]["mean"] == pytest.approx(np.mean(permuted), abs=0.05)


# Attention that is no evidence.


def with_attention(run: Path, folder: Path, weight: float) -> Model:
    """The same states and the same classifier, with attention to the states of cues: exp(2 * weight) times as much."""
    files = ModelFiles(run)
    old = package.load(run, runtime="torch")
    direction, offset = towards_cues(old)
    value = read_model_config(files).to_json()
    value["architecture"] |= {"attention": "additive", "attention_size": 1}
    copy = unsealed(Path(shutil.copytree(run, folder / f"attention {weight}")))
    write_json(copy / CONFIG, value)
    weights = {name: tensor.contiguous() for name, tensor in model_of(old).state_dict().items()}
    weights["attention.projection.weight"] = direction[None]
    weights["attention.projection.bias"] = offset[None]
    weights["attention.score.weight"] = torch.tensor([[weight]])
    metadata = model_metadata(read_model_config(ModelFiles(copy)), files.read(TOKENIZER))
    save_file(weights, copy / WEIGHTS, metadata)
    assert export_onnx(copy) < 5e-5  # of contributions as well, which here are much larger than their sum
    return package.load(copy, runtime="onnx")


def towards_cues(classifier: Model) -> tuple[Tensor, Tensor]:
    """A direction, and an offset, in which the states of cues lie on the one side: by least squares."""
    tokens = classifier.tokenizer.encode(test_split(classifier))
    ids, mask = map(torch.from_numpy, collate(tokens, np.arange(len(tokens)), classifier.tokenizer.pad_id))
    with torch.no_grad():
        states = model_of(classifier)(ids, mask).hidden_states[mask.bool()]
    cues = [classifier.tokenizer.backend.token_to_id(cue) for cue in ALL_CUES]
    is_cue = torch.isin(ids[mask.bool()], torch.tensor(cues))
    inputs = torch.cat([states, torch.ones(len(states), 1)], 1)
    solution = torch.linalg.lstsq(inputs, is_cue.float()[:, None]).solution[:, 0]
    fitted = inputs @ solution
    middle = (fitted[is_cue].mean() + fitted[~is_cue].mean()) / 2
    return 20 * solution[:-1], 20 * (solution[-1] - middle)


@pytest.mark.parametrize(
    ("weight", "expected"), [(0.0, "none"), pytest.param(-4.0, "none", marks=pytest.mark.slow), (4.0, "evidence")]
)
def test_the_audit_tells_attention_that_looks_away(folder: Path, pooled: Path, weight: float, expected: str) -> None:
    """Of one model three are made that differ only in where their attention looks: nowhere, elsewhere, at the cue."""
    classifier = with_attention(pooled, folder, weight)
    texts = list(test_split(classifier))
    assert classifier.evaluate()["accuracy"] > 0.9
    assert hits(classifier, texts, "occlusion") >= 0.95
    given = audit(classifier, test_split(classifier), methods=("attention", "occlusion", "gradient_x_input"))
    facts = given["attention"]
    measured = given["methods"]["attention"]
    assert level(given, "occlusion") == "good"
    assert shown_method(given) == "attention"
    if expected == "evidence":
        assert hits(classifier, texts, "attention") >= 0.9
        over = {method: facts["comprehensiveness_over_random"]["mean"] for method, facts in given["methods"].items()}
        assert over["attention"] > GOOD_SHARE * max(over.values())
        # It looks at the cue, but as many answers are right with equal weights: the LSTM has told all states.
        assert level(given) == ("part" if facts["uniform_decisions_changed"] <= IDLE else "good")
        return
    assert hits(classifier, texts, "attention") < 0.2
    assert level(given) == "none"
    assert given["verdict"].startswith("The words that attention highlights are no evidence for this model's answers:")
    assert measured["comprehensiveness_over_random"]["mean"] < 0.02
    if weight:
        # Worse than chance, which finds the cue at times.
        assert measured["comprehensiveness_over_random"]["high"] < 0
        return
    assert facts["uniform_decisions_changed"] == 0
    for name in ("uniform_total_variation", "permuted_total_variation"):
        same(facts[name]["mean"], 0, 1e-5)
    # Constant scores rank nothing.
    assert facts["tau_gradient"] is None
    assert facts["tau_leave_one_out"] is None
    assert facts["tau_gradient_leave_one_out"]["mean"] > 0


# The verdict.


def made_up(mean: float, low: float, best: float, *, number: int = 50, changed: float = 0.5) -> dict[str, Any]:
    def measured(over: float, low: float) -> dict[str, Any]:
        return {
            "num_examples": number,
            "comprehensiveness": {"deletion": {"mean": 0.1 + over}},
            "comprehensiveness_over_random": {"mean": over, "low": low},
        }

    methods = {"random": measured(0, 0), "attention": measured(mean, low), "occlusion": measured(best, best)}
    return {"split": "test", "methods": methods, "attention": {"uniform_decisions_changed": changed}}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (made_up(0.4, 0.3, 0.5), "good"),
        (made_up(0.3, 0.2, 0.5), "good"),
        (made_up(0.29, 0.2, 0.5), "part"),
        (made_up(0.6, 0.5, 0.1), "good"),
        (made_up(0.4, 0.3, 0.5, changed=0.01), "part"),
        (made_up(0.4, 0.3, 0.5, changed=0.02), "good"),
        (made_up(0.1, 0.0, 0.1), "none"),
        (made_up(-0.2, -0.3, 0.5), "none"),
        (made_up(0.4, 0.3, 0.5, number=19), "unknown"),
        (made_up(0.4, 0.3, 0.5, number=20), "good"),
    ],
)
def test_levels(facts: dict[str, Any], expected: str) -> None:
    assert level(facts) == expected
    assert level(facts, "lime") == "unknown"
    sentence = verdict(facts)
    words = {"good": "are good evidence", "part": "are part of", "none": "are no evidence", "unknown": "too few"}
    assert [name for name, said in words.items() if said in sentence] == [expected]
    if expected != "unknown":
        own, other = (facts["methods"][m]["comprehensiveness"]["deletion"]["mean"] for m in ("attention", "occlusion"))
        assert f"by {own:.2f} on average, those of occlusion {other:.2f}, random words 0.10" in sentence
        assert ("equal weights" in sentence) == (facts["attention"]["uniform_decisions_changed"] == 0.01)
    assert verdict(facts, "lime").endswith("has not been measured (textattn audit --methods all).")
    # An audit of an earlier version: its verdict is about attention, and says so.
    assert "that attention highlights" in sentence or expected == "unknown"
    assert verdict(facts, "contributions").endswith(
        "contributions can be trusted for this model has not been measured (textattn audit)."
    )
    assert verdict(facts, "ngrams").endswith("(textattn audit --methods ngrams).")


def of_contributions(mean: float, low: float, attention: float, best: float) -> dict[str, Any]:
    facts = made_up(attention, attention, best, changed=0)
    facts["methods"]["contributions"] = made_up(mean, low, best)["methods"]["attention"]
    return facts


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (of_contributions(0.4, 0.3, 0.1, 0.5), "good"),
        (of_contributions(0.4, 0.3, 0.5, 0.1), "good"),
        (of_contributions(0.2, 0.1, 0.1, 0.5), "part"),
        (of_contributions(0.2, 0.1, 0.5, 0.1), "part"),
        (of_contributions(0.2, 0.0, 0.5, 0.1), "none"),
    ],
)
def test_the_verdict_is_about_contributions_beside_attention(facts: dict[str, Any], expected: str) -> None:
    assert shown_method(facts) == "contributions"
    assert level(facts) == expected
    words = {"good": "are good evidence", "part": "are part of", "none": "are no evidence"}
    assert f"The words that contributions highlight {words[expected]}" in verdict(facts)
    figures = {name: facts["methods"][name]["comprehensiveness"]["deletion"]["mean"] for name in facts["methods"]}
    best = "occlusion" if figures["occlusion"] > figures["attention"] else "attention"
    others = "".join(f", those of {name} {figures[name]:.2f}" for name in dict.fromkeys(["attention", best]))
    assert f"by {figures['contributions']:.2f} on average{others}, random words 0.10" in verdict(facts)
    # Equal attention weights say nothing of contributions.
    assert "equal weights" not in verdict(facts)
    assert "that attention highlights" in verdict(facts, "attention")


@pytest.mark.parametrize(("share", "warned"), [(0.5, False), (0.51, True), (None, False)])
def test_the_verdict_says_where_erased_texts_are_unlike_all_others(share: float | None, warned: bool) -> None:
    facts = of_contributions(0.4, 0.3, 0.1, 0.5)
    if share is not None:
        facts["methods"]["contributions"]["outliers"] = {"deletion": {"mean": share}, "mask": {"mean": 1.0}}
    sentence = " However, 51% of the texts without these words are unlike the texts that the model knows"
    assert (sentence in verdict(facts)) == warned
    assert "unlike" not in verdict(facts, "attention")


# Several models.


def test_models_of_several_seeds_are_compared() -> None:
    one, two, three = build(), build("dot"), build("general", "gru")
    texts = TEXTS[:5]
    found = audit(one, split_of(texts), methods=("attention",), others=[two, three])["seeds"]
    taus, divergences, equal = [], [], []
    for a, b in ((one, two), (one, three), (two, three)):
        for p, q in zip(*(model.explain(texts, method="attention") for model in (a, b)), strict=True):
            x, y = ([word.weight for word in e.words] for e in (p, q))
            middle = [(i + j) / 2 for i, j in zip(x, y, strict=True)]
            taus.append(tau_b(x, y))
            divergences.append((kullback_leibler(x, middle) + kullback_leibler(y, middle)) / 2)
            equal.append(float(p.prediction.label == q.prediction.label))
    contributed, overlaps = [], {"attention": [], "contributions": []}
    for a, b in ((one, two), (one, three), (two, three)):
        for method, given in overlaps.items():
            for p, q in zip(*(model.explain(texts, method=method) for model in (a, b)), strict=True):
                if method == "contributions" and p.prediction.label != q.prediction.label:
                    continue
                x, y = ([word.weight for word in e.words] for e in (p, q))
                count = math.ceil(len(x) / 10)
                tops = [set(np.argsort(-np.array(scores))[:count].tolist()) for scores in (x, y)]
                given.append(len(tops[0] & tops[1]) / count)
                if method == "contributions":
                    contributed.append(tau_b(x, y))
    assert 0 < len(overlaps["contributions"]) < len(overlaps["attention"])
    same(found["contributions_tau"], np.nanmean(contributed))
    for method, given in overlaps.items():
        same(found[f"{method}_overlap"], np.mean(given), 1e-12)
    assert found["num_models"] == 3
    same(found["attention_tau"], np.nanmean(taus))
    same(found["attention_jensen_shannon"], np.mean(divergences))
    same(found["equal_answers"], np.mean(equal), 1e-12)
    itself = audit(one, split_of(texts), methods=("attention",), others=[build()])["seeds"]
    assert itself == {
        "num_models": 2,
        "attention_tau": pytest.approx(1),
        "attention_overlap": 1,
        "attention_jensen_shannon": pytest.approx(0, abs=1e-9),
        "contributions_tau": pytest.approx(1),
        "contributions_overlap": 1,
        "equal_answers": 1,
    }
    undivided = audit(one, split_of(texts), methods=("attention",), others=[build("mlp")])["seeds"]
    assert undivided["contributions_tau"] is undivided["contributions_overlap"] is None
    assert undivided["attention_tau"] is not None


def test_models_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="labels"):
        audit(build(), split_of(TEXTS), methods=("attention",), others=[build(output=OUTPUTS[1])])
    with pytest.raises(InputError, match="other words"):
        audit(build(), split_of(TEXTS), methods=("attention",), others=[build(kind="char")])


# Methods.


def test_methods_are_named_with_commas() -> None:
    assert parse_methods("all") == method_names()
    assert parse_methods(" attention, lime,") == ("attention", "lime")
    for text in ("", " , "):
        with pytest.raises(ConfigError, match="none given"):
            parse_methods(text)
    with pytest.raises(ConfigError, match="unknown method 'atention'"):
        parse_methods("lime,atention")
    with pytest.raises(ConfigError, match="unknown method 'random'"):
        audit(build(), split_of(TEXTS), methods=("random",))
