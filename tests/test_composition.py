"""Chemical formulas as elements and their shares: what is the same material is the same to the model."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import unsealed
from explain_models import build
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import run as cli

import textattn
from textattn.config.model_section import TokenizerConfig, VectorsConfig
from textattn.errors import ConfigError
from textattn.explain.elements import by_element
from textattn.explain.lexicon import lexicon
from textattn.inference.words import merge_words
from textattn.tokens.element_vectors import periodic_vectors
from textattn.tokens.elements import PLACES, SYMBOLS
from textattn.tokens.formulas import read_formula
from textattn.tokens.skipgram import train_skipgram
from textattn.tokens.tokenizer import UNK, TextTokenizer
from textattn.tokens.train_tokenizer import train_tokenizer


def composition(segments: int = 1, **more: object) -> TextTokenizer:
    return train_tokenizer(TokenizerConfig.model_validate({"type": "composition", **more}), iter([]), segments)


TOKENIZER = composition()


def written(formula: str, tokenizer: TextTokenizer = TOKENIZER) -> str:
    return " ".join(tokenizer.encode_with_offsets([formula])[0].tokens)


@pytest.mark.parametrize(
    ("formula", "tokens"),
    [
        ("LiFePO4", "Li 0.14 Fe 0.14 P 0.14 O 0.57"),
        ("Li2O", "Li 0.67 O 0.33"),
        ("Li4O2", "Li 0.67 O 0.33"),
        ("OLi2", "Li 0.67 O 0.33"),
        ("Co", "Co 1"),
        ("CO", "C 0.5 O 0.5"),
        ("Cu(NO3)2", "Cu 0.11 N 0.22 O 0.67"),
        ("K4[Fe(CN)6]", "K 0.24 Fe 0.06 C 0.35 N 0.35"),
        ("CuSO4·5H2O", "H 0.48 Cu 0.05 S 0.05 O 0.43"),
        ("CuSO4 * 5 H2O", "H 0.48 Cu 0.05 S 0.05 O 0.43"),
        ("Ag0.5Ge1Pb1.75S4", "Ag 0.07 Pb 0.24 Ge 0.14 S 0.55"),
        ("Na.5Cl.5", "Na 0.5 Cl 0.5"),
        ("Li₂O", "Li 0.67 O 0.33"),
        ("ＬiＯ", "Li 0.5 O 0.5"),
        ("Si0.9996P0.0004", "Si 1 P 0.001"),
        ("Li0O", "O 1"),
        # What is no formula: read as far as it goes, and the rest is unknown.
        ("Xx2O", f"O 1 {UNK}"),
        ("Mg(OH", "H 0.33 Mg 0.33 O 0.33"),
        ("MgO)2", f"Mg 0.5 O 0.5 {UNK}"),
        ("LiCoO2-x", f"Li 0.25 Co 0.25 O 0.5 {UNK}"),
        ("good", UNK),
        ("", UNK),
        ("(((", UNK),
        ("Li0", UNK),
        ("3", UNK),
    ],
)
def test_readings(formula: str, tokens: str) -> None:
    assert written(formula) == tokens


AMOUNTS = st.sampled_from(["", "1", "2", "3", "12", "0.5", "1.75", ".25", "0.1"])
ELEMENTS = st.sampled_from(SYMBOLS)
ATOMS = st.tuples(ELEMENTS, AMOUNTS).map("".join)
GROUPS = st.recursive(
    ATOMS,
    lambda inner: st.tuples(st.sampled_from(["()", "[]", "{}"]), st.lists(inner, min_size=1, max_size=3), AMOUNTS).map(
        lambda group: f"{group[0][0]}{''.join(group[1])}{group[0][1]}{group[2]}"
    ),
    max_leaves=8,
)
PARTS = st.lists(GROUPS, min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(parts=PARTS, factor=st.integers(2, 9), data=st.data())
def test_the_same_material_is_the_same_input(parts: list[str], factor: int, data: st.DataObject) -> None:
    formula = "".join(parts)
    others = [
        "".join(data.draw(st.permutations(parts))),
        formula * factor,
        f"({formula}){factor}",
        f"{factor}{formula}",
        f"[{formula}].{factor * formula}",
        "".join(f"({part}){factor}" for part in reversed(parts)),
    ]
    ids = TOKENIZER.encode([formula]).ids.tolist()
    for other in others:
        assert TOKENIZER.encode([other]).ids.tolist() == ids, other


@settings(max_examples=100, deadline=None)
@given(counts=st.dictionaries(ELEMENTS, st.integers(1, 40), min_size=1, max_size=6), factor=st.integers(1, 12))
def test_amounts_are_shares(counts: dict[str, int], factor: int) -> None:
    formula = "".join(f"{symbol}{count * factor / 10:g}" for symbol, count in counts.items())
    found = {part.symbol: float(part.amount) for part in read_formula(formula)}
    for symbol, count in counts.items():
        assert found[symbol] == pytest.approx(Fraction(count, sum(counts.values())), abs=0.00501)
    assert len(found) == len(counts)


NASTY = st.lists(
    st.sampled_from(
        ["(", ")", "[", "]", ".", "·", "0", "12", "Li", "O2", "Xx", "\t", " ", "₂", "½", "O\u0301", "[PAD]"]
    )
    | st.text(max_size=3),
    max_size=12,
).map("".join)


@pytest.mark.parametrize("segments", [1, 2])
@settings(max_examples=200, deadline=None)
@given(text=NASTY)
def test_any_text_is_read_without_a_crash(segments: int, text: str) -> None:
    tokenizer = composition(segments, max_length=9)
    row = tokenizer.encode_with_offsets([text])[0]
    arrays = tokenizer.encode([text])
    assert row.input_ids == arrays.ids.tolist()
    assert row.truncated == bool(arrays.num_truncated)
    assert 0 < len(row.input_ids) <= 9
    for token, (start, end) in zip(row.tokens, row.offsets, strict=True):
        assert 0 <= start <= end <= len(text)
        if token in SYMBOLS:
            assert token[0] in text[start:end] or not text.isascii()
    words = merge_words(text, row, [1 / len(row.tokens)] * len(row.tokens))
    assert sum(word.weight for word in words) == pytest.approx(1)
    assert all(before.end <= after.start for before, after in pairwise(words))
    assert all(word.text == text[word.start : word.end] for word in words)


def test_a_formula_that_never_ends_is_read_in_part() -> None:
    for text in ("(" * 100_000, "9" * 100_000, "H9" * 100_000, "(H" * 50_000 + ")9" * 50_000, "H" + "1" * 10_000):
        row = TOKENIZER.encode_with_offsets([text])[0]
        assert row.tokens[-1] == UNK
        assert row.offsets[-1][1] == len(text)


def test_segments_are_formulas_of_their_own() -> None:
    tokenizer = composition(2)
    row = tokenizer.encode_with_offsets(["Li2O\tOFe"])[0]
    assert row.tokens == ["Li", "0.67", "O", "0.33", "\t", "Fe", "0.5", "O", "0.5"]
    assert row.offsets == [(0, 3), (0, 3), (3, 4), (3, 4), (4, 5), (6, 8), (6, 8), (5, 6), (5, 6)]
    again = TextTokenizer.from_files(*(content.encode() for content in tokenizer.to_files().values()), "run")
    assert again.encode_with_offsets(["Li2O\tOFe"]) == [row]


def test_places_in_the_periodic_table() -> None:
    assert len(set(SYMBOLS)) == 118
    places = {symbol: (place.period, place.group, place.block) for symbol, place in PLACES.items()}
    assert places["H"] == (1, 1, "s")
    assert places["He"] == (1, 18, "s")
    assert places["Al"] == (3, 13, "p")
    assert places["Fe"] == (4, 8, "d")
    assert places["Yb"] == (6, 3, "f")
    assert places["Lu"] == (6, 3, "d")
    assert places["Pb"] == (6, 14, "p")
    assert places["U"] == (7, 3, "f")
    assert places["Og"] == (7, 18, "p")
    assert PLACES["Fe"].electrons == (2, 0, 6, 0)
    assert PLACES["Pb"].electrons == (2, 2, 10, 14)
    # All electrons of an element: those of the noble gas before it, and its own.
    for number, symbol in enumerate(SYMBOLS, 1):
        before = max((gas for gas in (0, 2, 10, 18, 36, 54, 86) if gas < number), default=0)
        assert before + sum(PLACES[symbol].electrons) == number


def test_vectors_of_neighbours_begin_alike() -> None:
    vectors = periodic_vectors(TOKENIZER, 64, seed=1)
    row = TOKENIZER.backend.get_vocab()

    def likeness(one: str, other: str) -> float:
        a, b = vectors.matrix[row[one]], vectors.matrix[row[other]]
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert likeness("K", "Rb") > likeness("K", "Br") + 0.2
    assert likeness("Ce", "Pr") > likeness("Ce", "O") + 0.2
    assert likeness("0.5", "0.51") > likeness("0.5", "0.6") > likeness("0.5", "0.99")
    assert vectors.found.tolist() == [False, False] + [True] * (TOKENIZER.vocab_size - 2)
    assert np.array_equal(vectors.matrix, periodic_vectors(TOKENIZER, 64, seed=1).matrix)


def test_skipgram_reads_formulas_written_out() -> None:
    config = VectorsConfig.model_validate({"source": "skipgram", "epochs": 1})
    found = train_skipgram(config, iter(["Li2O", "Fe2O3"] * 10), TOKENIZER, 8, 1).found
    names = TOKENIZER.backend.get_vocab()
    assert {name for name, number in names.items() if found[number]} == {"Li", "Fe", "O", "0.67", "0.33", "0.4", "0.6"}


def test_the_periodic_table_is_for_formulas() -> None:
    with pytest.raises(ConfigError, match=r"is for formulas, not for tokenizer\.type=word") as caught:
        textattn.train("quickstart", ["model.vectors.source=periodic_table"])
    assert caught.value.hint == "tokenizer.type=composition"


def test_an_element_that_stands_twice_has_its_weight_at_both_places() -> None:
    model = build(kind="composition")
    (explanation,) = model.explain(["CH3COOH"])
    assert [(word.text, word.start) for word in explanation.words] == [
        ("C", 0), ("H3", 1), ("C", 3), ("O", 4), ("O", 5), ("H", 6)
    ]  # fmt: skip
    weights = dict(zip(zip(explanation.tokens, explanation.offsets, strict=True), explanation.weights, strict=True))
    hydrogen = weights["H", (1, 3)] + weights["0.5", (1, 3)]
    assert explanation.words[1].weight == pytest.approx(hydrogen * 3 / 4)
    assert explanation.words[5].weight == pytest.approx(hydrogen / 4)
    elements = by_element(explanation).words
    assert [word.text for word in elements] == ["C", "H", "O"]
    assert elements[1].weight == pytest.approx(hydrogen)
    for method in ("occlusion", "integrated_gradients", "lime", "kernel_shap"):
        (other,) = model.explain(["CH3COOH"], method=method)
        assert [word.text for word in other.words] == ["C", "H3", "C", "O", "O", "H"]
        assert sum(word.weight for word in other.words) == pytest.approx(sum(other.weights), abs=1e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Told apart by oxygen alone, wherever it stands in the formula."""
    folder = tmp_path_factory.mktemp("composition")
    metals = ["Li", "Na", "K", "Mg", "Ca", "Fe", "Cu", "Zn"]
    rows = [f"{a}{b}O{n},yes\n{b}{n}{a}2,no" for a in metals for b in metals if a < b for n in (2, 3)]
    (folder / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    settings = {
        "data": {"path": str(folder / "data.csv"), "test_fraction": 0.0},
        "tokenizer": {"type": "composition"},
        "model": {"vectors": {"source": "periodic_table"}, "embedding_dim": 16, "hidden_size": 16, "num_heads": 2,
                  "attention": "multi_head", "output": "sigmoid"},
        "training": {"epochs": 8, "batch_size": 8, "learning_rate": 0.02},
        "output": {"dir": str(folder / "run"), "plots": False, "audit_examples": 5},
    }  # fmt: skip
    return textattn.train(settings)


def test_a_model_answers_the_same_for_the_same_material(run: Path) -> None:
    for runtime in ("onnx", "torch"):
        model = textattn.load(run, runtime=runtime)
        same = ["Li2O", "Li4O2", "OLi2", "(Li2O)3", "Li0.5O0.25"]
        # Rows of one product differ in the last bit on processors whose kernels take some rows at a time.
        assert np.ptp(model.predict_proba(same)[:, 1]) < 1e-6 < np.ptp(model.predict_proba(["Li2O", "LiO"])[:, 1])
        # None of these was in the data.
        answers = [prediction.label for prediction in model.predict(["O2CaFe", "LiZn3O4", "FeCa2", "Fe3Zn2"])]
        assert answers == ["yes", "yes", "no", "no"]
        assert np.isfinite(model.predict_proba(["?", "Xx", ")(", "Fe" * 5_000])).all()


def test_every_command_takes_formulas(run: Path, tmp_path: Path) -> None:
    done = cli("explain", "--model", run, "--json", "--flip", "--method", "occlusion", "Fe2(NaO3)3Fe")
    value = json.loads(done.out)
    assert [word["word"] for word in value["words"]] == ["Fe2", "Na", "O3", "Fe"]
    assert max(value["words"], key=lambda word: word["weight"])["word"] == "O3"
    assert {word["word"] for word in value["flip"]["words"]} <= {"Fe2", "Na", "O3"}
    assert cli("explain", "--model", run, "--plot", tmp_path / "x.svg", "Fe2O3Fe").code == 0
    assert cli("explain", "--model", run, "--html", tmp_path / "x.html", "Fe2O3Fe").code == 0
    audited = cli("audit", "--model", run, "--split", "validation", "--methods", "attention,lime")
    assert audited.code == 0, audited.err
    entries = lexicon(textattn.load(run), ["Fe2O3", "O2Fe", "FeO4", "Cu2O", "CuO3"], [["yes"]] * 5)["yes"]
    assert entries[0].word == "O"
    bundle = tmp_path / "model.zip"
    assert cli("export", "--model", run, "--bundle", bundle).code == 0
    assert cli("predict", "--model", bundle, "Na2O").out == cli("predict", "--model", run, "ONa2").out


def test_a_model_of_formulas_as_they_are_written_stays_one(run: Path, tmp_path: Path) -> None:
    """`formula` is what it was: its models know brackets and numbers, and no shares."""
    old = tmp_path / "run"
    shutil.copytree(run, old)
    settings_file = old / "tokenizer_config.json"
    settings_file.write_text(settings_file.read_text().replace('"composition"', '"formula"'))
    assert textattn.load(unsealed(old)).tokenizer.encode_with_offsets(["Fe 0.5"])[0].tokens == ["Fe", "0.5"]
    assert textattn.load(run).tokenizer.encode_with_offsets(["Fe 0.5"])[0].tokens == ["Fe", "1"]
