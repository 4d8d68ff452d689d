"""Explanations as pictures: real files, drawn from the weights."""

from __future__ import annotations

import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY
from inprocess import run as cli
from PIL import Image

import textattn
from textattn.explain.plot import MOST_WORDS, head_weights
from textattn.explain.trace import MOST_MAPPED

TEXT = "The film was a joy, but the ending felt rushed."


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_picture_is_written_twice_the_same(trained_run: Path, tmp_path: Path, kind: str) -> None:
    files = [tmp_path / f"one.{kind}", tmp_path / f"two.{kind}"]
    for file in files:
        done = cli("explain", "--model", trained_run, "--plot", file, TEXT)
        assert (done.code, done.out, done.err) == (0, "", f"Written: {file}\n")
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes()[:4] == {"png": b"\x89PNG", "svg": b"<?xm", "pdf": b"%PDF"}[kind]


def test_files_in_the_way_are_replaced_only_when_asked(trained_run: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "page.html", tmp_path / "w-2.png"
    for option, file, given in (("--html", page, page), ("--plot", picture, tmp_path / "w.png")):
        file.write_text("mine")
        arguments = ("explain", "--model", trained_run, option, given, "a b", "c d")
        done = cli(*arguments)
        error = f"Error: {option}: {file} exists; nothing was changed\nHint: --overwrite\n"
        assert (done.code, done.out, done.err) == (2, "", error)
        assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
        assert cli(*arguments, "-f").code == 0
        assert file.read_bytes()[:4] in (b"<!do", b"\x89PNG")
        for path in tmp_path.iterdir():
            path.unlink()
    done = cli("explain", "--model", trained_run, "-f", "a b")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: --overwrite needs --html or --plot")


def test_a_page_goes_through_a_link_and_into_a_pipe(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "link.html").symlink_to("real.html")
    assert cli("explain", "--model", trained_run, "--html", tmp_path / "link.html", TEXT).code == 0
    assert (tmp_path / "link.html").is_symlink()
    content = (tmp_path / "real.html").read_bytes()
    assert content.startswith(b"<!doctype html>")
    os.mkfifo(tmp_path / "pipe.html")
    with ThreadPoolExecutor() as pool:
        received = pool.submit((tmp_path / "pipe.html").read_bytes)
        assert cli("explain", "--model", trained_run, "--html", tmp_path / "pipe.html", TEXT).code == 0
        assert received.result(60) == content
    assert (tmp_path / "pipe.html").is_fifo()


def test_bars_have_the_colours_of_their_signs(trained_run: Path, tmp_path: Path) -> None:
    explanation = textattn.load(trained_run).explain(TEXT, method="occlusion")[0]
    signs = {word.weight > 0 for word in explanation.words}
    cli("explain", "--model", trained_run, "--method", "occlusion", "--plot", tmp_path / "x.png", TEXT)
    pixels = {pixel for _, pixel in Image.open(tmp_path / "x.png").convert("RGB").getcolors(1 << 24)}
    assert ((0x34, 0x77, 0xB8) in pixels) == (True in signs)
    assert ((0xD9, 0x57, 0x1E) in pixels) == (False in signs)


def test_several_texts_and_methods_are_numbered(trained_run: Path, tmp_path: Path) -> None:
    done = cli(
        "explain", "--model", trained_run, "--method", "attention,occlusion", "--plot", tmp_path / "w.png", "a b", "c d"
    )
    assert done.code == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"w-{n}.png" for n in range(1, 5)]


@pytest.mark.parametrize("text", ["?", "$x$ and $y", "电影 很好 👩‍🚀 é", "word " * 300, "x" * 500, "a\tb\x00c"])
def test_any_text_can_be_drawn(trained_run: Path, tmp_path: Path, text: str) -> None:
    run = textattn.load(trained_run)
    file = tmp_path / "x.png"
    from textattn.explain.plot import draw

    draw(run.explain(text)[0], run, file, "png")
    with Image.open(file) as picture:
        assert picture.width < (MOST_WORDS + 20) * 60


