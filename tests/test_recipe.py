"""What is not given follows the kind of the texts; what is given stands."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from inprocess import run as cli
from stopped_runs import Killed, Killer, merged, outcome, start

import textattn
from textattn.config import config_from_mapping, flat_settings, given_settings, load_config, shipped_configs
from textattn.data.read import read_corpus
from textattn.data.splits import prepare_splits
from textattn.errors import ConfigError
from textattn.runs.recipe import resolve_recipe

SMALL: dict[str, Any] = {
    "model": {"embedding_dim": 8, "hidden_size": 8},
    "training": {"epochs": 2, "checkpoint_steps": 1},
    "output": {"audit_examples": 0, "attention_examples": 0, "plots": False},
}
SHORT = [f"the {word} {noun} of number {i}" for i in range(20) for word in ("good", "bad") for noun in ("film", "meal")]
LONG = [f"{text} " + "and so it goes on and on " * 20 for text in SHORT]
DOCUMENTS = [f"{text} " + "and so it goes on and on " * 120 for text in SHORT]
CHINESE = [f"{word}的{noun}，第{i}次" for i in range(20) for word in ("很好", "不好") for noun in ("电影", "饭店")]
FORMULAS = [f"{a}{i}{b}{c}" for i in range(2, 12) for a in ("Li", "Na") for b in ("O", "S") for c in ("", "2")]
KINDS = {"short": SHORT, "long": LONG, "documents": DOCUMENTS, "characters": CHINESE, "formulas": FORMULAS}


def write(folder: Path, texts: list[str], name: str = "texts.csv", labels: str = "ab") -> Path:
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([text, labels[i % (2 * len(labels)) // 2]] for i, text in enumerate(texts))
    return path


def resolved(path: Path | str, *overrides: str, **sections: Any) -> dict[str, Any]:
    """All settings, by dotted names."""
    config = config_from_mapping(merged({"data": {"path": str(path)}}, sections), overrides)
    corpus = prepare_splits(read_corpus(config.data), config.data, config.seed)
    found, _ = resolve_recipe(config, corpus.train)
    again, note = resolve_recipe(found, corpus.train)
    assert (again, note) == (found, None)
    return flat_settings(found)


@pytest.mark.parametrize(
    "kind",
    [
        "short",
        "formulas",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("long", "documents", "characters")),
    ],
)
def test_a_file_is_trained_by_its_kind_and_the_run_says_how(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, KINDS[kind])
    small = ["model.embedding_dim=8", "model.hidden_size=8", "training.epochs=2", "model.vectors.epochs=1"]
    quick = ["output.audit_examples=0", "output.plots=false"]
    done = cli("train", path, *small, *quick, f"output.dir={tmp_path / 'run'}")
    assert done.code == 0, done.err
    assert f"Note: recipe {kind}: " in done.err
    config = load_config(str(tmp_path / "run" / "training_config.yaml"))
    assert config.recipe == kind
    assert config.training.epochs == 2  # as given
    assert config.model.ngrams == (0 if kind == "formulas" else 2)
    tokenizer = {"characters": "char", "formulas": "composition"}.get(kind, "word")
    assert config.tokenizer.type == tokenizer
    assert config.tokenizer.truncation == ("head" if kind in ("short", "formulas") else "head_tail")
    assert config.model.document == ("windows" if kind == "documents" else "whole")
    # What the run wrote, trained again, is the same run, and there is nothing left to choose.
    again = cli("train", tmp_path / "run" / "training_config.yaml", f"output.dir={tmp_path / 'again'}")
    assert "recipe" not in again.err
    assert outcome(tmp_path / "again") == outcome(tmp_path / "run")


@pytest.mark.slow
def test_real_data_sets_are_what_they_are(shared: Path) -> None:
    data = shared / "data"
    assert resolved(data / "sst2")["recipe"] == "short"
    assert resolved(data / "trec")["recipe"] == "short"
    assert resolved(data / "goemotions", "data.label=labels")["recipe"] == "short"
    assert resolved(data / "movie_rationales")["recipe"] == "documents"
    assert resolved(data / "imdb")["recipe"] == "long"
    assert resolved(data / "chnsenticorp")["recipe"] == "characters"
    assert resolved(data / "matbench_expt_is_metal")["recipe"] == "formulas"


def as_given(value: Any) -> Any:
    """As it stands in a config."""
    return "null" if value is None else value


@pytest.mark.parametrize("kind", KINDS)
def test_everything_given_stands(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, KINDS[kind])
    plain = flat_settings(config_from_mapping({"data": {"path": str(path)}}))
    chosen = resolved(path)
    changed = {key for key in plain if chosen[key] != plain[key]} - {"recipe"}
    assert changed
    for key in changed:
        # The schema's own default, but given.
        given = resolved(path, f"{key}={as_given(plain[key])}")
        assert given[key] == plain[key], key
    everything = resolved(path, f"recipe={kind}", *(f"{key}={as_given(plain[key])}" for key in changed))
    assert everything == plain | {"recipe": kind}
    assert resolved(path, "recipe=plain") == plain | {"recipe": "plain"}


def test_a_given_tokenizer_says_what_the_texts_are(tmp_path: Path) -> None:
    formulas, chinese = write(tmp_path, FORMULAS), write(tmp_path, CHINESE, "chinese.csv")
    as_words = resolved(formulas, "tokenizer.type=formula")
    assert (as_words["recipe"], as_words["model.vectors.source"]) == ("short", "skipgram")
    assert resolved(chinese, "tokenizer.type=bpe")["recipe"] == "short"
    assert resolved(write(tmp_path, SHORT, "short.csv"), "tokenizer.type=char")["recipe"] == "characters"
    # And so does a recipe.
    long = resolved(chinese, "recipe=long")
    assert (long["tokenizer.type"], long["tokenizer.max_length"]) == ("word", 400)


def test_long_documents_are_read_to_their_end(tmp_path: Path) -> None:
    def recipe(words_of_long: int, share: float, *overrides: str) -> dict[str, Any]:
        texts = [
            ("word " * words_of_long if i < share * 40 else "word " * 200) + text for i, text in enumerate(SHORT[:40])
        ]
        return resolved(write(tmp_path, texts, "documents.csv"), *overrides)

    assert recipe(300, 1.0)["recipe"] == "long"
    assert recipe(1_000, 1.0)["recipe"] == "documents"
    # Few long texts are enough where they hold much of all words.
    assert (recipe(1_000, 0.05)["recipe"], recipe(5_000, 0.05)["recipe"]) == ("long", "documents")
    found = recipe(1_000, 1.0)
    assert (found["model.document"], found["tokenizer.max_length"]) == ("windows", 20_000)
    # What cannot weigh windows reads 400 tokens, as before, unless windows are asked for.
    assert recipe(1_000, 1.0, "model.attention=max")["recipe"] == "long"
    assert recipe(1_000, 1.0, "model.document=whole")["recipe"] == "long"
    assert recipe(1_000, 1.0, "model.attention=max", "model.document=windows")["recipe"] == "documents"


def test_states_are_bound_to_words_where_that_costs_nothing(tmp_path: Path) -> None:
    def anchor(texts: list[str], labels: list[Any], *overrides: str) -> str:
        path = tmp_path / "texts.jsonl"
        rows = ({"text": text, "label": labels[i % len(labels)]} for i, text in enumerate(texts))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(resolved(path, *overrides)["model.anchor"])

    for texts in (SHORT, LONG):
        assert anchor(texts, ["a", "b"]) == "values"
        assert anchor(texts, ["a", "b", "c"]) == "states"
        assert anchor(texts, [["a"], ["b", "c"], []]) == "none"
    assert anchor(CHINESE, ["a", "b"]) == "none"


@pytest.mark.parametrize("kind", ["short", "long"])
def test_words_vote_where_the_model_can_let_them(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, KINDS[kind])
    assert resolved(path)["model.anchor"] == "values"
    for setting in ("model.encoder=none", "model.attention=mean", "model.attention=max", "model.attention=mlp"):
        assert resolved(path, setting)["model.anchor"] == "none", setting
    assert resolved(path, "model.anchor=none")["model.anchor"] == "none"


def test_words_that_are_spelt_like_elements_are_no_formulas(tmp_path: Path) -> None:
    path = write(tmp_path, ["I", "No", "He", "In", "As", "At"] * 10)
    assert resolved(path)["recipe"] == "short"


def test_little_data_is_seen_more_often(tmp_path: Path) -> None:
    few, many = (resolved(write(tmp_path, SHORT * times, f"{times}.csv")) for times in (1, 100))
    assert few["training.epochs"] > many["training.epochs"]
    assert few["model.vectors.epochs"] == many["model.vectors.epochs"] == 40
    longer = resolved(write(tmp_path, LONG * 100, "long.csv"))
    assert longer["model.vectors.epochs"] < 40


def test_texts_shown_over_and_over_are_not_learnt_by_heart(tmp_path: Path) -> None:
    path = write(tmp_path, SHORT)
    assert resolved(path, "training.sampling=balanced")["model.ngrams"] == 0
    assert resolved(path, "training.sampling=balanced", "model.ngrams=1")["model.ngrams"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_linear_part_is_fitted_first_where_that_was_measured(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, KINDS[kind], labels="abc")

    def linear(*overrides: str) -> tuple[Any, ...]:
        found = resolved(path, *overrides)
        return tuple(found[f"model.{name}"] for name in ("linear", "ngrams", "ngram_buckets"))

    together = ("together", 2, 262_144 if kind == "short" else 524_288)
    if kind in ("formulas", "characters"):
        assert linear() == ("together", 0 if kind == "formulas" else 2, 262_144)
        return
    if kind == "short":
        assert linear() == together
        # Texts with several labels each.
        path = tmp_path / "several.jsonl"
        rows = ({"text": text, "label": [["a"], ["b", "c"], []][i % 3]} for i, text in enumerate(SHORT))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert linear() == ("first", 2, 2_097_152)
    assert linear("model.ngram_buckets=1000") == ("first", 2, 1000)
    assert linear("model.linear=together") == together
    assert linear("training.sampling=balanced") == ("together", 0, together[2])
    assert linear("model.ngrams=0") == ("together", 0, together[2])
    assert linear("model.linear=only") == ("only", 2, 2_097_152)
    # What would take too long, or too much memory.
    for limit in ("MOST_TOKENS_TO_FIT", "MOST_WORK_TO_FIT"):
        with monkeypatch.context() as patched:
            patched.setattr(f"textattn.runs.recipe.{limit}", 100)
            assert linear() == together
    path = write(tmp_path, KINDS[kind], name="two.csv")
    assert linear() == together


def test_numbers_are_learnt_together_with_the_network(tmp_path: Path) -> None:
    path = tmp_path / "numbers.jsonl"
    rows = ({"text": text, "label": i / 7} for i, text in enumerate(SHORT))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = cli("train", path, "task=regression", "--dry-run", "--json")
    assert done.code == 0, done.err
    config = config_from_mapping({"data": {"path": str(path)}, "task": "regression"})
    found, _ = resolve_recipe(config, prepare_splits(read_corpus(config.data, numbers=True), config.data, 1).train)
    assert found.model.linear == "together"


@pytest.mark.parametrize(("hidden", "heads"), [(6, 4), (7, 2), (8, 4)])
def test_formulas_fit_any_size_of_states(hidden: int, heads: int, tmp_path: Path) -> None:
    assert resolved(write(tmp_path, FORMULAS), f"model.hidden_size={hidden}")["model.num_heads"] == heads


def test_shipped_configs_choose_nothing() -> None:
    for name in shipped_configs():
        assert given_settings(load_config(name))["recipe"] == "plain", name


def test_a_stopped_run_goes_on_and_refuses_what_was_given_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path, SHORT)

    def config(run: str, **training: Any) -> dict[str, Any]:
        return merged(
            SMALL, {"data": {"path": str(path)}, "training": training, "output": {"dir": str(tmp_path / run)}}
        )

    start(config("undisturbed"))
    with pytest.raises(Killed):
        start(config("run"), Killer(step=3))
    with pytest.raises(ConfigError, match=r"training.epochs: was 2, is now 3"):
        start(config("run", epochs=3), resume=True)
    with pytest.raises(ConfigError, match="recipe: was short, is now plain"):
        start({**config("run"), "recipe": "plain"}, resume=True)
    # Texts of another kind: what the run was begun with is not what would be trained now.
    write(tmp_path, LONG)
    with pytest.raises(ConfigError, match="recipe: was short, is now long"):
        start(config("run"), resume=True)
    write(tmp_path, SHORT)
    report = Killer()
    start(config("run"), report, resume=True)
    assert report.steps[0] > 1
    assert outcome(tmp_path / "run") == outcome(tmp_path / "undisturbed")
    start(config("run"), resume=True)  # nothing to do
    with pytest.raises(ConfigError, match=r"training.epochs: was 2, is now 3"):
        start(config("run", epochs=3), resume=True)


@pytest.mark.parametrize(
    "recipes", [("auto", "plain"), pytest.param(("auto", "plain", "short", "auto"), marks=pytest.mark.slow)], ids=len
)
def test_tokens_of_another_recipe_are_not_found_again(
    recipes: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTATTN_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path, LONG)
    lengths = {}
    for recipe in recipes:
        config = merged(SMALL, {"recipe": recipe, "data": {"path": str(path)}, "tokenizer": {"vocab_size": 500}})
        run = textattn.train(merged(config, {"output": {"dir": str(tmp_path / "run")}}), overwrite=True)
        tokenizer = json.loads((run / "tokenizer_config.json").read_text())
        found = tokenizer["model_max_length"], tokenizer["truncation"]
        assert lengths.setdefault(recipe, found) == found
    assert lengths.pop("auto")[0] == 400
    assert {length for length, _ in lengths.values()} == {256}


def test_check_and_baseline_look_at_the_texts_too(tmp_path: Path) -> None:
    path = write(tmp_path, CHINESE)
    checked = cli("check", path, "--json", "--no-forecast")
    assert checked.code == 0, checked.err
    assert json.loads(checked.out)["splits"]["train"]["tokens_median"] >= 8  # characters
    assert "Note: recipe characters: 100% of the letters" in checked.err
    baseline = json.loads(cli("baseline", path, "--json").out)
    assert "characters" in baseline["model"]


def test_a_data_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = cli("train", tmp_path / "nothing.csv")
    assert done.code == 2
    assert "nothing.csv: no such file or shipped config" in done.err


def test_texts_without_labels_give_words_and_their_vectors_and_the_test_split_does_not(tmp_path: Path) -> None:
    write(tmp_path, SHORT, "train.csv")
    write(tmp_path, [f"{text} in the test" for text in SHORT], "test.csv")
    (tmp_path / "more.csv").write_text("text\n" + "a splendid hotel\n" * 20)
    files = {name: str(tmp_path / f"{file}.csv") for name, file in (("train", "train"), ("test", "test"))}
    known = {}
    for name in ("with", "without"):
        data = {"files": files, "unlabelled": {"path": str(tmp_path / "more.csv")} if name == "with" else None}
        run = textattn.train(merged(SMALL, {"data": data, "output": {"dir": str(tmp_path / name)}}))
        known[name] = json.loads((run / "tokenizer.json").read_text())["model"]["vocab"].keys()
        environment = json.loads((run / "environment.json").read_text())
        assert environment["word_vectors"]["coverage"] > 0.9
        assert environment["dataset"]["num_unlabelled"] == (20 if name == "with" else 0)
        told = f"The vocabulary was also learned from 20 texts without labels in `{tmp_path / 'more.csv'}`."
        assert (told in (run / "README.md").read_text()) == (name == "with")
    assert known["with"] - known["without"] == {"splendid", "hotel", "a"}
    assert "test" not in known["with"]


@pytest.mark.parametrize("written_out", [True, False])
def test_an_automatic_recipe_may_be_written_out_when_a_run_resumes(written_out: bool, tmp_path: Path) -> None:
    """`recipe: auto` is the default: a config that says so is the same config."""
    path = write(tmp_path, SHORT)
    begun, resumed = ({}, {"recipe": "auto"}) if written_out else ({"recipe": "auto"}, {})

    def config(more: dict[str, Any]) -> dict[str, Any]:
        return merged(SMALL, {"data": {"path": str(path)}, "output": {"dir": str(tmp_path / "run")}, **more})

    with pytest.raises(Killed):
        start(config(begun), Killer(step=2))
    report = Killer()
    start(config(resumed), report, resume=True)
    assert report.steps[0] > 1
    # A recipe by another name is another training.
    with pytest.raises(ConfigError, match=r"recipe: was short, is now long"):
        start(config({"recipe": "long"}), resume=True)


def test_a_search_takes_an_automatic_recipe_that_is_written_out(tmp_path: Path) -> None:
    path = write(tmp_path, SHORT)
    small = ["model.embedding_dim=8", "model.hidden_size=8", "training.epochs=1", "model.vectors.source=random"]
    command = ["tune", path, *small, "--dir", tmp_path / "study"]
    first = cli(*command, "--trials", "1")
    assert first.code == 0, first.err
    again = cli(*command, "recipe=auto", "--trials", "2")
    assert again.code == 0, again.err
