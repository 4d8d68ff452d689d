"""Human evidence: what a cell may hold, what is wrong with others and where, and which tokens it marks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textattn.config import load_config
from textattn.config.data_section import DataConfig
from textattn.data.evidence import marked_tokens, parse_evidence
from textattn.data.read import read_corpus, read_split
from textattn.errors import InputError

TEXT = "never boring, very good"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tests work in a folder of their own, so that messages hold short file names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spans(value: Any, tokens: Any = None, text: str = TEXT) -> list[list[int]] | None:
    found = parse_evidence(text, value, tokens)
    if found is None:
        return None
    assert found.dtype == np.int64
    assert found.shape == (len(found), 2)
    return found.tolist()  # type: ignore[no-any-return]


# One cell.


@pytest.mark.parametrize("value", [[[0, 5]], "[[0, 5]]", " [[0,5]]\n"])
def test_pairs_of_characters(value: Any) -> None:
    assert spans(value) == [[0, 5]]


def test_pairs_stay_as_they_are_given() -> None:
    assert spans([[19, 23], [0, 12], [3, 8]]) == [[19, 23], [0, 12], [3, 8]]
    assert spans([[0, 23]]) == [[0, 23]]
    assert spans([[0, 1]], text="é") == [[0, 1]]


def test_passages_of_the_text() -> None:
    assert spans(["very good", "never"]) == [[14, 23], [0, 5]]
    assert spans('["boring,"]') == [[6, 13]]
    assert spans(["good good", "it"], text="it is good\n\t good, it is") == [[6, 17], [0, 2]]
    assert spans(["  is   good "], text="it is\u00a0good") == [[3, 10]]
    assert spans(["(a+b)*"], text="why (a+b)*?") == [[4, 10]]


@pytest.mark.parametrize("value", [None, "", "  ", [], "[]", "null"])
def test_an_empty_cell_says_nothing(value: Any) -> None:
    assert spans(value) is None
    assert spans(value, ["never"]) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0-5", "expected a list, got '0-5'"),
        ("[[0, 5]", "expected a list, got '[[0, 5]'"),
        (5, "expected a list, got '5'"),
        (True, "expected a list, got 'True'"),
        ({"start": 0}, "expected a list, got \"{'start': 0}\""),
        ("{}", "expected a list, got '{}'"),
        ("x" * 99, f"expected a list, got '{'x' * 40}'"),
        ([0, 5], "expected pairs [start, end] of characters or strings, got '0'"),
        ([[0, 5], None], "expected pairs [start, end] of characters or strings, got 'None'"),
        ([[0]], "expected pairs [start, end] of characters or strings, got '[0]'"),
        ([[0, 5, 6]], "expected pairs [start, end] of characters or strings, got '[0, 5, 6]'"),
        ([[0, 5.0]], "expected pairs [start, end] of characters or strings, got '[0, 5.0]'"),
        ([[False, True]], "expected pairs [start, end] of characters or strings, got '[False, True]'"),
        (["never", [0, 5]], "expected pairs [start, end] of characters or strings, got 'never'"),
        (["Never"], "'Never' is not in the text"),
        (["never  ,"], "'never  ,' is not in the text"),
        (["never", " "], "' ' is not in the text"),
        ('["boring.*good"]', "'boring.*good' is not in the text"),
        (["x" * 99], f"'{'x' * 40}' is not in the text"),
        ([["0", "5"]], "expected pairs [start, end] of characters or strings, got \"['0', '5']\""),
        ([[5, 5]], "span [5, 5] is outside the text, which has 23 characters"),
        ([[5, 4]], "span [5, 4] is outside the text, which has 23 characters"),
        ([[-1, 4]], "span [-1, 4] is outside the text, which has 23 characters"),
        ([[0, 24]], "span [0, 24] is outside the text, which has 23 characters"),
        ([[0, 10**30]], f"span [0, {10**30}] is outside the text, which has 23 characters"),
    ],
)
def test_what_is_no_evidence_is_named(value: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        parse_evidence(TEXT, value)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("tokens", "flags", "expected"),
    [
        ("never boring , very good", [1, 0, 0, 0, 1], [[0, 5], [19, 23]]),
        (["never", "boring", ",", "very", "good"], "[0, 0, 0, 1, 1]", [[14, 23]]),
        ("never boring , very good", [1, 1, 1, 1, 1], [[0, 23]]),
        ("never boring , very good", [True, False, False, False, False], [[0, 5]]),
        ("never boring , very good", [0, 1, 1, 0, 0], [[6, 13]]),
        (["never", "good"], [1, 1], [[0, 5], [19, 23]]),  # what stands between them is not marked
        ("never boring", [0, 0], None),
        (["never boring", "very"], [1, 0], [[0, 12]]),
    ],
)
def test_a_flag_for_each_token(tokens: Any, flags: Any, expected: Any) -> None:
    assert spans(flags, tokens) == expected


def test_a_token_is_looked_for_after_the_one_before_it() -> None:
    assert spans([0, 1, 0, 1], "good not good good", "good not good good") == [[5, 8], [14, 18]]
    assert spans([0, 1], ["a", "a"], "a  a") == [[3, 4]]


@pytest.mark.parametrize(
    ("tokens", "flags", "message"),
    [
        ("never boring", [1], "1 flags for 2 tokens"),
        (5, [1], "1 flags for no tokens"),
        ("never boring", [1, 2], "expected 0 or 1 for each token, got 2"),
        ("never boring", [1, "1"], "expected 0 or 1 for each token, got '1'"),
        ("never boring", [1, None], "expected 0 or 1 for each token, got None"),
        ("boring never", [1, 1], "token 'never' is not in the text after character 12"),
        (["x" * 99], [1], f"token '{'x' * 40}' is not in the text after character 0"),
    ],
)
def test_flags_that_do_not_fit_are_named(tokens: Any, flags: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        parse_evidence(TEXT, flags, tokens)
    assert str(caught.value) == message


def test_a_token_that_is_no_string_is_named() -> None:
    with pytest.raises(ValueError, match="7"):
        parse_evidence("7 days", [1, 0], [7, "days"])


def test_tokens_may_be_a_list_as_json() -> None:
    assert spans("[1, 0]", '["never", "boring"]') == [[0, 5]]


def test_a_cell_of_brackets_is_named() -> None:
    with pytest.raises(ValueError, match="expected a list"):
        parse_evidence(TEXT, "[" * 100_000)


# Files.


def jsonl(name: str, *rows: dict[str, Any]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def rows(*evidence: Any) -> list[dict[str, Any]]:
    return [{"text": TEXT, "label": i % 2, "why": value} for i, value in enumerate(evidence)]


def config(path: Any = None, **more: Any) -> DataConfig:
    return DataConfig.model_validate({"path": path, "evidence": "why", **more})


def read(settings: DataConfig) -> list[Any]:
    evidence = read_corpus(settings).train.evidence
    assert evidence is not None
    return [None if value is None else value.tolist() for value in evidence]


def test_evidence_of_every_kind_of_file() -> None:
    expected = [[[0, 5]], None, [[6, 12], [14, 23]]]
    values = [[[0, 5]], [], [[6, 12], [14, 23]]]
    assert read(config(jsonl("x.jsonl", *rows(*values)))) == expected
    pq.write_table(pa.Table.from_pylist(rows(*values)), "x.parquet")
    assert read(config("x.parquet")) == expected
    quoted = [f'"{TEXT}",{i % 2},"{json.dumps(value)}"' for i, value in enumerate(values)]
    Path("x.csv").write_text("\n".join(["text,label,why", *quoted]) + "\n", encoding="utf-8")
    assert read(config("x.csv")) == expected
    assert read_corpus(config("x.csv", evidence=None)).train.evidence is None


def test_flags_and_tokens_of_every_kind_of_file() -> None:
    tokens = ["never", "boring", ",", "very", "good"]
    values = [
        {"text": TEXT, "label": i % 2, "why": flags, "tokens": tokens}
        for i, flags in enumerate([[0, 0, 0, 1, 1], [0] * 5, [0, 1, 0, 0, 0]])
    ]
    expected = [[[14, 23]], None, [[6, 12]]]
    assert read(config(jsonl("x.jsonl", *values), evidence_tokens="tokens")) == expected
    pq.write_table(pa.Table.from_pylist(values), "x.parquet")
    assert read(config("x.parquet", evidence_tokens="tokens")) == expected
    joined = [{**row, "tokens": " ".join(tokens), "why": json.dumps(row["why"])} for row in values]
    assert read(config(jsonl("y.jsonl", *joined), evidence_tokens="tokens")) == expected


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.parquet"])
def test_a_bad_cell_is_named_with_file_row_and_column(name: str) -> None:
    values: list[Any] = ["[[0, 5]]", "[[0, 99]]", "", "[[0, 5]]", "everything"]
    table = rows(*values)
    if name == "x.jsonl":
        jsonl(name, *table)
    elif name == "x.csv":
        lines = [f'"{row["text"]}",{row["label"]},"{row["why"]}"' for row in table]
        Path(name).write_text("\n".join(["text,label,why", *lines]) + "\n", encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(table), name)
    first = 3 if name == "x.csv" else 2  # the header is the first line
    problems = [
        f"{name}:{first}: column 'why': span [0, 99] is outside the text, which has 23 characters",
        f"{name}:{first + 3}: column 'why': expected a list, got 'everything'",
    ]
    with pytest.raises(InputError) as caught:
        read_corpus(config(name))
    assert caught.value.message == "\n".join([*problems, "2 of 5 rows cannot be used"])
    assert caught.value.hint == "mend the rows, or leave them out with data.on_bad_row=skip"
    corpus = read_corpus(config(name, on_bad_row="skip"))
    assert corpus.notes == ["\n  ".join(["skipped 2 of 5 rows:", *problems])]
    assert read(config(name, on_bad_row="skip")) == [[[0, 5]], None, [[0, 5]]]


def test_evidence_stays_with_its_text_whichever_rows_are_left_out() -> None:
    table = [
        {"text": "a" * (i + 1), "label": i % 2, "why": [[i, i + 1]]} for i in range(8)
    ]  # the evidence says how long the text is
    table[1]["text"] = ""
    table[2]["label"] = None
    table[3]["why"] = "x"
    table[4]["label"] = -1  # unlabelled: found out later than the others
    train = read_corpus(config(jsonl("x.jsonl", *table), on_bad_row="skip", label_names=["a", "b"])).train
    assert train.evidence is not None
    assert [len(text) for text in train] == [value[0][1] for value in train.evidence if value is not None]
    assert [len(text) for text in train] == [1, 6, 7, 8]
    taken = train.take(np.array([3, 0, 3]))
    assert [value.tolist() for value in taken.evidence or () if value is not None] == [[[7, 8]], [[0, 1]], [[7, 8]]]
    assert [len(text) for text in taken] == [8, 1, 8]


def test_a_split_may_lack_the_column_but_the_training_split_may_not() -> None:
    jsonl("train.jsonl", *rows([[0, 5]], None))
    jsonl("test.jsonl", {"text": TEXT, "label": 0})
    files = {"files": {"train": "train.jsonl", "test": "test.jsonl"}}
    corpus = read_corpus(config(**files))
    assert corpus.train.evidence is not None
    assert corpus.test is not None
    assert corpus.test.evidence is None
    for key in ("evidence", "evidence_tokens"):
        with pytest.raises(InputError) as caught:
            read_corpus(config(**files, **{key: "whi"}))
        assert caught.value.message == "column 'whi' not found in train.jsonl; columns are: text, label, why"
        assert caught.value.hint == f"data.{key}=why"


def test_a_split_for_a_model_that_exists_has_its_evidence() -> None:
    jsonl("x.jsonl", *rows([[0, 5]], None))
    split, notes = read_split(config("x.jsonl"), "test", ["0", "1"], False)
    assert notes == []
    assert split.evidence is not None
    assert split.evidence[0] is not None
    assert split.evidence[0].tolist() == [[0, 5]]
    assert split.evidence[1] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.evidence_tokens=tokens"], "data.evidence_tokens requires data.evidence"),
        (["data.evidence=why", "data.text=[a, b]"], "data.evidence needs a single text column, but data.text names"),
    ],
)
def test_settings_that_do_not_go_together(settings: list[str], message: str) -> None:
    from textattn.errors import ConfigError

    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", settings)
    assert message in caught.value.message


def test_the_bundled_corpus_has_evidence_for_every_review() -> None:
    corpus = read_corpus(config("bundled:reviews", evidence="evidence"))
    for split in corpus.splits().values():
        assert split.evidence is not None
        assert all(value is not None for value in split.evidence)
        assert len(split.evidence) == len(split) > 200


# Tokens.


@given(data=st.data())
def test_a_token_is_marked_if_it_shares_a_character(data: st.DataObject) -> None:
    ends = st.lists(st.integers(0, 30), min_size=2, max_size=2, unique=True).map(sorted)
    marked = data.draw(st.lists(ends, min_size=1, max_size=4))
    offsets = data.draw(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=12))
    tokens = [(start, start + length) for start, length in offsets]
    places = {place for first, last in marked for place in range(first, last)}
    expected = [bool(places & set(range(start, end))) for start, end in tokens if end > start]
    found = marked_tokens(np.array(marked), tokens)
    assert found.dtype == np.bool_
    assert [bool(flag) for flag, (start, end) in zip(found, tokens, strict=True) if end > start] == expected


def test_the_marked_tokens_of_a_text() -> None:
    offsets = [(0, 5), (6, 12), (12, 13), (14, 18), (19, 23)]
    assert marked_tokens(np.array([[6, 13], [22, 23]]), offsets).tolist() == [False, True, True, False, True]
    assert marked_tokens(np.array([[5, 6]]), offsets).tolist() == [False] * 5
    assert marked_tokens(np.array([[0, 1]]), [(0, 0)]).tolist() == [False]