def test_an_unknown_kind_of_file_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    done = cli("explain", "--model", "/no/where", "--plot", tmp_path / "x.jpg", TEXT)
    assert done.code == 2
    assert done.err.startswith(f"Error: --plot: {tmp_path / 'x.jpg'} has none of the suffixes .png, .svg, .pdf")


def test_several_heads_are_drawn_as_rows_that_average_to_the_bars(tmp_path: Path) -> None:
    run = textattn.train(
        "quickstart",
        [*TINY, "training.epochs=1", "model.attention=multi_head", "model.num_heads=3", f"output.dir={tmp_path / 'r'}"],
    )
    model = textattn.load(run)
    explanation = model.explain(TEXT, method="attention")[0]
    heads = head_weights(explanation, model, model.trace(TEXT))
    assert heads is not None
    assert heads.shape == (3, len(explanation.words))
    assert heads.mean(axis=0) == pytest.approx([word.weight for word in explanation.words], abs=1e-5)
    cli("explain", "--model", run, "--method", "attention", "--plot", tmp_path / "x.svg", TEXT)
    assert len(re.findall("head [123]", (tmp_path / "x.svg").read_text())) == 3


@pytest.mark.parametrize(("num_words", "drawn"), [(1, True), (MOST_MAPPED, True), (MOST_MAPPED + 1, False)])
def test_tokens_that_attend_to_one_another_are_a_map_for_each_head(
    self_attention: Path, tmp_path: Path, num_words: int, drawn: bool
) -> None:
    text = " ".join(["good"] * num_words)
    done = cli("explain", "--model", self_attention, "--method", "attention", "--plot", tmp_path / "x.svg", text)
    assert done.code == 0, done.err
    picture = (tmp_path / "x.svg").read_text()
    assert [f"head {head}: row attends to column" in picture for head in (1, 2, 3)] == [drawn, drawn, False]
    # Two maps and the scale, or one with a row a head and the scale.
    assert picture.count("<image") == (3 if drawn else 2)


def test_json_has_the_weights_of_each_head(self_attention: Path, trained_run: Path, tmp_path: Path) -> None:
    def explained(run: Path, method: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(cli("explain", "--model", run, "--method", method, "--json", TEXT).out)
        return found

    value = explained(self_attention, "attention")
    heads = np.array(value["head_weights"])
    assert heads.shape == (2, len(value["tokens"]))
    assert heads.mean(axis=0) == pytest.approx(value["weights"], abs=1e-5)
    assert np.ptp(heads, axis=0).max() > 1e-4
    assert "head_weights" not in explained(self_attention, "contributions")
    assert "head_weights" not in explained(trained_run, "attention")
    without = tmp_path / "run"
    shutil.copytree(self_attention, without)
    (without / "model.safetensors").unlink()
    assert "head_weights" not in explained(without, "attention")


def test_a_formula_has_a_bar_for_each_element(tmp_path: Path) -> None:
    data = tmp_path / "formulas.csv"
    rows = [f"{a}{n}O{n + 1},{label}" for n in range(1, 9) for a, label in (("Fe", "yes"), ("Si", "no"))]
    data.write_text("text,label\n" + "\n".join(rows) + "\n")
    run = textattn.train(
        {
            "data": {"path": str(data)},
            "tokenizer": {"type": "formula", "min_frequency": 1},
            "model": {"embedding_dim": 8, "hidden_size": 8},
            "training": {"epochs": 1, "batch_size": 4},
            "output": {"dir": str(tmp_path / "run")},
        }
    )
    model = textattn.load(run)
    from textattn.explain.elements import by_element

    explanation = by_element(model.explain("Fe2O3Fe", method="attention")[0])
    assert [word.text for word in explanation.words] == ["Fe", "O"]
    assert np.sum([word.weight for word in explanation.words]) == pytest.approx(1, abs=1e-5)
    assert cli("explain", "--model", run, "--plot", tmp_path / "x.png", "Fe2O3Fe").code == 0
