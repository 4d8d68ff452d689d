"""`model.document: windows`: the model is what its equations say, each token counts once, both levels are shown."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import unsealed
from export_runs import snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import run as cli
from reference import classify
from small_models import VOCABULARY, WEIGHTED, build, padded

import textattn
from textattn.explain.windows import windows_of
from textattn.export.graph import build_graph
from textattn.inference.graph_check import MOST_NODES, check_graph
from textattn.inference.onnx_session import OnnxSession
from textattn.inference.torch_session import TorchSession
from textattn.model.attention import NAMES, attention_class
from textattn.model.classifier import TextClassifier

FITTING = [name for name in WEIGHTED if attention_class(name).fits_windows] + ["mean"]
UNFIT = sorted(set(NAMES) - set(FITTING))
texts_of_ids = st.lists(st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=30), min_size=1, max_size=4)
OUTPUTS = ("logits", "attention_weights", "context", "hidden_states", "encoder_states")


def in_windows(attention: str = "additive", size: int = 5, context: int = 2, **settings: Any) -> TextClassifier:
    return build(attention, window_size=size, window_context=context, **settings)


def several(seed: int, lengths: list[int]) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(1, VOCABULARY, length).tolist() for length in lengths]


# The model


@pytest.mark.parametrize("attention", FITTING)
@pytest.mark.parametrize("encoder", ["lstm", "gru", "none"])
def test_it_is_what_the_equations_say(attention: str, encoder: str) -> None:
    model = in_windows(attention, encoder=encoder).double()
    for text in several(0, [1, 4, 5, 6, 10, 23]):
        expected = classify(model, text)
        output = model(*padded([text]))._asdict()
        for name in OUTPUTS:
            found = output[name][0].detach().numpy()
            np.testing.assert_allclose(found, expected[name], atol=1e-12, err_msg=f"{name} of {len(text)} tokens")


@pytest.mark.parametrize(
    "settings_of_model",
    [
        {"anchor": "values"}, {"anchor": "states", "attention_window": 3}, {"attention_position": True},
        {"num_layers": 2}, {"bidirectional": False}, {"ngrams": 2, "ngram_buckets": 97}, {"context": 0},
        {"size": 7, "context": 6}, {"size": 2, "context": 1},
    ],
)  # fmt: skip
def test_it_goes_with_the_other_settings(settings_of_model: dict[str, Any]) -> None:
    model = in_windows(**settings_of_model).double()
    for text in several(1, [1, 9, 23]):
        expected = classify(model, text)
        output = model(*padded([text]))._asdict()
        for name in OUTPUTS:
            np.testing.assert_allclose(output[name][0].detach().numpy(), expected[name], atol=1e-12, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(texts_of_ids, st.integers(2, 9), st.integers(0, 3), st.integers(0, 12))
def test_padding_and_companions_change_nothing(texts: list[list[int]], size: int, context: int, more: int) -> None:
    model = in_windows("multi_head", size, min(context, size - 1), anchor="values").double()
    together = model(*padded(texts, max(map(len, texts)) + more))
    for i, text in enumerate(texts):
        alone = model(*padded([text]))
        torch.testing.assert_close(together.logits[i], alone.logits[0], atol=1e-10, rtol=0)
        weights = together.attention_weights[i]
        torch.testing.assert_close(weights[: len(text)], alone.attention_weights[0], atol=1e-10, rtol=0)
        assert torch.count_nonzero(weights[len(text) :]) == 0
        assert weights.sum().item() == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(texts_of_ids, st.sampled_from(FITTING), st.integers(2, 9))
def test_contributions_add_up(texts: list[list[int]], attention: str, size: int) -> None:
    model = in_windows(attention, size, 1, ngrams=2, ngram_buckets=97).double()
    input_ids, mask = padded(texts)
    output = model(input_ids, mask)
    parts = model.contributions(output, input_ids, mask)
    torch.testing.assert_close(model.classifier.bias + parts.total.sum(1), output.logits, atol=1e-10, rtol=0)
    assert torch.count_nonzero(parts.total[mask == 0]) == 0


@pytest.mark.parametrize("anchor", ["none", "values"])
def test_gradients_are_those_of_the_numbers(anchor: str) -> None:
    model = in_windows("additive", 3, 1, anchor=anchor).double()
    input_ids, mask = padded(several(2, [11, 4]))
    embeddings = model.embed(input_ids).detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: model.forward_from_embeddings(x, mask).logits, (embeddings,), fast_mode=True
    )
    model(input_ids, mask).logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-8, name


def test_before_anything_is_learned_every_token_has_the_same_share() -> None:
    """Although the last window is shorter than the others."""
    model = in_windows("mean")
    torch.nn.init.zeros_(model.windows.score.weight)  # type: ignore[union-attr]
    weights = model(*padded(several(3, [23]))).attention_weights[0]
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 23))


@pytest.mark.parametrize("attention", UNFIT)
def test_attention_without_weights_of_windows_is_refused(attention: str) -> None:
    with pytest.raises(ValueError, match=rf"the attention {attention} cannot weigh the tokens of windows"):
        in_windows(attention)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("attention", FITTING)
def test_the_graph_gives_the_same(attention: str, int8: bool) -> None:
    model = in_windows(attention, anchor="none" if attention == "mean" else "values", ngrams=2, ngram_buckets=97)
    content = build_graph(model, {"textattn": "{}"}, int8=int8).SerializeToString()
    check_graph(content, 1)
    sessions = TorchSession(model), OnnxSession(content, "model.onnx")
    for lengths in ([1], [3], [5], [23, 1, 10], [6, 12, 18, 2]):
        ids, mask = (tensor.numpy() for tensor in padded(several(4, lengths)))
        expected, found = (session.run(ids, mask, with_contributions=True) for session in sessions)
        for name, a, b in zip(expected._fields, expected, found, strict=True):
            np.testing.assert_allclose(a, b, atol=0.1 if int8 else 1e-5, err_msg=f"{name} of {lengths}")


def test_the_largest_graph_is_accepted() -> None:
    model = in_windows(
        "sigmoid", encoder="gru", num_layers=3, anchor="values", attention_window=3, ngrams=3, ngram_buckets=97
    )
    proto = build_graph(model, {"textattn": "{}"}, int8=True)
    check_graph(proto.SerializeToString(), 3)
    assert len(proto.graph.node) < MOST_NODES


def test_a_model_without_windows_is_stored_as_before() -> None:
    assert "window_size" not in build().architecture.to_dict()
    assert in_windows().architecture.to_dict()["window_size"] == 5


# What is shown


def test_windows_of_tokens() -> None:
    offsets = [(0, 3), (4, 7), (8, 9), (10, 15), (16, 20)]
    found = windows_of(2, offsets, [1.0, -3.0, 0.5, 0.25, 2.0], [0.1, 0.2, 0.3, 0.3, 0.1])
    assert [(w.start, w.end) for w in found] == [(0, 7), (8, 15), (16, 20)]
    assert [w.weight for w in found] == [-2.0, 0.75, 2.0]
    assert [w.attention for w in found] == pytest.approx([0.3, 0.6, 0.1])


FILLER = [f"w{i}" for i in range(60)]
NEEDLE = {"good": "zebra", "bad": "quartz"}


def document(generator: np.random.Generator, label: str, words: int) -> str:
    tokens = generator.choice(FILLER, words).tolist()
    tokens[int(generator.integers(words))] = NEEDLE[label]
    return " ".join(tokens)


@pytest.fixture(scope="module")
def needle_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("needle")
    generator = np.random.default_rng(0)
    rows = [(document(generator, label, 60), label) for _ in range(400) for label in NEEDLE]
    (folder / "d.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    done = cli(
        "train", folder / "d.csv", "recipe=plain", "model.anchor=values", "model.document=windows",
        "model.window_size=8", "model.window_context=2", "model.embedding_dim=16", "model.hidden_size=16",
        "model.attention_size=8", "model.dropout.words=0.0", "training.epochs=10", "training.batch_size=16",
        "training.learning_rate=1e-2", "training.baseline=false", "output.audit_examples=0",
        f"output.dir={folder / 'run'}",
    )  # fmt: skip
    assert done.code == 0, done.err
    return folder / "run"


def test_a_needle_is_found_and_pointed_at(needle_run: Path) -> None:
    """Also in documents that are ten times as long as those it learned from."""
    model = textattn.load(needle_run)
    generator = np.random.default_rng(1)
    for words in (60, 240):
        for label, word in NEEDLE.items():
            text = document(generator, label, words)
            (explanation,) = model.explain([text])
            assert explanation.prediction.label == label
            assert explanation.windows is not None
            assert len(explanation.windows) == words // 8 + (words % 8 > 0)
            top = max(explanation.windows, key=lambda window: window.weight)
            assert word in text[top.start : top.end]
            assert sum(window.attention for window in explanation.windows) == pytest.approx(1, abs=1e-5)
            total = explanation.total
            assert total is not None
            added = total.bias + sum(window.weight for window in explanation.windows)
            assert added == pytest.approx(total.answer, abs=1e-4)


def test_both_levels_are_shown(needle_run: Path, tmp_path: Path) -> None:
    text = document(np.random.default_rng(2), "bad", 240)
    done = cli("explain", "--model", needle_run, text)
    assert "attention  passage (of 30)" in done.out
    passages = done.out.partition("passage (of 30)")[2].splitlines()[1:4]
    assert "quartz" in passages[0] and all(re.match(r" +[+-]\d", passage) for passage in passages)
    found = json.loads(cli("explain", "--model", needle_run, "--json", text).out)
    assert [set(window) for window in found["windows"]] == [{"start", "end", "attention", "weight"}] * 30
    page = tmp_path / "page.html"
    assert cli("explain", "--model", needle_run, "--html", page, text).code == 0
    html = page.read_text()
    shown = re.findall(r'<span class="window" data-says="attention \d+\xa0%, weight [+-]\d+\.\d\d"></span>', html)
    assert 1 <= len(shown) < 30, "only the windows that count are unfolded"
    # A model that reads the whole text has none.
    short = json.loads(cli("explain", "--model", needle_run, "--json", "w1 w2 zebra").out)
    assert len(short["windows"]) == 1


def test_every_form_of_the_model_gives_the_same(needle_run: Path, tmp_path: Path) -> None:
    texts = [document(np.random.default_rng(i), "good", words) for i, words in enumerate((3, 8, 9, 100, 300))]
    bundle = tmp_path / "bundle.zip"
    assert cli("export", "--model", needle_run, "--bundle", bundle).code == 0
    forms = [textattn.load(needle_run, runtime="torch"), textattn.load(needle_run), textattn.load(bundle)]
    expected, *others = ([answer.scores for answer in model.predict(texts)] for model in forms)
    for found in others:
        for a, b in zip(expected, found, strict=True):
            assert a == pytest.approx(b, abs=1e-5)


def test_training_again_gives_the_same_bytes(needle_run: Path, tmp_path: Path) -> None:
    again = cli("train", needle_run / "training_config.yaml", f"output.dir={tmp_path / 'again'}")
    assert again.code == 0, again.err
    names = ("model.safetensors", "model.onnx", "tokenizer.json", "config.json")
    assert {n: snapshot(needle_run)[n] for n in names} == {n: snapshot(tmp_path / "again")[n] for n in names}


def test_training_goes_on_window_by_window(needle_run: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    rows = [(document(generator, label, 30), label) for _ in range(20) for label in NEEDLE]
    (tmp_path / "more.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    more = ["train", tmp_path / "more.csv", "--from", needle_run, "training.epochs=1", "start.replay=0"]
    done = cli(*more, f"output.dir={tmp_path / 'run'}", "output.audit_examples=0")
    assert done.code == 0, done.err
    before, after = (
        json.loads((run / "config.json").read_text())["architecture"] for run in (needle_run, tmp_path / "run")
    )
    assert after == before
    done = cli(*more, "model.document=whole")
    assert done.code == 2 and "model.document" in done.err


def test_wrong_sizes_are_named(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("text,label\n" + "a b,x\nc d,y\n" * 10)
    for given_settings, problem in (
        (["model.window_context=8", "model.window_size=8"], "window_context less"),
        (["model.attention=max"], "the attention max cannot weigh the tokens of windows"),
        (["model.window_size=1"], "model.window_size"),
    ):
        done = cli("train", tmp_path / "d.csv", "recipe=plain", "model.document=windows", *given_settings)
        assert done.code == 2 and problem in done.err, done.err


WITHOUT = "is for windows, but model.document=whole reads a text as a whole"


@pytest.mark.parametrize(
    ("given_settings", "setting", "hint"),
    [
        (["model.window_size=32"], "window_size", "model.document=windows"),
        (["model.window_context=4"], "window_context", "model.document=windows"),
        (["model.window_size=32", "model.window_context=4"], "window_size", "model.document=windows"),
        (["model.window_size=32", "recipe=auto"], "window_size", "model.document=windows"),
        (["model.window_size=32", "model.attention=max"], "window_size", "model.window_size=64"),
        (["model.window_size=32", "model.attention=mlp"], "window_size", "model.window_size=64"),
        (
            ["model.document=whole", "model.window_size=32", "model.window_context=4"],
            "window_size",
            "model.window_size=64 model.window_context=0",
        ),
    ],
)
def test_windows_that_a_whole_text_does_not_have_are_refused_with_a_hint_that_works(
    given_settings: list[str], setting: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "d.csv").write_text("text,label\n" + "a b,x\nc d,y\n" * 10)
    command = ["train", tmp_path / "d.csv", "--dry-run", "recipe=plain", *given_settings]
    done = cli(*command)
    assert (done.code, done.out) == (2, "")
    assert f"Error: model.{setting}: {WITHOUT}\nHint: {hint}\n" in done.err
    repaired = cli(*command, *hint.split())
    assert repaired.code == 0, repaired.err


@pytest.mark.parametrize("given_settings", [["model.window_size=64"], ["model.window_size=32", "model.linear=only"]])
def test_windows_of_a_whole_text_are_no_matter_where_nothing_was_asked_for(
    given_settings: list[str], tmp_path: Path
) -> None:
    (tmp_path / "d.csv").write_text("text,label\n" + "a b,x\nc d,y\n" * 10)
    small = ["recipe=plain", "training.epochs=1", "output.audit_examples=0", f"output.dir={tmp_path / 'run'}"]
    done = cli("train", tmp_path / "d.csv", *small, *given_settings)
    assert done.code == 0, done.err
    again = cli("train", tmp_path / "run/training_config.yaml", f"output.dir={tmp_path / 'again'}")
    assert again.code == 0, again.err
    assert snapshot(tmp_path / "run")["config.json"] == snapshot(tmp_path / "again")["config.json"]


def test_a_run_that_holds_windows_it_does_not_use_is_still_read(tmp_path: Path) -> None:
    """Earlier versions wrote such configs, and passed over the windows."""
    (tmp_path / "d.csv").write_text("text,label\n" + "a b,x\nc d,y\n" * 10)
    (tmp_path / "more.csv").write_text("text,label\n" + "a e,x\nc f,y\n" * 10)
    run = tmp_path / "run"
    quick = ["training.epochs=1", "output.audit_examples=0"]
    done = cli("train", tmp_path / "d.csv", "recipe=plain", *quick, f"output.dir={run}")
    assert done.code == 0, done.err
    config = run / "training_config.yaml"
    config.write_text(config.read_text().replace("window_size: 64", "window_size: 32"))
    for command in (
        ["evaluate", "--model", run, "--split", "validation"],
        ["report", run, "-o", tmp_path / "page.html"],
        ["train", config, "--resume", f"output.dir={run}"],
        ["train", tmp_path / "more.csv", "--from", run, *quick, f"output.dir={tmp_path / 'more'}"],
    ):
        done = cli(*command)
        assert done.code == 0, (command, done.err)
    done = cli("train", tmp_path / "more.csv", "--from", run, *quick, "model.window_size=32")
    assert (done.code, WITHOUT in done.err) == (2, True), done.err
    assert done.err.endswith("Hint: model.window_size=64\n")


@pytest.mark.parametrize("value", ["x", -1, 1, True, 2.5, None, 10**12])
@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_a_damaged_size_is_refused(value: Any, runtime: str, needle_run: Path, tmp_path: Path) -> None:
    run = unsealed(Path(shutil.copytree(needle_run, tmp_path / "run")))
    config = json.loads((run / "config.json").read_text())
    config["architecture"]["window_size"] = value
    (run / "config.json").write_text(json.dumps(config))
    done = cli("explain", "--model", run, "--runtime", runtime, "w1 zebra")
    assert done.code == 3 and "config.json" in done.err, done.err
