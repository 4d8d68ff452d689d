"""Data files as they come: compressed, in any dialect, with the wrong suffix, in folders; bombs and what is no file."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inprocess import run as cli

from textattn.config import load_config
from textattn.config.data_section import DataConfig
from textattn.data import folders
from textattn.data.files import open_file
from textattn.data.formats import ReadOptions, _bounded, _bytes
from textattn.data.read import Corpus, read_corpus
from textattn.data.table import RowProblem
from textattn.errors import InputError
from textattn.storage.run_dir import TAG

ROWS = [("so, good", "pos"), ("bad; worse", "neg"), ("café | naïve", "pos"), ("stale\tbread", "neg")]
PLAIN = [(text.replace(",", "").replace(";", "").replace("|", "-").replace("\t", " "), label) for text, label in ROWS]
Make = Callable[[Path], object]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def csv(delimiter: str = ",", end: str = "\n", header: str | None = "text,label", escape: str = '""') -> str:
    """Rows with quotation marks around the texts."""
    first = [] if header is None else [header.replace(",", delimiter)]
    quoted = [(text.replace('"', escape), label) for text, label in ROWS]
    return "".join(f"{line}{end}" for line in [*first, *(f'"{text}"{delimiter}{label}' for text, label in quoted)])


def plain(delimiter: str, end: str = "\n") -> str:
    return "".join(f"{a}{delimiter}{b}{end}" for a, b in [("text", "label"), *PLAIN])


def lines() -> bytes:
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS).encode()


def zstd(content: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as file:
        file.write(content)
    return out.getvalue().to_pybytes()


def zipped(name: str, content: bytes, *more: str) -> Make:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
            for other in more:
                archive.writestr(other, b"x")

    return make


def parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}), path)


def read(path: str, **settings: Any) -> Corpus:
    return read_corpus(DataConfig(path=path, **settings))


def rows_of(corpus: Corpus) -> list[tuple[str, str]]:
    return [(text, corpus.labels[i]) for text, i in zip(corpus.train, corpus.train.labels, strict=True)]


def put(path: str, content: str | bytes | Make) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(Path(path))
    else:
        Path(path).write_bytes(content.encode() if isinstance(content, str) else content)


UTF8 = csv().encode()
WRITTEN: list[tuple[str, str | bytes | Make, list[tuple[str, str]], str | None]] = [
    ("comma.csv", csv(), ROWS, None),
    ("windows.csv", csv(end="\r\n"), ROWS, None),
    ("macintosh.csv", csv(end="\r"), ROWS, None),
    ("semicolon.csv", csv(";"), ROWS, "read with a semicolon between the columns"),
    ("tab.csv", csv("\t"), ROWS, "read with a tab between the columns"),
    ("bar.csv", csv("|"), ROWS, "read with a vertical bar between the columns"),
    ("tab.tsv", csv("\t"), ROWS, None),
    ("comma.tsv", csv(","), ROWS, "read with a comma between the columns"),
    ("tab.txt", plain("\t"), PLAIN, "read with a tab between the columns"),
    ("excel.csv", "sep=;\r\n" + csv(";", "\r\n"), ROWS, "read with a semicolon between the columns"),
    ("excel-quoted.csv", '"sep=,"\n' + csv(), ROWS, None),
    ("mark.csv", b"\xef\xbb\xbf" + UTF8, ROWS, None),
    ("utf-16.csv", csv().encode("utf-16"), ROWS, "read as utf-16"),
    ("utf-16-le.csv", csv().encode("utf-16-le"), ROWS, "read as utf-16-le"),
    ("utf-16-be.csv", csv().encode("utf-16-be"), ROWS, "read as utf-16-be"),
    ("utf-32.csv", csv().encode("utf-32"), ROWS, "read as utf-32"),
    ("cp1252.csv", csv().encode("cp1252"), ROWS, "read as cp1252, because it is not UTF-8"),
    ("cp1252.jsonl", b'{"text": "caf\xe9", "label": 1}\n{"text": "b", "label": 0}\n', [("café", "1"), ("b", "0")],
     "read as cp1252, because it is not UTF-8"),
    ("gzip.csv.gz", gzip.compress(UTF8), ROWS, None),
    ("gzip.csv", gzip.compress(UTF8), ROWS, None),
    ("gzip.gz", gzip.compress(UTF8), ROWS, None),
    ("gzip.jsonl.gz", gzip.compress(lines()), ROWS, None),
    ("lines.gz", gzip.compress(lines()), ROWS, None),
    ("two.csv.gz", gzip.compress(UTF8[:30]) + gzip.compress(UTF8[30:]), ROWS, None),
    ("bzip2.csv.bz2", bz2.compress(UTF8), ROWS, None),
    ("xz.tsv.xz", lzma.compress(csv("\t").encode()), ROWS, None),
    ("zstd.csv.zst", zstd(UTF8), ROWS, None),
    ("zstd-cp1252.csv", zstd(csv().encode("cp1252")), ROWS, "read as cp1252, because it is not UTF-8"),
    ("zip.csv.zip", zipped("a.csv", UTF8), ROWS, None),
    ("zip.zip", zipped("folder/a.jsonl", lines()), ROWS, None),
    ("macos.zip", zipped("a.csv", UTF8, "__MACOSX/._a.csv"), ROWS, None),
    ("lines.ndjson", lines(), ROWS, None),
    ("lines.json", lines(), ROWS, None),
    ("array.json", json.dumps([{"text": text, "label": label} for text, label in ROWS]), ROWS, None),
    ("indented.json", json.dumps([{"text": text, "label": label} for text, label in ROWS], indent=2), ROWS, None),
    ("array.jsonl", json.dumps([{"text": text, "label": label} for text, label in ROWS], indent=1), ROWS, None),
    ("lines.csv", lines(), ROWS, None),
    ("parquet.pq", parquet, ROWS, None),
    ("parquet.csv", parquet, ROWS, None),
    ("parquet.jsonl", parquet, ROWS, None),
    ("escaped.csv", 'text,label\n"a \\"b\\", c",pos\n"d, \\"e\\"",neg\n', [('a "b", c', "pos"), ('d, "e"', "neg")],
     'read with \\" for a quotation mark inside a cell'),
    ("stray.tsv", 'text\tlabel\n"a b\tpos\nc d\tneg\ne" f\tpos\ng"\tneg\n',
     [('"a b', "pos"), ("c d", "neg"), ('e" f', "pos"), ('g"', "neg")], "read with every line as a row"),
    ("stray.csv", 'text,label\n"a b,pos\nc d,neg\ne f,pos\ng",neg\n',
     [('"a b', "pos"), ("c d", "neg"), ("e f", "pos"), ('g"', "neg")], "read with every line as a row"),
    ("breaks.csv", 'text,label\n"a,\nb, c\nd",pos\n"e",neg\n', [("a,\nb, c\nd", "pos"), ("e", "neg")], None),
    ("breaks.tsv", 'text\tlabel\n"a\nb\nc"\tpos\n"e"\tneg\n', [("a\nb\nc", "pos"), ("e", "neg")], None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "rows", "note"), WRITTEN, ids=[name for name, *_ in WRITTEN])
def test_a_file_is_read_for_what_it_is(
    name: str, content: str | bytes | Make, rows: list[tuple[str, str]], note: str | None
) -> None:
    put(name, content)
    corpus = read(name)
    assert rows_of(corpus) == rows
    assert [text.startswith(f"{name}: {note}") for text in corpus.notes] == ([] if note is None else [True])


@pytest.mark.parametrize("command", ["check", "train", "tune", "evaluate", "predict"])
def test_every_command_takes_compressed_files(command: str, trained_run: Path) -> None:
    put("x.csv.gz", gzip.compress(("text,label\n" + "good food,pos\nbad soup,neg\n" * 30).encode()))
    small = "recipe=plain training.epochs=1 model.embedding_dim=8 model.hidden_size=8 output.audit_examples=0 "
    small += "output.plots=false output.dir=run"
    words = {
        "check": "check x.csv.gz --no-forecast",
        "train": f"train x.csv.gz {small}",
        "tune": f"tune x.csv.gz --trials 1 --dry-run {small}",
        "evaluate": f"evaluate x.csv.gz -m {trained_run}",
        "predict": f"predict -i x.csv.gz -m {trained_run}",
    }
    done = cli(*words[command].split())
    assert "UTF-8" not in done.err and done.code in (0, 2 if command == "tune" else 0), done.err
    if command == "predict":
        assert len(done.out.splitlines()) == 60


@pytest.mark.parametrize(
    ("settings", "content", "rows"),
    [
        ({"delimiter": ":"}, "text:label\na, b:x\nc;d:y\n", [("a, b", "x"), ("c;d", "y")]),
        ({"delimiter": "tab"}, "text\tlabel\na, b\tx\nc\ty\n", [("a, b", "x"), ("c", "y")]),
        ({"quoting": "none"}, 'text,label\n"a",x\n"b",y\n', [('"a"', "x"), ('"b"', "y")]),
        ({"quoting": "minimal"}, 'text\tlabel\n"a\tx\nb"\tx\nc\ty\n', [("a\tx\nb", "x"), ("c", "y")]),
        ({"escape": "^"}, 'text,label\n"a ^"b^"",x\nc,y\n', [('a "b"', "x"), ("c", "y")]),
        ({"escape": "none"}, 'text,label\n"a \\",x\n"b, \\",y\n', [("a \\", "x"), ("b, \\", "y")]),
        ({"header": False, "text": "column_2", "label": "column_1"}, "x,a\ny,b\n", [("a", "x"), ("b", "y")]),
        ({"encoding": "cp1251"}, "text,label\nхорошо,x\nплохо,y\n".encode("cp1251"), [("хорошо", "x"), ("плохо", "y")]),
    ],
)
def test_what_is_said_of_a_file_is_done(settings: dict[str, Any], content: str, rows: list[tuple[str, str]]) -> None:
    for name in ("x.tsv" if "\t" in str(content) else "x.csv", "folder/train.csv"):
        put(name, content)
        corpus = read(name.partition("/")[0], **settings)
        assert rows_of(corpus) == rows


def test_a_stray_quotation_mark_far_down_is_an_error_that_names_the_rows() -> None:
    for name, delimiter in (("x.csv", ","), ("x.tsv", "\t")):
        whole = [f"text {i}{delimiter}{('pos', 'neg')[i % 2]}" for i in range(60_000)]
        whole[50_000] = f'"{whole[50_000]}'
        whole[50_010] = whole[50_010].replace(delimiter, f'"{delimiter}')
        put(name, "\n".join([f"text{delimiter}label", *whole]) + "\n")
        with pytest.raises(InputError) as caught:
            read(name)
        assert f"{name}:50002: lines 50002 to 50012 are one row between two quotation marks" in caught.value.message
        assert "data.quoting=none" in caught.value.message
        assert len(read(name, quoting="none").train) == 60_000
        assert len(read(name, quoting="minimal").train) == 59_990


def test_an_encoding_is_recognised_where_the_first_other_letter_comes_late() -> None:
    put("x.csv", b"text,label\n" + b"good,pos\nbad,neg\n" * 200_000 + b"caf\xe9,pos\n")
    corpus = read("x.csv")
    assert list(corpus.train)[-1] == "café" and "cp1252" in corpus.notes[0]


# Folders


def write_folder(*names: str) -> None:
    for number, name in enumerate(names):
        put(f"data/{name}", f"text,label\na{number},x\nb{number},y\n")


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.csv"], {"train": ["train.csv"]}),
        (["train.csv", "test.csv", "dev.csv"],
         {"train": ["train.csv"], "validation": ["dev.csv"], "test": ["test.csv"]}),
        (["train.csv", "valid.csv"], {"train": ["train.csv"], "validation": ["valid.csv"]}),
        (["a_training.csv", "a_evaluation.csv", "a_val.csv"],
         {"train": ["a_training.csv"], "validation": ["a_val.csv"], "test": ["a_evaluation.csv"]}),
        (["data/train-00001-of-00002.csv", "data/train-00000-of-00002.csv", "data/more-00000-of-00001.csv"],
         {"train": ["data/train-00000-of-00002.csv", "data/train-00001-of-00002.csv"],
          "more": ["data/more-00000-of-00001.csv"]}),
        (["train/b.csv", "train/a.csv", "test/deep/c.csv"],
         {"train": ["train/a.csv", "train/b.csv"], "test": ["test/deep/c.csv"]}),
        (["b.csv", "a.csv"], {"train": ["a.csv", "b.csv"]}),
        (["restaurant.csv", "contest.csv"], {"train": ["contest.csv", "restaurant.csv"]}),
        (["train.csv.gz.csv", "LICENSE.txt", ".hidden.csv", "__pycache__/x.csv", "README.md"],
         {"train": ["train.csv.gz.csv"]}),
        (["2024_train.csv", "train2.csv"], {"train": ["2024_train.csv", "train2.csv"]}),
    ],
)  # fmt: skip
def test_the_names_in_a_folder_tell_the_splits(names: list[str], splits: dict[str, list[str]]) -> None:
    """As `datasets` has it, which is asked as well."""
    from textattn.data.sources import open_tables

    write_folder(*names)
    found = open_tables(DataConfig(path="data"))
    assert {split: [table.origin for table in tables] for split, tables in found.items()} == {
        split: [f"data/{name}" for name in files] for split, files in splits.items()
    }
    from datasets.data_files import get_data_patterns

    assert set(get_data_patterns(str(Path("data").absolute()))) == set(splits)


def test_a_folder_whose_names_tell_no_split_says_so() -> None:
    write_folder("b.csv", "a.csv")
    corpus = read("data")
    assert list(corpus.train) == ["a1", "b1", "a0", "b0"]
    (note,) = corpus.notes
    assert note.endswith("data: no name tells a split, so all files are the training split: a.csv, b.csv")


def test_a_folder_is_read_like_its_file() -> None:
    for name, content in (("train.csv", csv()), ("train.jsonl", lines()), ("train.parquet", parquet)):
        shutil.rmtree("data [v1]", ignore_errors=True)
        put(f"data [v1]/{name}", content)
        corpus = read("data [v1]")
        assert rows_of(corpus) == ROWS
        assert corpus.train.fingerprint() == read(f"data [v1]/{name}").train.fingerprint()
    put("data/train.csv", "text,label\na,x\n,y\n")
    with pytest.raises(InputError, match=r"data/train\.csv:3: column 'text' is empty"):
        read("data")


def test_a_folder_that_may_hold_its_rows_twice_is_refused() -> None:
    put("data/train.csv", csv())
    put("data/train.parquet", parquet)
    with pytest.raises(InputError, match=r"of several formats \(csv, parquet\), so they may hold the same rows"):
        read("data")


def test_what_runs_have_written_is_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`textattn train .` puts the directory of its run into the folder that it reads."""
    assert folders.RUN == TAG
    monkeypatch.chdir(tmp_path)
    lines = [f"{'good' if i % 2 else 'bad'} soup {i},{i % 2}" for i in range(60)]
    Path("train.csv").write_text("\n".join(["text,label", *lines]))
    few = [
        "recipe=plain",
        "training.epochs=1",
        "model.embedding_dim=4",
        "model.hidden_size=4",
        "tokenizer.min_frequency=1",
    ]
    for name in ("a", "b"):
        done = cli("train", ".", *few, f"output.dir=runs/{name}", "-q")
        assert done.code == 0, done.err
    assert Path("runs/a/predictions").is_dir()
    assert Path("runs/a/model.safetensors").read_bytes() == Path("runs/b/model.safetensors").read_bytes()
    for folder in ("runs", "runs/a"):
        done = cli("check", folder)
        assert done.code == 2
        assert f"Error: {folder}: a folder" in done.err
    done = cli("check", "quickstart", "data.path=runs")
    assert done.code == 3
    assert "no data files in this folder" in done.err


