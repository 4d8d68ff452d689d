"""Rows out of csv, tsv, jsonl and parquet files, and what is said about damaged ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textattn.data.files import open_file
from textattn.data.table import RowProblem
from textattn.errors import InputError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(path: Path, *columns: str, encoding: str = "utf-8") -> list[Any]:
    """The rows as tuples, and problems as the strings a user sees (file name without its folder)."""
    table = open_file(path, encoding)
    found = table.rows(list(columns) or table.columns)
    return [
        str(row).replace(f"{path.parent}/", "") if isinstance(row, RowProblem) else (row[0], *row[1]) for row in found
    ]


def error(path: Path, *columns: str, encoding: str = "utf-8") -> str:
    with pytest.raises(InputError) as caught:
        rows(path, *columns, encoding=encoding)
    return caught.value.message.replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text,label\na,1\nb,2\n", [(2, "a", "1"), (3, "b", "2")]),
        ("text,label\na,1", [(2, "a", "1")]),
        ("text,label\r\na,1\r\nb,2\r\n", [(2, "a", "1"), (3, "b", "2")]),
        ("text,label\ra,1\rb,2\r", [(2, "a", "1"), (3, "b", "2")]),
        ("\ufefftext,label\na,1\n", [(2, "a", "1")]),
        (" text , label\na,1\n", [(2, "a", "1")]),
        ('text,label\n"a, ""b""",1\n', [(2, 'a, "b"', "1")]),
        ('text,label\n"a\nb\n\nc",1\nd,2\n', [(2, "a\nb\n\nc", "1"), (6, "d", "2")]),
        ('text,label\n"a\r\nb",1\r\nd,2\r\n', [(2, "a\r\nb", "1"), (4, "d", "2")]),
        ("text,label\n\na,1\n\n\nb,2\n\n", [(3, "a", "1"), (6, "b", "2")]),
        ("text,label\n  a ,é🏽\n", [(2, "  a ", "é🏽")]),
        ("text,label\na,\n,1\n", [(2, "a", ""), (3, "", "1")]),
    ],
)
def test_csv_rows_come_with_the_line_they_start_on(tmp_path: Path, content: str, expected: list[Any]) -> None:
    assert rows(write(tmp_path / "x.csv", content)) == expected


def test_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    assert rows(write(tmp_path / "x.csv", "a,b,c\n1,2,3\n"), "c", "a") == [(2, "3", "1")]
    assert rows(write(tmp_path / "x.tsv", "a\tb, c\n1\t2, 3\n"), "b, c", "a") == [(2, "2, 3", "1")]


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), max_size=6), st.sampled_from([",", "\t"]), st.sampled_from(["\n", "\r\n"]))
def test_whatever_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], delimiter: str, end: str
) -> None:
    import csv

    path = tmp_path_factory.getbasetemp() / ("round.csv" if delimiter == "," else "round.tsv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "label"), *cells])
    assert [row[1:] for row in rows(path)] == cells


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1,2\n3\n4,5,6\n7,8\n", [
            (2, "1", "2"),
            "x.csv:3: 1 field, but the header has 2 (a, b)",
            "x.csv:4: 3 fields, but the header has 2 (a, b)",
            (5, "7", "8"),
        ]),
        ('a,b\n"1,",2\n"3,4\n5,6\n', [(2, "1,", "2"), "x.csv:3: not csv: unexpected end of data (lines 3 to 4)"]),
        ('a,b\n"1,"x,2\n3,4\n', ["x.csv:2: not csv: ',' expected after '\"'", (3, "3", "4")]),
        ('a,b\n"1,2\n3,4\n"5,",6\n7,8\n', [
            "x.csv:2: not csv: ',' expected after '\"' (lines 2 to 4)",
            (5, "7", "8"),
        ]),
        ("a,b\n1,2\x00\n3,4\n", ["x.csv:2: not csv: line contains NUL", (3, "3", "4")]),
    ],
)  # fmt: skip
def test_a_bad_csv_row_is_named_and_the_rest_is_read(tmp_path: Path, content: str, expected: list[Any]) -> None:
    assert rows(write(tmp_path / "x.csv", content)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "x.csv: empty file; expected a header line with the column names"),
        ("\n\n", "x.csv: empty file; expected a header line with the column names"),
        ("text,label,text\na,1,b\n", "x.csv:1: a column name stands twice in the header: text, label, text"),
        ("text, text\na,b\n", "x.csv:1: a column name stands twice in the header: text, text"),
        ('"text,label\na,1\n', "x.csv:1: not csv: unexpected end of data (lines 1 to 2)"),
        ("text,label\na,1\n".encode("utf-16-le"), "x.csv: text in UTF-16-LE"),
        (b"text,label\na,1\nna\xefve,2\n", "x.csv:3: byte 3 of the line (0xef) is not utf-8"),
        (b"t\xe9xt,label\na,1\n", "x.csv:1: byte 2 of the line (0xe9) is not utf-8"),
    ],
)
def test_a_csv_file_that_cannot_be_read(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert error(write(tmp_path / "x.csv", content)) == message


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "text,label\n")
    assert open_file(path).columns == ["text", "label"] and rows(path) == []


