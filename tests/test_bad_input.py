"""Bad input: broken files, columns and labels. One kind a row; what is broken, the exit code, every word on stderr.

Each row is a command in a folder with a user's data and a finished run, none of which it may touch.
"""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import bad_input
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_input import MEND, REVIEWS, Case, Content, check, permissions_count, unusable
from inprocess import run as cli

world = bad_input.world
TOO_FEW = "two different ones are the least that can be told apart"
KINDS = "a string, a number, a boolean or a list of them"
LONG = "n" * 10_000


def csv(*lines: str, header: str = "text,label") -> str:
    return "".join(f"{line}\n" for line in (header, *lines))


def jsonl(*rows: dict[str, Any] | str) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def parquet(**columns: Any) -> Content:
    return lambda path: pq.write_table(pa.table(columns), path)


def damaged(start: int, stop: int | None) -> Content:
    """A parquet file of a thousand rows without these bytes, or with others in their place."""

    def make(path: Path) -> None:
        pq.write_table(pa.table({"text": [f"fine {i}" for i in range(1000)], "label": ["a", "b"] * 500}), path)
        content = path.read_bytes()
        path.write_bytes(
            content[:start] if stop is None else content[:start] + b"\xff" * (stop - start) + content[stop:]
        )

    return make


def bad(name: str, file: str, content: Content, error: str, hint: str | None = None, *more: str, code: int = 3) -> Case:
    """Training on one file."""
    return Case(name, {file: content}, " ".join(["train mine.yaml", f"data.path={file}", *more]), code, error, hint)


def zipped(*names: str) -> Content:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, REVIEWS)

    return make


def two_columns_of_a_name(path: Path) -> None:
    columns = [pa.array(["fine"]), pa.array(["food"]), pa.array(["pos"])]
    pq.write_table(pa.Table.from_arrays(columns, ["text", "text", "label"]), path)


def locked(path: Path) -> None:
    path.write_text(REVIEWS)
    path.chmod(0)


def locked_folder(path: Path) -> None:
    path.write_text(REVIEWS)
    path.parent.chmod(0)


