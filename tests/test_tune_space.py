"""The space that a search tries: what stands in it by itself, and what is wrong in one, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies import SPACE, search, write_space

from textattn.config import load_config
from textattn.config.space import DEFAULT_SPACE, load_space
from textattn.config.yaml12 import parse_yaml
from textattn.errors import ConfigError


def test_the_default_space_without_what_is_set_or_has_no_meaning() -> None:
    keys = list(parse_yaml(DEFAULT_SPACE, "").value)
    config = load_config("quickstart")
    assert [parameter.key for parameter in load_space(None, config)] == keys
    assert [p.key for p in load_space(None, config, ["training.learning_rate=1e-3"])] == keys[1:]
    plain = load_config("quickstart", ["model.encoder=none", "model.anchor=none"])
    assert "model.hidden_size" not in [p.key for p in load_space(None, plain)]
    for parameter in load_space(None, config):
        assert parse_yaml(DEFAULT_SPACE, "").value[parameter.key] == parameter.to_yaml()


def test_numbers_are_tried_as_they_are_written(tmp_path: Path) -> None:
    config = load_config("quickstart")
    path = write_space(
        tmp_path,
        "training.learning_rate: {low: 1e-5, high: 1, log: true}\n"
        "model.dropout.words: {low: 0, high: 0.32, step: 0.05}\n"
        "training.weight_decay: {low: 0.12345, high: 0.12346}\n"
        "training.epochs: {low: 1, high: 9}\n",
    )
    rate, words, decay, epochs = load_space(str(path), config)
    assert (rate.tidy(0.00123456), rate.tidy(1.00001e-5), rate.tidy(0.9999999)) == (0.001235, 1e-5, 1.0)
    assert (words.high, words.tidy(0.15000000000000002)) == (0.3, 0.15)
    assert decay.low < decay.tidy(0.123456789) < decay.high
    assert (epochs.tidy(3), epochs.whole, words.whole) == (3, True, False)
    assert words.holds(0.15)
    assert not words.holds(0.16)
    assert not epochs.holds(10)


RANGE = "{low: 0.1, high: 0.5}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("training.learning_rte: [0.1]", "training.learning_rte: unknown key; did you mean 'learning_rate'?"),
        ("learning_rate: [0.1]", "learning_rate: unknown key; did you mean 'training.learning_rate'?"),
        ("training.epochs.x: [1]", "training.epochs.x: training.epochs is not a section"),
        (
            "training: {epochs: [1]}",
            "training: is a section; write the whole key of each setting, such as training.epochs",
        ),
        ("seed: [1, 2]", "seed: cannot be searched: the best of several seeds is the luckiest"),
        ("data.label: [a, b]", "data.label: cannot be searched: trials on different texts"),
        ("output.dir: [a]", "output.dir: cannot be searched: "),
        ("training.metric: [auroc]", "training.metric: cannot be searched: "),
        ("training.learning_rate: 0.1", "training.learning_rate: expected a range or a list of values: "),
        ("training.learning_rate: []", "training.learning_rate: the list is empty"),
        ("training.epochs: [1, 2, 1]", "training.epochs: the list contains 1 twice"),
        ("training.epochs: [[1]]", "training.epochs: values must be text, numbers, true, false or null"),
        ("model.encoder: [gru, lsmt]", "model.encoder: must be one of 'gru', 'lstm', 'none', got 'lsmt'; did you mean"),
        ("training.epochs: [1, 0]", "training.epochs: must be greater than 0, got 0"),
        ("training.epochs: {low: 0, high: 3}", "training.epochs: must be greater than 0, got 0"),
        ("model.dropout.words: {low: 0, high: 1.0}", "model.dropout.words: must be less than 1, got 1.0"),
        (f"model.encoder: {RANGE}", "model.encoder: is not a number, so it has no range; list the values to try"),
        (f"training.epochs: {RANGE}", "training.epochs: low must be a whole number, got 0.1"),
        ("training.learning_rate: {low: 0.1}", "training.learning_rate: the range has no high"),
        ("training.learning_rate: {low: 0.5, high: 0.1}", "low must be less than high, got 0.5 and 0.1"),
        ("training.learning_rate: {low: a, high: 0.1}", "training.learning_rate: low must be a number"),
        ("training.weight_decay: {low: 0, high: 1, log: true}", "with log, low must be greater than 0, got 0"),
        ("training.weight_decay: {low: 0, high: 1, log: 1}", "log must be true or false"),
        ("training.weight_decay: {low: 0, high: 1, step: 2}", "step must be greater than 0 and at most high - low"),
        ("training.weight_decay: {low: 1, high: 2, step: 1, log: true}", "log and step cannot be combined"),
        ("training.weight_decay: {low: 1, hihg: 2}", "unknown key 'hihg'; did you mean 'high'?"),
        ("tokenizer.type: [word, pretrained]", "tokenizer: tokenizer.type=pretrained requires tokenizer.path"),
    ],
)
def test_what_is_wrong_in_a_space_is_said_with_its_line(line: str, message: str, tmp_path: Path) -> None:
    space = write_space(tmp_path, f"# mine\nmodel.hidden_size: [8]\n{line}\nmodel.num_layers: [0]\n")
    done = search(tmp_path / "study", space=space)
    assert (done.code, done.out) == (2, "")
    first, second, *_ = done.err.splitlines()
    assert first.startswith(f"Error: {space}:3: ")
    assert message in first
    assert second == f"{space}:4: model.num_layers: must be greater than 0, got 0"
    assert not (tmp_path / "study").exists()


def test_the_line_is_that_of_the_value(tmp_path: Path) -> None:
    space = write_space(tmp_path, "training.epochs:\n  - 1\n  - 0\nmodel.dropout.words:\n  low: 0.1\n  high: 2.0\n")
    done = search(tmp_path / "study", space=space)
    assert f"{space}:3: training.epochs: must be" in done.err
    assert f"{space}:6: model.dropout.words: must be" in done.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", ":1: expected settings to search, such as"),
        ("{}\n", ":1: nothing to search"),
        ("a: 1\na: 2\n", ":2: duplicate key 'a' (first on line 1)"),
        (SPACE + "training.epochs: [1, 2]\n", ":5: training.epochs: is searched, but an override sets it as well"),
    ],
)
def test_spaces_that_are_none(text: str, message: str, tmp_path: Path) -> None:
    space = write_space(tmp_path, text)
    done = search(tmp_path / "study", "training.epochs=3", space=space)
    assert (done.code, done.out) == (2, "")
    assert f"Error: {space}{message}" in done.err


def test_a_section_that_is_set_is_not_searched(tmp_path: Path) -> None:
    config = load_config("quickstart")
    keys = [parameter.key for parameter in load_space(None, config, ["model.dropout={words: 0.1}"])]
    assert keys == [key for key in parse_yaml(DEFAULT_SPACE, "").value if not key.startswith("model.dropout.")]
    path = write_space(tmp_path)
    with pytest.raises(ConfigError, match=r"model\.dropout\.words: is searched, but an override sets it as well"):
        load_space(str(path), config, ["model.dropout={words: 0.1}"])