def test_a_wrong_byte_late_in_a_large_file_is_found_on_its_line(tmp_path: Path) -> None:
    lines = [b"text,label"] + [b"some words,1"] * 5000 + [b"caf\xe9,1"]
    assert error(write(tmp_path / "x.csv", b"\n".join(lines))) == "x.csv:5002: byte 4 of the line (0xe9) is not utf-8"
    lines = [b'{"a": "some words"}'] * 5000 + [b'{"a": "caf\xe9"}']
    assert error(write(tmp_path / "x.jsonl", b"\n".join(lines))).startswith("x.jsonl:5001: byte 11 of the line (0xe9)")


def test_other_encodings(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "text,label\ncafé,1\n".encode("cp1252"))
    assert rows(path, encoding="cp1252") == [(2, "café", "1")]
    path = write(tmp_path / "x.csv", "text,label\ncafé,1\n".encode("utf-16"))
    assert rows(path, encoding="utf-16") == [(2, "café", "1")]
    for name in ("utf-8", "UTF-8", "utf8", "UTF_8", "u8", "utf-8-sig"):
        assert rows(write(tmp_path / "x.csv", "\ufefftext\na\n"), "text", encoding=name) == [(2, "a")]
        assert rows(write(tmp_path / "x.jsonl", '\ufeff{"text": "a"}\n'), "text", encoding=name) == [(1, "a")]


def test_a_wrong_encoding_is_an_input_error_with_a_hint(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "text,label\na,1\n")
    assert error(path, encoding="utf-16").startswith("x.csv: not utf-16 (")
    for name in ("utf-9", "rot13", "\udcff", "undefined", "idna", "a\0b"):
        for suffix in (".csv", ".jsonl"):
            assert error(write(path.with_suffix(suffix), '{"a": 1}'), encoding=name) == f"unknown encoding {name!r}"
    write(path, "text,label\na,1\n")
    with pytest.raises(InputError) as caught:
        open_file(write(path, b"caf\xe9\n"), "utf-8")
    assert caught.value.hint == "data.encoding=cp1252 (or whatever the file was saved in)"


def test_jsonl_rows_come_with_their_line(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", '{"text": "a", "label": 1}\n\n  \n{"label": [true], "text": "b\\nc", "id": 7}\n')
    assert open_file(path).columns == ["text", "label", "id"]
    assert rows(path, "label", "text") == [(1, 1, "a"), (4, [True], "b\nc")]


def test_a_bad_jsonl_row_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    deep = "[" * 100_000
    lines = ['{"text": "a"}', '{"text": "b"', '["c"]', "7", '{"id": 1}', '{"text": "\\ud83d"}', deep, '{"text": "😀"}']
    found = rows(write(tmp_path / "x.jsonl", "\n".join([*lines, '{"text": "\\ud83d\\ude00"}'])), "text")
    assert found[0] == (1, "a") and found[-2:] == [(8, "😀"), (9, "😀")]
    assert found[1].startswith("x.jsonl:2: not JSON: Expecting ',' delimiter")
    assert found[2:4] == [f'x.jsonl:{n}: expected a JSON object such as {{"text": …, "label": …}}' for n in (3, 4)]
    assert found[4] == (5, None), "a missing key is an empty cell"
    assert found[5] == "x.jsonl:6: not JSON: a \\u escape is half of a character"
    assert found[6].startswith("x.jsonl:7: not JSON: ")


def test_the_first_jsonl_row_need_not_have_every_key(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", '{}\n{"text": "a"}\n{"text": "b", "label": 1}\n')
    assert open_file(path).columns == ["text", "label"]
    assert rows(path) == [(1, None, None), (2, "a", None), (3, "b", 1)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "x.jsonl: no rows; expected one JSON object a line"),
        ("\n\n", "x.jsonl: no rows; expected one JSON object a line"),
        ('["text"]\n', 'x.jsonl:1: expected a JSON object such as {"text": …, "label": …}'),
        ("[]", "x.jsonl: no rows; expected one JSON object a line"),
        ('[{"text": "a"},\n{"text": "b"}', "x.jsonl:2: not JSON: expected ',' or ']', but the file ends"),
        ('[{"text": "a"},\n{"text": "b"', "x.jsonl:2: not JSON: Expecting ',' delimiter"),
        ('[{"text": "a"}] 7', "x.jsonl:1: not JSON: something follows the end of the array"),
        ('[{"text": ' + "[" * 100_000, "x.jsonl:1: not JSON: nested too deeply"),
        ("text,label\na,1\n", "x.jsonl:1: not JSON: Expecting value at character 1"),
    ],
)
def test_a_jsonl_file_without_rows(tmp_path: Path, content: str, message: str) -> None:
    assert error(write(tmp_path / "x.jsonl", content)) == message