def test_a_folder_with_the_card_of_the_hub() -> None:
    write_folder("some/one.csv", "some/two.csv", "other/three.csv")
    put(
        "data/README.md",
        """---
configs:
- config_name: some
  data_files: [{split: train, path: some/one.csv}, {split: test, path: "some/t*.csv"}]
- config_name: other
  data_files: other/*
---
""",
    )
    corpus = read("data", name="some")
    assert (list(corpus.train), list(corpus.test or [])) == (["a0", "b0"], ["a1", "b1"])
    assert list(read("data", name="other").train) == ["a2", "b2"]
    with pytest.raises(InputError, match=r"several subsets; subsets are: some, other"):
        read("data")
    with pytest.raises(InputError, match=r"no subset 'x'; subsets are: some, other"):
        read("data", name="x")


def test_a_folder_that_leads_back_to_itself_ends() -> None:
    write_folder("train.csv")
    Path("data/again").symlink_to(Path("data").absolute())
    assert len(read("data").train) == 2


def test_a_folder_that_datasets_saved() -> None:
    import datasets

    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]})
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk("both")
    table.save_to_disk("one")
    assert list(read("both").test or []) == ["a", "b"] and list(read("one").train) == ["a", "b"]


def test_a_folder_of_many_files_is_listed_in_time() -> None:
    from textattn.data.folders import split_files

    for part in range(20):
        Path(f"data/{part}").mkdir(parents=True)
        for number in range(100):
            Path(f"data/{part}/{number}.csv").touch()
    calls = 0
    real = os.scandir

    def counted(path: str) -> Any:
        nonlocal calls
        calls += 1
        return real(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", counted)
        splits, _ = split_files(Path("data"))
    assert len(splits["train"]) == 2_000 and calls == 21


# Bombs


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst", "zip"])
def test_a_file_that_unpacks_to_far_more_than_its_size_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bytes, "UNPACKED", 1 << 20)
    content = b"text,label\n" + b"good,pos\nbad,neg\n" * 300_000
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd,
    }  # fmt: skip
    put(f"x.csv.{kind}", zipped("x.csv", content) if kind == "zip" else packers[kind](content))
    with pytest.raises(InputError, match=r"unpacks to more than .* GB, which is 100 times its size") as caught:
        read(f"x.csv.{kind}")
    assert str(caught.value.hint).endswith(f" x.csv.{kind}")


