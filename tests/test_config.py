"""Configs: where they come from, how overrides change them, and how they are written."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textattn.config import (
    Config,
    config_from_mapping,
    config_title,
    dump_config,
    flat_settings,
    json_schema,
    load_config,
    name_of,
    override_text,
    shipped_configs,
)
from textattn.config.yaml12 import parse_yaml
from textattn.errors import ConfigError

MINIMAL = {"data": {"path": "reviews.csv"}}


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with two configs, seen from another folder."""
    (tmp_path / "configs").mkdir()
    for name in ("imdb", "ag_news"):
        (tmp_path / "configs" / f"{name}.yaml").write_text(f"# {name} title\nseed: 3\ndata: {{path: x}}\n")
    monkeypatch.setattr("textattn.config.load.PACKAGE", tmp_path)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


# Where a config comes from


@pytest.mark.parametrize("name", list(shipped_configs()))
def test_every_shipped_config_loads_and_has_a_title(name: str) -> None:
    assert load_config(name) == load_config(str(shipped_configs()[name]))
    assert config_title(shipped_configs()[name])


def test_all_configs_of_the_checkout_are_shipped() -> None:
    files = (Path(__file__).parent.parent / "configs").glob("*.yaml")
    assert {path.stem for path in files} == set(shipped_configs())
    assert "quickstart" in shipped_configs()


def test_a_file_wins_over_a_shipped_config_and_a_folder_does_not(shipped: Path) -> None:
    assert list(shipped_configs()) == ["ag_news", "imdb"]
    assert config_title(shipped_configs()["imdb"]) == "imdb title"
    Path("ag_news").mkdir()
    assert (load_config("imdb").seed, load_config("ag_news").seed) == (3, 3)
    Path("imdb").write_text("\ufeffseed: 4\ndata: {path: x}\n", encoding="utf-8")
    assert load_config("imdb").seed == 4