def write_parquet(path: Path, features: str = "", **columns: list[Any]) -> Path:
    table = pa.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": '{"info": {"features": ' + features + "}}"})
    pq.write_table(table, path)
    return path


def test_parquet_rows_and_the_class_names_of_the_hub(tmp_path: Path) -> None:
    features = """{"text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
        "old": {"feature": {"names": ["a", "b"], "_type": "ClassLabel"}, "_type": "Sequence"},
        "both": {"feature": {"names": ["c", "d"], "_type": "ClassLabel"}, "_type": "List"},
        "pair": [{"dtype": "string", "_type": "Value"}]}"""
    path = write_parquet(tmp_path / "x.parquet", features, text=["x", None], label=[1, -1], both=[[0, 1], []])
    table = open_file(path)
    assert table.columns == ["text", "label", "both"]
    assert table.class_names == {"label": ["neg", "pos"], "old": ["a", "b"], "both": ["c", "d"]}
    assert rows(path, "both", "text", "label") == [(1, [0, 1], "x", 1), (2, [], None, -1)]


NAMES = '{"label": {"names": %s, "_type": "ClassLabel"}}'


@pytest.mark.parametrize(
    "features",
    ["", "7", "[]", "null", '{"label": 3}', '{"label": {"_type": "ClassLabel"}}']
    + [NAMES % names for names in ("5", "[]", "[1, 2]", "null", "[" * 100_000)],
)
def test_parquet_without_class_names(tmp_path: Path, features: str) -> None:
    assert open_file(write_parquet(tmp_path / "x.parquet", features, label=[1])).class_names == {}


def test_class_names_of_real_data(shared: Path) -> None:
    assert open_file(shared / "data/trec/train.parquet").class_names["label"][:3] == ["ABBR", "ENTY", "DESC"]
    assert len(open_file(shared / "data/goemotions/test.parquet").class_names["labels"]) == 28


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    assert error(write(tmp_path / "x.parquet", "")).startswith("x.parquet: not a parquet file (")
    assert error(write(tmp_path / "x.parquet", "text,label\n")).startswith("x.parquet: not a parquet file (")
    content = write_parquet(tmp_path / "x.parquet", text=[f"text number {i}" for i in range(1000)]).read_bytes()
    assert error(write(tmp_path / "x.parquet", content[:-1])).startswith("x.parquet: not a parquet file (")
    broken = content[:40] + b"\xff" * 4000 + content[4040:]
    assert error(write(tmp_path / "x.parquet", broken)).startswith("x.parquet: damaged after row 0 (")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_missing_file_and_a_folder_in_its_place(tmp_path: Path, suffix: str) -> None:
    assert error(tmp_path / f"x.{suffix}") == f"x.{suffix}: no such file"
    (tmp_path / f"y.{suffix}").mkdir()
    assert error(tmp_path / f"y.{suffix}").startswith(f"y.{suffix}: ")


def test_an_unknown_kind_of_file(tmp_path: Path) -> None:
    message = error(write(tmp_path / "x.xlsx", ""))
    assert message.startswith("x.xlsx: unknown kind of file; readable are .txt, .csv, ")
    assert rows(write(tmp_path / "X.CSV", "a\n1\n")) == [(2, "1")]