def test_a_line_without_end_is_refused_where_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bytes, "LONGEST_LINE", 4 << 20)
    for name, start in (("x.csv", b"text,label\na,b\n"), ("x.jsonl", b'{"text": "a", "label": "b"}\n\n')):
        put(name, start + b"x" * (7 << 20))
        with pytest.raises(InputError, match=rf"^{name}:3: a line of more than 4 MB"):
            read(name)


def largest_allocation(path: Path) -> int:
    """Bytes in Arrow at any row while a file is read to its end, or to what is refused."""
    before, most = pa.total_allocated_bytes(), 0
    with contextlib.suppress(InputError):
        for row in open_file(path).rows(["text", "label"]):
            assert not isinstance(row, RowProblem)
            most = max(most, pa.total_allocated_bytes() - before)
    return most


def test_a_parquet_file_that_repeats_one_large_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary of one value, which a row takes a bit of: read in parts, and refused when it is too much."""
    rows = 2000
    table = pa.table({
        "text": pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * (1 << 20)])),
        "label": pa.array(["a", "b"] * (rows // 2)),
    })  # fmt: skip
    pq.write_table(table, "kept.parquet", compression="zstd")
    # The same file, whose columns are said to be strings.
    pq.write_table(table, "x.parquet", compression="zstd", store_schema=False)
    assert open_file(Path("x.parquet")).columns == ["text", "label"]
    assert pq.read_schema("x.parquet").field("text").type == pa.string()
    for name in ("x.parquet", "kept.parquet"):
        assert Path(name).stat().st_size < 10_000
        assert largest_allocation(Path(name)) < 256 << 20
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_bounded, "UNPACKED", 32 << 20)
            message = rf"{name}:\d+: the rows up to here decode to more than 0.0312 GB, which"
            with pytest.raises(InputError, match=message):
                read(name)
    monkeypatch.setattr(_bounded, "LONGEST_ROW", 1 << 19)
    with pytest.raises(InputError, match=r"x\.parquet:1: a row of more than 0 MB"):
        read("x.parquet")


def test_parts_of_a_batch_are_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bounded, "BYTES_PER_PART", 10)
    columns = {
        "text": pa.array(["a" * 9, None, "", "b" * 30, "c"] * 3),
        "large": pa.array(["x", None, "y" * 12, "", "z"] * 3, pa.large_string()),
        "kind": pa.array(["p", "q" * 11, None, "p", "p"] * 3).dictionary_encode(),
        "list": pa.array([["a", "b"], [], None, ["c" * 20], [None]] * 3),
        "map": pa.array([[("k", 1)], None, [], [("l", 2)], []] * 3, pa.map_(pa.string(), pa.int64())),
        "struct": pa.array([{"a": "x" * 5}, None, {"a": None}, {"a": ""}, {"a": "y"}] * 3),
    }
    table = pa.table(columns)
    pq.write_table(table, "x.parquet", row_group_size=4)
    opened = open_file(Path("x.parquet"))
    assert opened.batches is not None
    batches = list(opened.batches(6))
    assert len(batches) > 5 and all(batch.schema.types == table.schema.types for batch in batches)
    assert pa.Table.from_batches(batches).to_pylist() == table.to_pylist()


def test_a_file_of_holes_is_refused_at_once() -> None:
    for name in ("x.csv", "x.parquet", "x.jsonl"):
        with Path(name).open("wb") as file:
            file.write(UTF8)
            file.truncate(200 << 30)
        with pytest.raises(InputError, match=r": 200 GB, of which \d MB are on the disk; the rest is a hole, not data"):
            read(name)


# What a file of its own is read by is not what another is read by


def test_the_dialect_of_the_training_data_is_not_that_of_others() -> None:
    put("train.csv", ("text^label\n" + "gut für mich^pos\nschlecht für dich^neg\n" * 20).encode("cp1252"))
    small = "recipe=plain training.epochs=1 model.embedding_dim=8 model.hidden_size=8 output.audit_examples=0 "
    small += "output.plots=false output.dir=run data.encoding=cp1252 data.delimiter=^"
    assert cli("train", "train.csv", *small.split()).code == 0
    put("more.csv", "text,label\nfür mich,pos\nfür dich,neg\n")
    for data in (["more.csv"], ["train.csv"], []):
        done = cli("evaluate", *data, "-m", "run", *([] if data else ["--split", "validation"]))
        assert done.code == 0, (data, done.err)


def test_predict_names_the_column_that_holds_texts(trained_run: Path) -> None:
    put("other.csv", 'id,review\n0,"The lamp was broken, and the soup rude"\n1,fine\n')
    done = cli("predict", "-m", trained_run, "-i", "other.csv")
    assert (done.code, done.err.splitlines()[1]) == (3, "Hint: --text-column review")
    put("bare.csv", "".join(f"so good a place {i},{('a', 'b')[i % 2]}\n" for i in range(9)))
    done = cli("predict", "-m", trained_run, "-i", "bare.csv")
    assert done.err.splitlines() == [
        "Error: column 'text' not found in bare.csv: the first line looks like a row, not like a header",
        "Hint: --no-header --text-column column_1",
    ]
    done = cli("predict", "-m", trained_run, "-i", "bare.csv", "--no-header", "--text-column", "column_1")
    assert (done.code, len(done.out.splitlines())) == (0, 9)


def test_options_are_the_settings_of_predict(trained_run: Path) -> None:
    put("x.csv", 'text~n\n"a~1\nb"~2\n')
    done = cli("predict", "-m", trained_run, "-i", "x.csv", "--delimiter", "~", "--quoting", "none")
    assert (done.code, len(done.out.splitlines())) == (0, 2), done.err
    options = ReadOptions(delimiter="~", quoting="none")
    put("y.csv", "text\ncaf\xe9\n".encode("cp1252"))
    done = cli("predict", "-m", trained_run, "-i", "y.csv")
    assert "y.csv: read as cp1252, because it is not UTF-8; if letters look wrong, set --encoding" in done.err
    assert [row[1] for row in open_file(Path("x.csv"), options).rows(["text"])] == [['"a'], ['b"']]  # type: ignore[index]
    done = cli("predict", "-m", trained_run, "-i", "x.csv", "--quoting", "all")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: --quoting: must be minimal or none, got 'all'")
    done = cli("predict", "-m", trained_run, "-i", "x.csv", "--delimiter", "ab")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: --delimiter: must be one character or tab, got 'ab'")


def test_a_config_may_be_json_or_have_any_name() -> None:
    put("data.csv", csv())
    for name, content in (
        ("a.json", '{"data": {"path": "data.csv"}}'),
        ("b.json", '{\n  "seed": 1,\n  "data": {"path": "data.csv"}\n}'),
        ("c.txt", "seed: 1\ndata:\n  path: data.csv\n"),
    ):
        put(name, content)
        assert load_config(name).data.path == "data.csv"
    for name in ("d.json", "d.txt"):
        put(name, '{"text": "data: {", "label": "a"}\n')
        assert load_config(name).data.path == name


# What people reported


@pytest.mark.parametrize("name", ["plain.tsv", "plain2.tsv"])
def test_a_file_without_quoting_has_a_row_for_every_line(shared: Path, name: str) -> None:
    path = shared / "cases/01-tsv-quotes" / name
    corpus = read(str(path))
    assert len(corpus.train) == 60 == len(path.read_text().splitlines()) - 1
    assert sum('"' in text for text in corpus.train) == path.read_text().count('"') > 0


@pytest.mark.parametrize(
    ("case", "folder", "file"),
    [
        ("02-folder-leading-zeros", "codes", "codes.csv"),
        ("05-folder-null-words", "words", "words.csv"),
    ],
)
def test_a_reported_folder_is_read_like_its_file(shared: Path, case: str, folder: str, file: str) -> None:
    place = shared / "cases" / case
    whole, single = read(str(place / folder)), read(str(place / file))
    assert rows_of(whole) == rows_of(single) and whole.labels == single.labels
    if folder == "codes":
        assert set(whole.labels) == {"007", "070", "7"}
    else:
        assert list(whole.train)[:3] == ["null", "NA", "None"]


def test_a_reported_folder_is_read_in_the_encoding_that_is_set(shared: Path) -> None:
    place = shared / "cases/05-folder-null-words/latin"
    said = read(str(place), encoding="latin-1")
    assert rows_of(said) == rows_of(read(str(place / "train.csv"), encoding="latin-1"))
    assert any("é" in text for text in said.train)
    assert rows_of(read(str(place))) == rows_of(said)


def test_a_reported_folder_with_brackets_is_read(shared: Path) -> None:
    put("data [v1]/train.csv", (shared / "cases/06-folder-brackets/train.csv").read_bytes())
    assert len(read("data [v1]").train) == len(read("data [v1]/train.csv").train) > 0


@pytest.mark.parametrize("name", ["bz.csv", "x.csv.gz", "x.json", "x.ndjson", "x.pq", "xz.csv", "zst.csv"])
def test_reported_files_are_data_whatever_their_suffix(shared: Path, name: str) -> None:
    place = shared / "cases/19-data-file-taken-for-yaml"
    assert rows_of(read(str(place / name))) == rows_of(read(str(place / "train.csv")))


@pytest.mark.parametrize("name", ["array.jsonl", "backslash.csv", "pipes.csv", "sep.csv"])
def test_reported_dialects_are_recognised(shared: Path, name: str) -> None:
    assert len(read(str(shared / "cases/20-hints-that-mislead" / name)).train) == 60


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("page.csv", "looks like an HTML page", "download the file itself"),
        ("pointer.csv", "looks like a Git LFS pointer", "git lfs pull"),
        ("nohead.csv", "the first line looks like a row", "data.header=false data.text=column_1 data.label=column_2"),
    ],
)
def test_reported_files_that_are_no_tables_are_called_by_their_names(
    shared: Path, name: str, message: str, hint: str
) -> None:
    path = str(shared / "cases/20-hints-that-mislead" / name)
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(caught.value.hint).startswith(hint)
    if name == "nohead.csv":
        assert len(read(path, header=False, text="column_1", label="column_2").train) == 60
