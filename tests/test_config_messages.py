"""Every mistake in a config or an override is named in one line: where it is, what is wrong, what was meant."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from pathlib import Path

import pytest

from textattn.config import config_from_mapping, dump_config, load_config
from textattn.errors import ConfigError

Refuse = Callable[..., list[str]]
FULL = dump_config(config_from_mapping({"data": {"path": "reviews.csv"}}))
REALISTIC = [
    "# IMDb reviews\n#\n#   textattn train imdb\n\n" + FULL,
    """\
# Own files
seed: 7

data:
  files:
    train: [a.csv, b.csv]
    test: c.csv
  text: [title, body]
  label_names: [no, yes]
  validation_fraction: 0.2
training:
  learning_rate: 1e-3   # YAML 1.1 would read this as text
  class_weights: {no: 1, yes: 2.5}
  device: cuda:1
output:
  attention_splits:
    - validation
    - test
""",
]


@pytest.fixture
def refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Writes x.yaml and returns the lines of the ConfigError it is refused with; `hint` is checked if given."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, *overrides: str, hint: str | None = None) -> list[str]:
        Path("x.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load_config("x.yaml", overrides)
        assert caught.value.exit_code == 2
        assert hint is None or caught.value.hint == hint
        return caught.value.message.split("\n")

    return load


@pytest.mark.parametrize(("text", "got"), [("- a", "a list"), ("data", "'data'"), ("~", "null")])
def test_a_config_is_a_mapping(text: str, got: str, refuse: Refuse) -> None:
    assert refuse(text) == [f"x.yaml:1: expected a mapping (key: value), got {got}"]


NO_OTHER = "and no other {} allows it"
ONE_VALUE = "expected one value, [a, b] or {a: b};"
CHOICES = "must be one of 'one_cycle', 'linear', 'constant', got"
WRONG_VALUES = [
    ("seed", "-1", "must be at least 0, got -1"),
    ("seed", "4294967296", "must be less than 4294967296, got 4294967296"),
    ("seed", "'42'", "must be a whole number, got '42'; drop the quotes"),
    ("data", "reviews.csv", "must be a mapping, got 'reviews.csv'"),
    ("data.path", "''", "must not be empty"),
    ("data.path", '"\\uD800"', "must be valid Unicode"),
    ("data.name", "2020", "must be text, got 2020; put it in quotes"),
    ("data.text", "[]", "needs at least 1 entries, got 0"),
    ("data.text", "3", "must be text or a list, got 3; put it in quotes"),
    ("data.text", "{a: b}", "must be text or a list, got a mapping"),
    ("data.label", "~", "must be text or a list, got null"),
    ("data.label_names", "[only]", "needs at least 2 entries, got 1"),
    ("data.validation_fraction", "1", "must be less than 1, got 1"),
    ("data.validation_fraction", "-0.1", "must be at least 0, got -0.1"),
    ("data.on_bad_row", "Skip", "must be one of 'error', 'skip', got 'Skip'; did you mean 'skip'?"),
    ("tokenizer.vocab_size", "3", "must be at least 10, got 3"),
    ("tokenizer.vocab_size", "3e4", "must be a whole number, got 30000.0; write 30000"),
    ("tokenizer.max_length", "1_000", "must be a whole number, got '1_000'"),
    ("tokenizer.lowercase", "no", "must be true or false, got 'no'; write false"),
    ("tokenizer.nfkc", "'true'", "must be true or false, got 'true'; drop the quotes"),
    ("tokenizer.nfkc", "1", "must be true or false, got 1"),
    ("tokenizer.path", "t.json", f"tokenizer.type=pretrained requires tokenizer.path, {NO_OTHER.format('type')}"),
    (
        "model.vectors.path",
        "glove.gz",
        f"model.vectors.source=file or hub requires model.vectors.path, {NO_OTHER.format('source')}",
    ),
    ("model.dropout", "0.5", "must be a mapping, got 0.5"),
    ("model.dropout.words", "-0.1", "must be at least 0, got -0.1"),
    ("model.dropout.words", ".nan", "must be finite, got .nan"),
    ("model.num_layers", "true", "must be a whole number, got true"),
    ("model.num_layers", "1.5", "must be a whole number, got 1.5"),
    ("model.output", "softmx", "must be one of 'softmax', 'sigmoid', got 'softmx'; did you mean 'softmax'?"),
    ("training", "", "must be a mapping, got null"),
    ("training.learning_rate", "-1", "must be greater than 0, got -1"),
    ("training.learning_rate", "true", "must be a number, got true"),
    ("training.learning_rate", "'1e-3'", "must be a number, got '1e-3'; drop the quotes"),
    ("training.learning_rate", "'true'", "must be a number, got 'true'"),
    ("training.learning_rate", "-.inf", "must be finite, got -.inf"),
    ("training.learning_rate", "[1e-3]", "must be a number, got a list"),
    ("training.schedule", "one-cycle", f"{CHOICES} 'one-cycle'; did you mean 'one_cycle'?"),
    ("training.schedule", "cosine", f"{CHOICES} 'cosine'"),
    ("training.schedule", "null", f"{CHOICES} null"),
    ("training.class_weights", "balancd", "must be 'balanced' or a mapping, got 'balancd'; did you mean 'balanced'?"),
    ("training.class_weights", "3", "must be 'balanced' or a mapping, got 3"),
    ("training.device", "gpu", "must be auto, cpu, cuda, cuda:N or mps, got 'gpu'"),
    ("training.device", "x" * 99, f"must be auto, cpu, cuda, cuda:N or mps, got '{'x' * 55}...'"),
    ("output.prediction_splits", "test", "must be a list, got 'test'"),
]


def damage(text: str, key: str, value: str) -> tuple[str, int]:
    """The text with `value` at the dotted key (and what stood below it removed), and the line of the key."""
    lines, parts, at = text.split("\n"), key.split("."), -1
    for depth, part in enumerate(parts):
        at = next(i for i in range(at + 1, len(lines)) if lines[i].startswith(f"{'  ' * depth}{part}:"))
    end = at + 1
    while end < len(lines) and (lines[end].startswith("  " * len(parts)) or lines[end].lstrip().startswith("- ")):
        end += 1
    return "\n".join([*lines[:at], f"{'  ' * (len(parts) - 1)}{parts[-1]}: {value}", *lines[end:]]), at + 1


@pytest.mark.parametrize(("key", "value", "message"), WRONG_VALUES)
def test_a_wrong_value_is_one_line_in_words(key: str, value: str, message: str, refuse: Refuse) -> None:
    text, line = damage(REALISTIC[0], key, value)
    shown = key.rpartition(".")[0] if " require" in message else key
    assert refuse(text, hint="textattn check x.yaml") == [f"x.yaml:{line}: {shown}: {message}"]


def misspell(name: str, rng: random.Random) -> list[str]:
    """The key with a letter dropped, doubled, swapped and replaced, with hyphens, and in other cases."""
    at = rng.randrange(len(name))
    swap = rng.randrange(len(name) - 1)
    words = [
        name[:at] + name[at + 1 :],
        name[:at] + name[at] + name[at:],
        name[:swap] + name[swap + 1] + name[swap] + name[swap + 2 :],
        name[:at] + rng.choice(string.ascii_lowercase) + name[at + 1 :],
        name.replace("_", "-"),
        name.upper(),
        name.title().replace("_", ""),
    ]
    return [word for word in words if word != name]


@pytest.mark.parametrize(
    ("texts", "least"), [(REALISTIC[1:], 80), pytest.param(REALISTIC, 400, marks=pytest.mark.slow)], ids=["own", "all"]
)
def test_damaged_configs_are_all_refused_at_the_right_line_and_nearly_all_suggestions_are_right(
    texts: list[str], least: int, refuse: Refuse
) -> None:
    rng = random.Random(0)
    right = wrong = 0
    for text in texts:
        lines = text.split("\n")
        for at, line in enumerate(lines):
            name, colon, _ = line.lstrip(" ").partition(":")
            if not colon or not name.isidentifier():
                continue
            for word in misspell(name, rng):
                damaged = "\n".join([*lines[:at], line.replace(name, word, 1), *lines[at + 1 :]])
                (problem,) = refuse(damaged, hint="textattn schema")
                assert problem.startswith(f"x.yaml:{at + 1}: ") and f"{word}: unknown key; " in problem
                if problem.endswith(f"; did you mean '{name}'?"):
                    right += 1
                else:
                    wrong += 1
    assert right + wrong > least
    assert right / (right + wrong) >= 0.95


UNKNOWN_KEYS = [
    ("path", "did you mean 'data.path'?"),
    ("epochs", "did you mean 'training.epochs'?"),
    ("lr", "did you mean 'training.learning_rate'?"),
    ("training.lr", "did you mean 'learning_rate'?"),
    ("training.dropout", "did you mean 'model.dropout'?"),
    ("model.path", "did you mean 'model.vectors.path'?"),
    (
        "model.vectors.dimension",
        "valid keys: source, path, spread, missing, epochs, window, negative, subsample, freeze",
    ),
    ("data.files.trian", "did you mean 'train'?"),
    ("dataset", "did you mean 'data'?"),
    ("--training", "did you mean 'training'?"),
]


@pytest.mark.parametrize(("key", "words"), UNKNOWN_KEYS)
def test_an_unknown_key_is_met_with_the_nearest_one_in_files_and_overrides(
    key: str, words: str, refuse: Refuse
) -> None:
    problem = f"{key}: unknown key; {words}"
    *sections, name = key.split(".")
    text = "".join(f"{'  ' * depth}{part}:\n" for depth, part in enumerate(sections))
    text += f"{'  ' * len(sections)}{name}: 1\n"
    # `data` is missing here; a second line says so only where the unknown key cannot stand for it.
    assert refuse(text, hint="textattn schema")[-1] == f"x.yaml:{len(sections) + 1}: {problem}"
    rest = "" if sections[:2] == ["data", "files"] else "data: {path: x}\n"
    assert refuse(rest or "seed: 1", f"{key}=1", hint="textattn schema") == [f"override '{key}=1': {problem}"]


def test_a_misspelt_key_is_not_reported_as_missing_too(refuse: Refuse) -> None:
    assert refuse("dta: {path: x}") == ["x.yaml:1: dta: unknown key; did you mean 'data'?"]
    assert refuse("path: x") == ["x.yaml:1: path: unknown key; did you mean 'data.path'?"]
    assert refuse("data: {files: {trian: x}}") == ["x.yaml:1: data.files.trian: unknown key; did you mean 'train'?"]
    assert refuse("\nsed: 1\n") == [
        "x.yaml:2: data: required but missing",
        "x.yaml:2: sed: unknown key; did you mean 'seed'?",
    ]


def test_all_problems_are_reported_at_once_sorted_by_line_with_overrides_last(refuse: Refuse) -> None:
    text = """\