FILES = [
    bad("empty", "bad.csv", "", "bad.csv: empty file; expected a header line with the column names"),
    bad("blank lines", "bad.csv", "\n\n", "bad.csv: empty file; expected a header line with the column names"),
    bad("header only", "bad.csv", csv(), "bad.csv: no rows that can be used"),
    bad("no header", "bad.csv", csv("stale,neg", header="fine food,pos"),
        "column 'text' not found in bad.csv; columns are: fine food, pos", "data.text='fine food' data.label=pos"),
    bad("one row", "bad.csv", csv("fine,pos"),
        f"bad.csv: column 'label': the training split has only the label 'pos'; {TOO_FEW}"),
    bad("ragged", "bad.csv", csv("fine,pos", "stale", "cold, rude,neg"),
        unusable("bad.csv:3: 1 field, but the header has 2 (text, label)",
                 "bad.csv:4: 3 fields, but the header has 2 (text, label)", of=3), MEND),
    bad("unclosed quote", "bad.csv", csv('"fine, good",pos', '"stale,neg', "fresh,pos"),
        unusable("bad.csv:3: not csv: unexpected end of data (lines 3 to 4)", of=2), MEND),
    bad("unclosed quote in the header", "bad.csv", csv("fine,pos", header='"text,label'),
        "bad.csv:1: not csv: unexpected end of data (lines 1 to 2)"),
    bad("NUL", "bad.csv", csv("fine,pos", "sta\0le,neg", "fresh,pos"),
        unusable("bad.csv:3: not csv: line contains NUL", of=3), MEND),
    bad("mixed line ends", "bad.csv", "text,label\nfine,pos\r\nstale,neg\rfresh,pos\n,neg\r\n",
        unusable("bad.csv:5: column 'text' is empty; expected a text", of=4), MEND),
    bad("latin-1", "bad.csv", csv("fine,pos", "naïve,neg").encode("latin-1"),
        "bad.csv:3: byte 3 of the line (0xef) is not utf-8",
        "data.encoding=cp1252 (or whatever the file was saved in)", "data.encoding=utf-8"),
    bad("damaged UTF-8", "bad.csv", csv("grö,pos", "groß,pos", "naive,neg").encode().replace(b"naive", b"na\xefve"),
        "bad.csv:4: byte 3 of the line (0xef) is not utf-8",
        "data.encoding=cp1252 (or whatever the file was saved in)"),
    bad("latin-1 jsonl", "bad.jsonl", '{"text": "café"}\n'.encode("latin-1"),
        "bad.jsonl:1: byte 14 of the line (0xe9) is not utf-8",
        "data.encoding=cp1252 (or whatever the file was saved in)", "data.encoding=utf-8"),
    bad("UTF-16", "bad.csv", REVIEWS.encode("utf-16"), "bad.csv: text in UTF-16", "data.encoding=utf-16",
        "data.encoding=utf-8"),
    bad("UTF-16 without its mark", "bad.csv", REVIEWS.encode("utf-16-be"), "bad.csv: text in UTF-16-BE",
        "data.encoding=utf-16-be", "data.encoding=utf-8"),
    bad("read as UTF-16", "bad.csv", REVIEWS, "bad.csv: not utf-16 (UTF-16 stream does not start with BOM)",
        "data.encoding=utf-8", "data.encoding=utf-16"),
    bad("no such encoding", "bad.csv", REVIEWS, "unknown encoding 'utf-9'", "data.encoding=utf-8",
        "data.encoding=utf-9"),
    bad("no encoding of text", "bad.csv", REVIEWS, "unknown encoding 'base64'", "data.encoding=utf-8",
        "data.encoding=base64"),
    bad("an encoding that decodes nothing", "bad.csv", REVIEWS, "unknown encoding 'undefined'", "data.encoding=utf-8",
        "data.encoding=undefined"),
    bad("damaged gzip", "bad.csv.gz", gzip.compress(REVIEWS.encode())[:-9], "bad.csv.gz: damaged (gzip: ***)"),
    bad("gzip around parquet", "bad.parquet", gzip.compress(b"PAR1"), "bad.parquet: gzip around a parquet file",
        "gunzip bad.parquet"),
    bad("damaged zip", "bad.csv", b"PK\3\4\0\0\0\0", "bad.csv: a damaged zip archive or Excel file, not text",
        "save the sheet as csv"),
    bad("Excel", "bad.csv", zipped("[Content_Types].xml", "xl/workbook.xml"),
        "bad.csv: an Excel file or another document, not text", "save the sheet as csv"),
    bad("a zip of two files", "bad.zip", zipped("a.csv", "b.csv"), "bad.zip: a zip archive of 2 files; expected one",
        "unzip bad.zip"),
    bad("a web page", "bad.csv", "<!DOCTYPE html>\n<html></html>\n", "bad.csv: looks like an HTML page, not data",
        "download the file itself, not the page about it"),
    bad("a pointer of Git LFS", "bad.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "bad.csv: looks like a Git LFS pointer, which stands for the file", "git lfs pull"),
    bad("zeros", "bad.csv", b"\0" * 5000, "bad.csv: begins with 1,024 zeros, so it is not a data file"),
    bad("lines without columns", "bad.txt", "fine food\nstale food\n",
        "bad.txt: lines without columns, so without labels", "a file with a column for each"),
    bad("fastText", "bad.txt", "__label__pos fine, good\n__label__neg stale, cold\n",
        "bad.txt: looks like a fastText file, whose labels have no column",
        "a csv file with the columns text and label"),
    bad("unknown suffix", "bad.xlsx", "{}",
        "bad.xlsx: unknown kind of file; readable are .txt, .csv, ***"),
    bad("semicolons in some lines", "bad.csv", "text;label\nfine food;pos\nstale\ncold\n",
        "column 'text' not found in bad.csv; columns are: text;label", "data.delimiter=';'"),
    bad("tabs in some lines", "bad.csv", "text\tlabel\nfine food\tpos\nstale\ncold\n",
        "column 'text' not found in bad.csv; columns are: text\tlabel", "data.delimiter=tab"),
    bad("a row for a header", "bad.csv", "".join(f"so good a place {i},{('a', 'b')[i % 2]}\n" for i in range(9)),
        "column 'text' not found in bad.csv; columns are: so good a place 0, a; "
        "the first line looks like a row, not like a header",
        "data.header=false data.text=column_1 data.label=column_2"),
    bad("two characters for a delimiter", "bad.csv", REVIEWS,
        "override 'data.delimiter=ab': data: data.delimiter must be one character or tab, got 'ab'",
        "textattn schema", "data.delimiter=ab", code=2),
    bad("empty jsonl", "bad.jsonl", "", "bad.jsonl: no rows; expected one JSON object a line"),
    bad("csv called jsonl", "bad.jsonl", REVIEWS, "bad.jsonl:1: not JSON: Expecting value at character 1"),
    bad("JSON array without labels", "bad.jsonl", '[{"text": "fine"}]',
        "column 'label' not found in bad.jsonl; columns are: text"),
    bad("JSON array cut off", "bad.json", '[{"text": "fine", "label": 1}, {"text"',
        "bad.json:1: not JSON: Expecting ':' delimiter"),
    bad("JSON object of columns", "bad.json", '{\n "text": ["fine"], "label": [1]}',
        "bad.json:1: not JSON: the value goes on in the next line; expected an object a line, or one array of objects"),
    bad("broken JSON", "bad.jsonl", jsonl({"text": "fine", "label": 1}, '{"text": "stale", "label": 0'),
        unusable("bad.jsonl:2: not JSON: Expecting ',' delimiter at character 30", of=2), MEND),
    bad("an array among objects", "bad.jsonl", jsonl({"text": "fine", "label": 1}, '["stale", 0]'),
        unusable('bad.jsonl:2: expected a JSON object such as {"text": …, "label": …}', of=2), MEND),
    bad("a key twice", "bad.jsonl", jsonl({"text": "fine: good", "label": 1}, '{"text": "a", "label": 1, "label": 0}'),
        unusable("bad.jsonl:2: not JSON: the key 'label' stands twice", of=2), MEND),
    bad("half a character", "bad.jsonl", jsonl({"text": "fine", "label": 1}, '{"text": "\\ud83d", "label": 0}'),
        unusable("bad.jsonl:2: not JSON: a \\u escape is half of a character", of=2), MEND),
    bad("nested without end", "bad.jsonl", jsonl({"text": "fine", "label": 1}, "[" * 100_000),
        unusable("bad.jsonl:2: not JSON: nested too deeply", of=2), MEND),
    bad("a number of 5,000 digits", "bad.jsonl",
        jsonl({"text": "fine", "label": 1}, '{"text": "a", "label": %s}' % ("9" * 5000)),
        unusable("bad.jsonl:2: not JSON: ***", of=2), MEND),
    bad("truncated parquet", "bad.parquet", damaged(2000, None), "bad.parquet: not a parquet file (***)"),
    bad("damaged parquet", "bad.parquet", damaged(40, 4000), "bad.parquet: damaged after row 0 (***)"),
    bad("csv called parquet", "bad.parquet", REVIEWS, "bad.parquet: not a parquet file (***)"),
    bad("parquet without rows", "bad.parquet", parquet(text=pa.array([], pa.string()), label=pa.array([], pa.string())),
        "bad.parquet: no rows that can be used"),
    Case("missing", {}, "train mine.yaml data.path=review.csv", 3, "review.csv: no such file", "there is reviews.csv"),
    Case("no match of a pattern", {}, "train mine.yaml 'data.path=part-*.csv'", 3, "part-*.csv: no such file"),
    Case("a folder among files", {"part-1.csv": REVIEWS, "part-2.csv": Path.mkdir},
         "train mine.yaml 'data.path=part-*.csv'", 3, "part-2.csv: Is a directory"),
    bad("a folder", "bad.csv", Path.mkdir, "data.path: bad.csv: no data files in this folder",
        "a csv, jsonl or parquet file"),
    Case("a folder of something else", {"bad/x.xyz": "?"}, "train mine.yaml data.path=bad", 3,
         "data.path: bad: no data files in this folder", "a csv, jsonl or parquet file"),
    bad("dangling link", "bad.csv", lambda path: path.symlink_to("gone.csv"), "bad.csv: no such file"),
    bad("link to itself", "bad.csv", lambda path: path.symlink_to("bad.csv"),
        "bad.csv: Too many levels of symbolic links"),
    bad("pipe", "bad.csv", os.mkfifo, "bad.csv: a pipe, but it is read more than once", "cat bad.csv > copy.csv"),
    bad("pipe called parquet", "bad.parquet", os.mkfifo, "bad.parquet: a pipe, but it is read more than once",
        "cat bad.parquet > copy.parquet"),
    bad("device", "bad.csv", lambda path: path.symlink_to("/dev/null"),
        "bad.csv: a device or a socket, not a file of data"),
    bad("endless device", "bad.csv", lambda path: path.symlink_to("/dev/zero"),
        "bad.csv: a device or a socket, not a file of data"),
    bad("disk that cannot be read", "bad.csv", lambda path: path.symlink_to("/proc/self/mem"),
        "bad.csv: Input/output error"),
    Case("no permission", {"bad.csv": locked}, "train mine.yaml data.path=bad.csv", 3, "bad.csv: Permission denied",
         within=permissions_count),
    Case("no permission for the folder", {"shut/bad.csv": locked_folder}, "train mine.yaml data.path=shut/bad.csv", 3,
         "shut/bad.csv: Permission denied", within=permissions_count),
    Case("a file for a folder", {}, "train mine.yaml data.path=reviews.csv/x.csv", 3,
         "reviews.csv/x.csv: no such file"),
    Case("a name too long", {}, f"train mine.yaml data.path={'x' * 300}.csv", 3,
         f"{'x' * 300}.csv: File name too long"),
    Case("Hub, offline", {}, "train mine.yaml data.path=nobody/nothing", 3,
         "data.path: 'nobody/nothing' is no file or folder here, and the Hugging Face Hub was not reached: "
         "HF_HUB_OFFLINE is set",
         "unset HF_HUB_OFFLINE, or give a local copy: data.path=FOLDER_OR_FILE; "
         "offline at once: textattn train quickstart"),
    Case("no Hub id", {}, "train mine.yaml data.path=nobody//nothing", 3,
         "data.path: no such file or folder: nobody//nothing"),
    Case("no such corpus", {}, "train mine.yaml data.path=bundled:review", 3,
         "data.path: no bundled corpus 'bundled:review'; there is bundled:reviews"),
]  # fmt: skip

COLUMNS = [
    bad("no text column", "bad.csv", csv("1,a,pos", header="id,texts,label"),
        "column 'text' not found in bad.csv; columns are: id, texts, label", "data.text=texts"),
    bad("in capitals", "bad.csv", csv("1,a,pos", header="id,TEXT,label"),
        "column 'text' not found in bad.csv; columns are: id, TEXT, label", "data.text=TEXT"),
    bad("no label column", "bad.csv", csv("fine,pos", header="text,sentiment"),
        "column 'label' not found in bad.csv; columns are: text, sentiment", "data.label=sentiment"),
    bad("nothing but texts", "bad.csv", csv("fine", header="text"),
        "column 'label' not found in bad.csv; columns are: text"),
    bad("a column without a name", "bad.csv", csv("fine,pos", header=",label"),
        "column 'text' not found in bad.csv; columns are: , label"),
    bad("a name twice", "bad.csv", csv("a,b,pos", header="text,text,label"),
        "bad.csv:1: a column name stands twice in the header: text, text, label"),
    bad("a name twice in parquet", "bad.parquet", two_columns_of_a_name,
        "bad.parquet: a column name stands twice: text, text, label"),
    bad("texts that are booleans", "bad.jsonl", jsonl({"text": True, "label": 1}),
        unusable("bad.jsonl:1: column 'text' holds bool 'True'; expected a text", of=1), MEND),
    bad("texts that are lists", "bad.jsonl", jsonl({"text": ["fine"], "label": 1}, {"text": {"a": 1}, "label": 0}),
        unusable("bad.jsonl:1: column 'text' holds list \"['fine']\"; expected a text",
                 "bad.jsonl:2: column 'text' holds dict \"{'a': 1}\"; expected a text", of=2), MEND),
    bad("texts that are bytes", "bad.parquet", parquet(text=[b"fine"], label=["pos"]),
        unusable("bad.parquet:1: column 'text' holds bytes \"b'fine'\"; expected a text", of=1), MEND),
    bad("empty texts", "bad.csv", csv(",pos", "  ,neg"),
        unusable("bad.csv:2: column 'text' is empty; expected a text",
                 "bad.csv:3: column 'text' is empty; expected a text", of=2), MEND),
    bad("empty texts left out", "bad.csv", csv(",pos", "  ,neg"), "bad.csv: no rows that can be used", None,
        "data.on_bad_row=skip"),
    bad("a segment missing", "bad.csv", csv("a,b,pos", header="head,text,label"),
        "column 'title' not found in bad.csv; columns are: head, text, label", "data.text=head",
        "data.text=[title,text]"),
    bad("all segments empty", "bad.csv", csv("a,b,pos", ",,neg", header="title,text,label"),
        unusable("bad.csv:3: columns title, text are all empty; expected a text", of=2), MEND,
        "data.text=[title,text]"),
    bad("a segment twice", "bad.csv", REVIEWS,
        "override 'data.text=[text,text]': data: data.text names the same column twice", "textattn schema",
        "data.text=[text,text]", code=2),
    bad("text and label in one", "bad.csv", REVIEWS,
        "override 'data.text=label': data: data.text and data.label are both 'label'", "textattn schema",
        "data.text=label", code=2),
    Case("the second file differs", {"more.csv": csv("fine,pos", header="review,label")},
         "train mine.yaml 'data.files={train: [reviews.csv, more.csv]}'", 3,
         "column 'text' not found in more.csv; columns are: review, label", "data.text=review"),
    Case("no label in the test file", {"test.csv": csv("fine,5", header="text,stars")},
         "train mine.yaml 'data.files={train: reviews.csv, test: test.csv}'", 3,
         "column 'label' not found in test.csv; columns are: text, stars", "data.label=stars"),
    bad("no evidence column", "bad.csv", REVIEWS, "column 'why' not found in bad.csv; columns are: text, label", None,
        "data.evidence=why"),
    bad("evidence outside the text", "bad.jsonl", jsonl({"text": "fine", "label": 1, "why": [[0, 99]]}),
        unusable("bad.jsonl:1: column 'why': span [0, 99] is outside the text, which has 4 characters", of=1), MEND,
        "data.evidence=why"),
    bad("no such split", "bad.csv", REVIEWS, "bad.csv: no split 'dev'; splits are: train", "data.test_split=train",
        "data.test_split=dev"),
]  # fmt: skip

TWO = {"train.csv": csv("fine,0", "stale,1")}
LABELS = [
    bad("one label", "bad.csv", csv("fine,pos", "great,pos"),
        f"bad.csv: column 'label': the training split has only the label 'pos'; {TOO_FEW}"),
    bad("missing", "bad.csv", csv("fine,pos", "stale,", "cold,neg"),
        unusable("bad.csv:3: column 'label' is empty; expected a label", of=3), MEND),
    bad("null", "bad.jsonl", jsonl({"text": "fine", "label": None}, {"text": "stale", "label": 1}),
        unusable("bad.jsonl:1: column 'label' is empty; expected a label", of=2), MEND),
    bad("NaN", "bad.parquet", parquet(text=["fine", "stale"], label=[1.0, float("nan")]),
        unusable("bad.parquet:2: column 'label' is empty; expected a label", of=2), MEND),
    bad("infinity", "bad.parquet", parquet(text=["fine", "stale"], label=[1.0, float("inf")]),
        unusable(f"bad.parquet:2: column 'label' holds inf; expected {KINDS}", of=2), MEND),
    bad("bytes", "bad.parquet", parquet(text=["fine"], label=[b"pos"]),
        unusable(f"bad.parquet:1: column 'label' holds b'pos'; expected {KINDS}", of=1), MEND),
    bad("a mapping", "bad.jsonl", jsonl({"text": "fine", "label": {"a": 1}}),
        unusable(f"bad.jsonl:1: column 'label' holds {{'a': 1}}; expected {KINDS}", of=1), MEND),
    bad("booleans and strings", "bad.jsonl", jsonl({"text": "fine", "label": True}, {"text": "stale", "label": "no"}),
        "bad.jsonl: column 'label': the values are of several kinds, bool and str; "
        "expected strings, numbers, booleans, or lists of them"),
    Case("one that only the test split has", {"test.csv": csv("fine,pos", "hm,neutral")},
         "train mine.yaml 'data.files={train: reviews.csv, test: test.csv}'", 3,
         unusable("test.csv:3: column 'label': unknown label 'neutral'; labels are: neg, pos", of=2), MEND),
    Case("one that only the validation split has", {"dev.csv": csv("fine,pos", "hm,neutral")},
         "train mine.yaml 'data.files={train: reviews.csv, validation: dev.csv}'", 3,
         unusable("dev.csv:3: column 'label': unknown label 'neutral'; labels are: neg, pos", of=2), MEND),
    Case("an unlabelled test split", {**TWO, "test.csv": csv("fine,-1", "hm,-1")},
         "train mine.yaml 'data.files={train: train.csv, test: test.csv}'", 3,
         "test.csv: column 'label': all labels are -1, which means unlabelled", "data.test_split=null"),
    Case("a test split with unlabelled rows", {**TWO, "test.csv": csv("fine,-1", "hm,1")},
         "train mine.yaml 'data.files={train: train.csv, test: test.csv}'", 3,
         unusable("test.csv:2: column 'label': the label is -1, which means unlabelled", of=2), MEND),
    bad("fewer names than labels", "bad.csv", csv("fine,0", "stale,1", "hm,2"),
        unusable("bad.csv:4: column 'label': unknown label 2; labels are: a, b", of=3), MEND, "data.label_names=[a,b]"),
    bad("names of other labels", "bad.csv", csv("fine,pos", "stale,1"),
        unusable("bad.csv:2: column 'label': unknown label 'pos'; labels are: bad, good", of=2), MEND,
        "data.label_names=[bad,good]"),
    bad("one name", "bad.csv", REVIEWS,
        "override 'data.label_names=[a]': data.label_names: needs at least 2 entries, got 1",
        "textattn schema", "data.label_names=[a]", code=2),
    bad("a name twice", "bad.csv", REVIEWS,
        "override 'data.label_names=[a,a]': data: data.label_names contains the same name twice",
        "textattn schema", "data.label_names=[a,a]", code=2),
    bad("a string among lists", "bad.jsonl", jsonl(*({"text": "x", "label": label} for label in (["a"], ["b"], "ab"))),
        unusable("bad.jsonl:3: column 'label': expected a list of labels, got 'ab'", of=3), MEND),
    bad("null in a list", "bad.jsonl", jsonl({"text": "x", "label": ["a", "b"]}, {"text": "y", "label": [None]}),
        unusable(f"bad.jsonl:2: column 'label' holds [None]; expected {KINDS}", of=2), MEND),
    bad("lists of lists", "bad.jsonl", jsonl({"text": "x", "label": ["a", "b"]}, {"text": "y", "label": [["b"]]}),
        unusable(f"bad.jsonl:2: column 'label' holds [['b']]; expected {KINDS}", of=2), MEND),
    bad("empty lists only", "bad.jsonl", jsonl({"text": "x", "label": []}, {"text": "y", "label": []}),
        f"bad.jsonl: column 'label': the training split has no label; {TOO_FEW}"),
    bad("a separator that never occurs", "bad.csv", REVIEWS,
        "bad.csv: column 'label': data.label_separator '|' separates nothing: no row has several labels",
        "data.label_separator=null", "'data.label_separator=|'"),
    Case("10 kB", {"test.csv": csv("fine,pos", f"hm,{LONG}")},
         "train mine.yaml 'data.files={train: reviews.csv, test: test.csv}'", 3,
         unusable(f"test.csv:3: column 'label': unknown label '{LONG[:78]}…; labels are: neg, pos", of=2), MEND),
    bad("one label left of two", "bad.csv", REVIEWS, "data.max_train_examples: the 1 drawn have one label only",
        "data.max_train_examples=null", "data.max_train_examples=1", code=2),
]  # fmt: skip


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.name)
def test_files(case: Case, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(case, world, tmp_path, monkeypatch)


@pytest.mark.parametrize("case", COLUMNS, ids=lambda case: case.name)
def test_columns(case: Case, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(case, world, tmp_path, monkeypatch)


@pytest.mark.parametrize("case", LABELS, ids=lambda case: case.name)
def test_labels(case: Case, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(case, world, tmp_path, monkeypatch)


def test_where_nothing_is_broken_it_trains(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is the one broken thing in a row that its command fails at."""
    bad_input.copy(world, tmp_path)
    monkeypatch.chdir(tmp_path)
    bom = b"\xef\xbb\xbf" + REVIEWS.replace("\n", "\r\n").encode()
    bad_input.put(tmp_path, {"bom.csv": bom, "long.csv": csv("fine,pos", f"stale,{LONG}", "fresh,pos", "cold,pos")})
    for number, data in enumerate(("reviews.csv", "bom.csv", "long.csv")):
        done = cli("-q", "train", "mine.yaml", f"data.path={data}", f"output.dir=runs/{number}")
        assert (done.code, done.out, done.err) == (0, f"runs/{number}\n", "")