def test_the_configs_beside_the_package_are_found_in_a_checkout(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textattn.config.load.PACKAGE", shipped / "textattn")
    assert shipped_configs()["imdb"] == shipped / "configs" / "imdb.yaml"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("imbd", "imbd: no such file or shipped config; did you mean 'imdb'?"),
        ("AG-News", "AG-News: no such file or shipped config; did you mean 'ag_news'?"),
        ("configs/imdb.yml", "configs/imdb.yml: no such file or shipped config; did you mean 'imdb'?"),
        ("zzz", "zzz: no such file or shipped config; shipped configs: ag_news, imdb"),
        (".", ".: a folder without data files, and not a config; shipped configs: ag_news, imdb"),
    ],
)
def test_an_unknown_config_names_the_nearest(source: str, message: str, shipped: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(source)
    assert (caught.value.message, caught.value.hint) == (message, "textattn configs ls")
    assert caught.value.exit_code == 2


def test_a_folder_of_data_stands_for_a_config(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("reviews/train.csv", "imdb/train/pos/1.txt", "run/training_config.yaml"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text("text,label\na,b\n", encoding="utf-8")
    assert load_config("reviews").data.path == "reviews"
    assert load_config("imdb").seed == 3  # the shipped config
    assert load_config("imdb/").data.path == "imdb/"
    assert [name_of(name) for name in ("reviews", "imdb/", "imdb.yaml", "-", "reviews/.")] == [
        "reviews", "imdb", "imdb", "stdin", "reviews"
    ]  # fmt: skip
    monkeypatch.chdir("reviews")
    assert (load_config(".").data.path, name_of("."), name_of("..")) == (".", "reviews", "work")
    with pytest.raises(ConfigError) as caught:
        load_config("../run")
    assert caught.value.message == "../run: a folder; the config is a file in it"
    assert caught.value.hint == "textattn train ../run/training_config.yaml"


def test_a_setting_is_no_config(shipped: Path) -> None:
    for source, hint in {
        "data.path=my reviews.csv": "textattn train 'my reviews.csv'",
        "training.epochs=3": "textattn configs ls",
    }.items():
        with pytest.raises(ConfigError) as caught:
            load_config(source)
        said = f"{source}: a setting; a config, a data file or a folder of data comes before it"
        assert (caught.value.message, caught.value.hint) == (said, hint)


def test_the_hint_for_a_shipped_config_shows_it(shipped: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("imdb", ["training.epochs=0"])
    assert caught.value.message == "override 'training.epochs=0': training.epochs: must be greater than 0, got 0"
    assert caught.value.hint == "textattn configs show imdb"


def test_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("data: {path: x}\n"))
    assert load_config("-").data.path == "x"
    monkeypatch.setattr("sys.stdin", io.StringIO("seed: 1\ndata: {}\n"))
    with pytest.raises(ConfigError, match=r"^<stdin>:2: data: give either data\.path or data\.files$"):
        load_config("-")


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"x\.yaml:1:4: byte 0xff is not UTF-8$"):
        load_config(str(tmp_path / "x.yaml"))


def test_a_mapping_of_python_values() -> None:
    config = config_from_mapping({"data": {"path": "x", "text": ("a", "b")}}, ["seed=1"])
    assert (config.data.text, config.seed) == (["a", "b"], 1)
    with pytest.raises(ConfigError) as caught:
        config_from_mapping({"data": {"path": 3}, "training": {"epochs": 0}, "x": 1}, origin="checkpoint")
    assert caught.value.message.split("\n") == [
        "checkpoint: data.path: must be text, got 3; put it in quotes",
        "checkpoint: training.epochs: must be greater than 0, got 0",
        "checkpoint: x: unknown key; valid keys: seed, recipe, task, data, start, tokenizer, model, training, output",
    ]


def test_the_mapping_given_stays_as_it_is() -> None:
    config_from_mapping(MINIMAL, ["data.path=other.csv", "training.epochs=1"])
    assert MINIMAL == {"data": {"path": "reviews.csv"}}


def test_importing_the_config_is_light() -> None:
    code = "import sys, textattn.config; print({'torch', 'numpy', 'datasets', 'rich', 'typer'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# Overrides


def override(*words: str, **sections: Any) -> Config:
    return config_from_mapping({**MINIMAL, **sections}, words)


def test_overrides_set_values_of_every_kind() -> None:
    config = override("data.path=a=b.csv", "training.learning_rate=1e-3", "data.name=null", "tokenizer.nfkc=false")
    assert (config.data.path, config.training.learning_rate, config.tokenizer.nfkc) == ("a=b.csv", 1e-3, False)
    assert override("data.label_names=[no, 'yes']").data.label_names == ["no", "yes"]
    assert override("training.class_weights.pos=2", training=None).training.class_weights == {"pos": 2.0}


def test_a_flow_mapping_replaces_a_whole_section_and_later_overrides_win() -> None:
    given = {"epochs": 9, "batch_size": 3}
    config = override("training={epochs: 2}", "training.patience=1", training=given)
    assert (config.training.epochs, config.training.batch_size, config.training.patience) == (2, 64, 1)
    assert override("training.epochs=2", "training={}").training.epochs == 4


def test_the_same_override_twice_warns_the_caller() -> None:
    with pytest.warns(UserWarning, match="seed") as warned:
        assert config_from_mapping(MINIMAL, ["seed=1", "seed=2"]).seed == 2
    (warning,) = warned
    assert str(warning.message) == "seed is overridden more than once; the last override is used: 'seed=2'"
    assert warning.filename == __file__


def test_an_overridden_path_takes_the_place_of_files_and_the_other_way_round() -> None:
    files = {"files": {"train": "a.csv"}}
    assert override("data.path=my.csv", data=files).data == override("data.path=my.csv").data
    assert override("data.files.train=a.csv").data == override("data.files={train: a.csv}").data
    assert override("data.files=null").data.path == "reviews.csv"
    assert override("data.path=null", "data.files={train: a}").data.path is None
    with pytest.raises(
        ConfigError, match=r"^override 'data\.path=b': data: give either data\.path or data\.files, not both$"
    ):
        override("data.files.train=a", "data.path=b")


TEXT_SETTINGS = ["data.id", "data.group", "data.name", "data.encoding", "data.evidence", "data.train_split"]
NASTY = [
    "exp #2",
    "1",
    "no",
    "true",
    "a: b",
    "[x].csv",
    "[a",
    "{a",
    "'x'",
    '"x"',
    "|",
    "- a",
    "*a",
    "&",
    "!t",
    "@",
    "\t",
]
NASTY += [
    "=",
    "a=b",
    " a ",
    "#",
    "~",
    "null ",
    "1e3",
    "\n",
    "%",
    "?",
    ",",
    "[]",
    "[a] b",
    "a\\b",
    "é",
    "\U0001f600",
    "\x7f",
]
ANY_TEXT = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(st.sampled_from(TEXT_SETTINGS), ANY_TEXT, st.floats(1e-300, 1e300), st.integers(1, 10**6))
@settings(deadline=None)
def test_any_text_and_any_number_pass_through_an_override(key: str, text: str, real: float, whole: int) -> None:
    name = key.removeprefix("data.")
    if text.strip() == "null":
        text += "x"  # what unsets a setting
    config = override(f"{key}={text}", f"training.learning_rate={real!r}", f"training.epochs={whole}")
    assert getattr(config.data, name) == text
    assert (config.training.learning_rate, config.training.epochs) == (real, whole)


@given(ANY_TEXT)
@settings(deadline=None)
def test_a_column_can_always_be_named(text: str) -> None:
    """Where a list is possible too, a text that is not one stands for itself, and `override_text` writes any."""
    written = override_text(("data", "text"), text)
    found = override(f"data.text={written}").data.text
    assert found in (text, [text])
    assert written == text or text.lstrip().startswith("[")


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("data.text=[a, b]", ["a", "b"]),
        ("data.text=[1, no, 1e-3, null]", ["1", "no", "1e-3", "null"]),
        ("data.text=['Review #1', \"b\"]", ["Review #1", "b"]),
        ("data.text=[Review #1]", "[Review #1]"),
        ("data.text=[a", "[a"),
        ("data.text=[[a]]", None),
        ("data.text=null", "null"),
        ("data.label_names=[0, 1]", ["0", "1"]),
        ("data.evidence=null", None),
        ("data.on_bad_row= skip", "skip"),
    ],
)
def test_lists_texts_and_null(word: str, found: Any) -> None:
    key = word.partition("=")[0].removeprefix("data.")
    if word == "data.text=[[a]]":
        with pytest.raises(ConfigError, match=r"data\.text\[0\]: must be text, got a list"):
            override(word)
    else:
        assert getattr(override(word).data, key) == found