training:
  epochs: 0
  learning_rte: 1
data:
  path: x
  text: [a, 1]
  label_names:
    - a
    - true
  files:
    train: b
tokenizer: {nfkc: 1, type: words}
training2: 1
"""
    overrides = ["training.batch_size=x", "seed", "training.class_weights={a: x, b: -1}", "model.num_layers=0"]
    assert refuse(text, *overrides, hint="textattn schema") == [
        "x.yaml:2: training.epochs: must be greater than 0, got 0",
        "x.yaml:3: training.learning_rte: unknown key; did you mean 'learning_rate'?",
        "x.yaml:6: data.text[1]: must be text, got 1; put it in quotes",
        "x.yaml:9: data.label_names[1]: must be text, got true; put it in quotes",
        "x.yaml:12: tokenizer.type: must be one of 'word', 'wordpiece', 'bpe', 'unigram', 'char', 'formula', "
        "'composition', 'pretrained', got 'words'; did you mean 'word'?",
        "x.yaml:12: tokenizer.nfkc: must be true or false, got 1",
        "x.yaml:13: training2: unknown key; did you mean 'training'?",
        "override 'training.batch_size=x': training.batch_size: must be a whole number, got 'x'",
        "override 'seed': expected key=value, got 'seed'",
        "override 'training.class_weights={a: x, b: -1}': training.class_weights.a: must be a number, got 'x'",
        "override 'training.class_weights={a: x, b: -1}': training.class_weights.b: must be greater than 0, got -1",
        "override 'model.num_layers=0': model.num_layers: must be greater than 0, got 0",
    ]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("foo", "expected key=value, got 'foo'"),
        ("=3", "expected key=value, got '=3'"),
        ("training..epochs=3", "expected key=value, got 'training..epochs=3'"),
        ("data.name=", "the value is missing; write data.name=null"),
        ("data.label=", "the value is missing"),
        ("seed= ", "the value is missing"),
        ("data.unlabelled=#1", "empty; quote a text that begins with '#' or '-'"),
        ("data.unlabelled=a: b", f"{ONE_VALUE} quote a text that contains ': ' or begins with | or >"),
        ("seed=|", f"{ONE_VALUE} quote a text that contains ': ' or begins with | or >"),
        ("seed=,", "expected a value here; quote a text made of punctuation"),
        ("data.files=*.csv", "a text that begins with '*' or '&' must be quoted"),
        ("data.label_names=[a", "this list lacks a closing ']' or a ','"),
        ("training={epochs: 1, epochs: 2}", "duplicate key 'epochs' (first on line 1)"),
        ("seed.x=3", "seed is not a section, it is 5"),
        ("training.epochs.x=3", "training.epochs: must be a whole number, got a mapping"),
        ("training=3", "training: must be a mapping, got 3"),
        ("training.learning_rate='\"1\"'", "training.learning_rate: must be a number, got '\"1\"'"),
        (
            "model.vectors.path=x",
            f"model.vectors: model.vectors.source=file or hub requires model.vectors.path, {NO_OTHER.format('source')}",
        ),
        ("data.path=null", "data: give either data.path or data.files"),
    ],
)
def test_a_wrong_override_is_named(word: str, message: str, refuse: Refuse) -> None:
    text = "seed: 5\ndata:\n  path: x\ntokenizer:\n  max_length: 3\n"
    assert refuse(text, word, hint="textattn schema") == [f"override '{word}': {message}"]
