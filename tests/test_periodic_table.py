"""What elements contribute to a label, on average over many formulas, and as a picture of the periodic table."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from explain_models import build
from inprocess import run as cli

import textattn
from textattn.cli.split_texts import texts_of_split
from textattn.explain.elements import ElementMean, element_means
from textattn.explain.periodic_table import draw_table, place_of
from textattn.tokens.elements import SYMBOLS

# As on the wall of a laboratory: a row a line, f block below, a dot where there is nothing.
WALL = """
H . . . . . . . . . . . . . . . . He
Li Be . . . . . . . . . . B C N O F Ne
Na Mg . . . . . . . . . . Al Si P S Cl Ar
K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe
Cs Ba Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn
Fr Ra Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
. . La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb . .
. . Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No . .
"""
FORMULAS = ["Fe2O3", "FeO", "Cu2O", "NaCl", "Fe(OH)3", "x?", "!"]


def test_every_element_has_its_place() -> None:
    rows = [line.split() for line in WALL.split("\n")[1:-1]]
    wall = {symbol: (x, y) for y, row in enumerate(rows) for x, symbol in enumerate(row) if symbol != "."}
    places = {symbol: place_of(symbol) for symbol in SYMBOLS}
    assert len(wall) == 118
    heights = sorted({row for _, row in places.values()})
    assert {symbol: (column - 1, heights.index(row)) for symbol, (column, row) in places.items()} == wall


@pytest.mark.parametrize("labels", [2, 4])
def test_means_are_over_the_formulas_that_have_the_element(labels: int) -> None:
    model = build(output=(labels, "softmax", False), kind="composition", vocab_size=500)
    found = element_means(model, FORMULAS, "label 1")
    assert list(found) == ["H", "O", "Na", "Cl", "Fe", "Cu"]
    assert {symbol: mean.num_texts for symbol, mean in found.items()} == {
        "H": 1, "O": 4, "Na": 1, "Cl": 1, "Fe": 3, "Cu": 1
    }  # fmt: skip
    # From the words of each formula, whatever label it got.
    irons = [
        sum(word.weight for word in model.explain(formula, method="contributions", target="label 1")[0].words
            if word.text.startswith("Fe"))
        for formula in ("Fe2O3", "FeO", "Fe(OH)3")
    ]  # fmt: skip
    assert found["Fe"].mean == pytest.approx(np.mean(irons), abs=1e-6)
    # A formula of one element is that element, but for the bias.
    (alone,) = element_means(model, ["Fe"], "label 1").values()
    answer = model.explain("Fe", method="contributions", target="label 1")[0].total
    assert answer is not None
    assert answer.bias + alone.mean == pytest.approx(answer.answer, abs=1e-5)


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_means_give_the_same_picture(tmp_path: Path, kind: str) -> None:
    means = {"Fe": ElementMean(0.5, 3), "O": ElementMean(-0.25, 12), "U": ElementMean(-0.001, 1)}
    files = [tmp_path / f"{n}.{kind}" for n in range(2)]
    for file in files:
        draw_table(means, "$metal$", file, kind, method="contributions", num_texts=14)
    assert files[0].read_bytes() == files[1].read_bytes()
    other = tmp_path / f"other.{kind}"
    draw_table(means | {"O": ElementMean(0.25, 12)}, "$metal$", other, kind, method="contributions", num_texts=14)
    assert other.read_bytes() != files[0].read_bytes()


def test_colours_tell_for_against_and_unseen(tmp_path: Path) -> None:
    means = {"Fe": ElementMean(0.5, 3), "O": ElementMean(-0.5, 12), "U": ElementMean(0.0, 1)}
    file = tmp_path / "x.svg"
    draw_table(means, "yes", file, "svg", method="contributions", num_texts=14)
    picture = file.read_text()
    # The cells are drawn in the order of the elements.
    fills = re.findall(r'<g id="patch_\d+">\s*<path d="[^"]*" clip-path="[^"]*" style="fill: (#[0-9a-f]{6})', picture)
    cells = dict(zip(SYMBOLS, fills, strict=False))
    assert len(cells) == 118
    assert (cells["Fe"], cells["O"]) == ("#3477b8", "#d9571e")
    assert len(set(cells.values())) == 4
    assert [symbol for symbol in cells if cells[symbol] != cells["Og"]] == ["O", "Fe", "U"]
    for text in ("why yes (contributions)", "14 formulas in all", "+0.50", "−0.50"):
        assert f"<!-- {text}" in picture or text in picture


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Oxygen says yes."""
    folder = tmp_path_factory.mktemp("table")
    metals = ["Li", "Na", "K", "Mg", "Ca", "Fe"]
    rows = [f"{a}{b}O{n},yes\n{b}{n}{a}2,no" for a in metals for b in metals if a < b for n in (2, 3)]
    (folder / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    return textattn.train(
        {
            "data": {"path": str(folder / "data.csv"), "test_fraction": 0.0},
            "tokenizer": {"type": "composition"},
            "model": {"embedding_dim": 8, "hidden_size": 8},
            "training": {"epochs": 4, "batch_size": 8, "learning_rate": 0.02},
            "output": {"dir": str(folder / "run"), "plots": False, "audit_examples": 2},
        }
    )


def test_the_command_draws_instead_of_printing(run: Path, tmp_path: Path) -> None:
    arguments = ("words", "--model", run, "--split", "validation", "--plot")
    for name in ("a.png", "b.png"):
        done = cli(*arguments, tmp_path / name)
        assert (done.code, done.out) == (0, ""), done.err
        assert re.search(rf"Written: {tmp_path / name} \(yes: \d+ elements in \d+ formulas\)\n$", done.err)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    done = cli(*arguments, tmp_path / "a.png")
    assert done.err == f"Error: --plot: {tmp_path / 'a.png'} exists; nothing was changed\nHint: --overwrite\n"
    assert cli(*arguments, tmp_path / "a.png", "--overwrite").code == 0
    no = cli(*arguments, tmp_path / "no.png", "--label", "no")
    assert "(no: " in no.err
    assert (tmp_path / "no.png").read_bytes() != (tmp_path / "a.png").read_bytes()


def test_what_cannot_be_drawn_is_refused(run: Path, trained_run: Path, tmp_path: Path) -> None:
    def error(*arguments: str | Path) -> str:
        done = cli("words", *arguments)
        assert (done.code, done.out) == (2, "")
        return done.err

    file = tmp_path / "x.png"
    assert error("--model", trained_run, "--plot", file) == (
        "Error: --plot: only a model of chemical formulas has elements to draw\n"
        "Hint: a model trained with tokenizer.type=composition\n"
    )
    assert "has none of the suffixes .png, .svg, .pdf" in error("--model", "/no/where", "--plot", tmp_path / "x.jpg")
    assert "unknown label 'maybe'; labels are: no, yes" in error("--model", run, "--plot", file, "--label", "maybe")
    assert error("--model", run, "--label", "yes").startswith("Error: --label: only a picture shows a single label\n")
    assert "same for every label" in error("--model", run, "--plot", file, "--method", "attention")
    assert "cannot be written" in error("--model", run, "--split", "validation", "--plot", "/proc/x.png")
    assert not file.exists()


def test_words_are_weighed_by_their_contributions_without_torch(run: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "copy"
    shutil.copytree(run, bundle)
    (bundle / "model.safetensors").unlink()
    done = cli("words", "--model", bundle, "--split", "validation", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["method"] == "contributions"
    best = found["labels"]["yes"][0]
    assert best["word"] == "O"
    model = textattn.load(run)
    given = texts_of_split(model, "validation", 1000).texts
    texts = [text for text in given if model.predict(text)[0].label == "yes" and "O" in text]
    parts = [
        sum(word.weight for word in explanation.words if re.fullmatch(r"O\d*", word.text))
        for explanation in model.explain(texts, method="contributions")
    ]
    assert best["num_texts"] == len(parts)
    assert best["score"] == pytest.approx(math.fsum(parts) / len(parts), abs=1e-5)