def test_quotes_that_reach_an_override_are_part_of_the_text_and_a_warning_says_so() -> None:
    with pytest.warns(UserWarning, match="the quotes are part of the text"):
        assert override("data.label='stars'").data.label == "'stars'"


PATHS = ["data.path", "data.files.train", "data.unlabelled.path", "data.teacher", "output.dir"]


@pytest.mark.parametrize("key", PATHS)
@pytest.mark.parametrize(("text", "found"), [("~", ""), ("~/x #1.csv", "/x #1.csv"), ("~x", None), ("a/~/b", None)])
@pytest.mark.parametrize("in_file", [False, True])
def test_a_tilde_at_the_beginning_of_a_path_is_the_home_directory(
    key: str, text: str, found: str | None, in_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    others = [] if key == "data.unlabelled.path" else ["data.unlabelled.path=u.csv"]
    if in_file:
        values: Any = text
        for part in reversed(key.split(".")):
            values = {part: values}
        base = {} if key.startswith(("data.path", "data.files")) else {"path": "reviews.csv"}
        values["data"] = base | values.get("data", {})
        config = config_from_mapping(values, others)
    else:
        config = override(f"{key}={text}", *others)
    assert flat_settings(config)[key] == (text if found is None else f"/home/me{found}")


@given(st.sampled_from(["", "data.name=", "training.class_weights=", "data="]), st.text())
@settings(deadline=None)
def test_no_override_crashes(key: str, text: str) -> None:
    try:
        override(key + text)
    except ConfigError as error:
        word = f"{key}{text}"
        assert error.message.startswith(f"override '{word}': " if len(word) <= 200 else f"override '{word[:200]}…': ")


# Writing

TRAPS = ["no", "1e-3", "010", "~", "null", "0x1F", "0o7", "12:30", "2024-01-02", ".5", "=", "<<", "a: b", "- a", "#"]
TRAPS += ["*a", "!a", "'", "\n", " ", "\t", "\x85", "\u2028", "\ufeff", "\x00", "9" * 5000, "x" * 200, "\U0010ffff"]
TEXTS = st.sampled_from(TRAPS) | st.text(min_size=1)
NAMES = TEXTS.filter(lambda text: "\0" not in text)
FILES = NAMES | st.lists(NAMES)
SOME_FILES = NAMES | st.lists(NAMES, min_size=1)
CONFIGS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "data": st.fixed_dictionaries(
            {
                "path": TEXTS.filter(lambda text: "\0" not in text),
                "label_names": st.none() | st.lists(TEXTS, min_size=2, unique=True),
            }
        )
        | st.fixed_dictionaries({"files": st.fixed_dictionaries({"train": SOME_FILES, "test": st.none() | FILES})}),
        "training": st.fixed_dictionaries(
            {
                "learning_rate": st.floats(0, exclude_min=True, allow_infinity=False),
                "class_weights": st.none() | st.dictionaries(TEXTS, st.floats(0.1, 10)) | st.just("balanced"),
            }
        ),
    }
)


@given(CONFIGS)
@settings(deadline=None)
def test_what_is_dumped_is_read_back_as_the_same_config(values: dict[str, Any]) -> None:
    config = config_from_mapping(values)
    assert config_from_mapping(parse_yaml(dump_config(config), "dump").value) == config


def test_a_dump_quotes_what_a_reader_of_yaml_1_1_or_1_2_would_misread() -> None:
    dumped = dump_config(override("data.label_names=['no', '1e-3', '010', '~', 'yes!', plain]"))
    assert "  label_names:\n  - 'no'\n  - '1e-3'\n  - '010'\n  - '~'\n  - yes!\n  - plain\n" in dumped
    assert dumped.startswith(
        "seed: 42\nrecipe: auto\ntask: classification\ndata:\n  path: reviews.csv\n  files: null\n"
    )


def test_the_json_schema_tells_editors_every_setting_and_its_meaning() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (schema["title"], schema["required"], schema["additionalProperties"]) == ("textattn config", ["data"], False)
    rate = schema["$defs"]["TrainingConfig"]["properties"]["learning_rate"]
    assert (rate["type"], rate["exclusiveMinimum"], rate["default"]) == ("number", 0, 0.002)
    for section in [schema, *schema["$defs"].values()]:
        assert all(setting["description"] for setting in section["properties"].values())
