"""Tables in any dialect, encoding and format, by any writer: what comes in is what was written, or a refusal.

A refusal names the file. A table with another number of rows than were written is never read.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from textattn.data.files import open_file
from textattn.data.table import RowProblem
from textattn.errors import InputError

LATIN = "naïve café – “schön” crème Größe déjà vu"
SCRIPTS = {
    "utf-8": f"{LATIN} Привет мир 这个餐厅很好吃 좋은 음식 🏽😀 שלום",
    "utf-8-sig": f"{LATIN} Привет 好 😀",
    "utf-16": f"{LATIN} Привет 好 😀",
    "cp1252": f"{LATIN} l’été … garçon",
    "latin-1": "naïve café schön crème Größe déjà vu garçon",
    "cp1251": "Привет мир хорошая еда но плохое обслуживание и очень дорого",
    "gb18030": "这个 餐厅 很 好吃 服务 也 不错 但是 价格 有点 贵",
}
WORDS = [
    "good", "bad", "food", "null", "NA", "None", "nan", "N/A", "007", "1e5", "-0", "1,5", "1.50", "true", "'tis",
    "it's", "a;b", "a|b", "a,b", "=1+1", "#x", "//", "<br/>", "100%", "...", "-", "[1]", "{a}", "&", "@me",
    '"quoted"', '"open', 'close"', "\\n", '\\"', "C:\\dir\\",
]  # fmt: skip
LABELS = (["pos", "neg"], ["007", "7", "070"], ["yes", "no", "perhaps"], ["1", "0"], ["null", "NA"], ["a b", "c,d"])
WRITERS = ("csv", "hand", "pandas", "polars", "jsonl", "json", "parquet")


@dataclass
class Made:
    """A file and what was put into it."""

    path: Path
    rows: list[tuple[str, str]]
    how: str
    encoding: str | None = None
    """What the reader is told of it."""


def text(draw: random.Random, encoding: str, breaks: bool) -> str:
    words = [*WORDS, *SCRIPTS[encoding].split(), *SCRIPTS[encoding].split()]
    found = " ".join(draw.choices(words, k=draw.choice([1, 2, 5, 12, 40])))
    if breaks and draw.random() < 0.2:
        found = found.replace(" ", draw.choice(["\n", "\r\n", "\n\n"]), 2)
    found = draw.choice([found, found, found, f'"{found}', f'{found}"', f'"{found}"', f" {found} "])
    return found if found.strip() else "x"


def make(folder: Path, seed: int) -> Made:
    draw = random.Random(seed)
    writer = draw.choice(WRITERS)
    encoding = draw.choice([*SCRIPTS, "utf-8", "utf-8"]) if writer in ("csv", "hand", "pandas") else "utf-8"
    delimiter = draw.choice([",", ",", ";", "\t", "|"])
    quoting = draw.choice(["minimal", "all", "none"]) if writer in ("csv", "hand") else "minimal"
    breaks = quoting != "none" and writer != "hand"
    labels = draw.choice(LABELS)
    rows = [(text(draw, encoding, breaks), draw.choice(labels)) for _ in range(draw.choice([2, 3, 10, 60, 300]))]
    if writer == "hand":  # every line is a row, and no cell is enclosed
        unwanted = str.maketrans({delimiter: " ", "\n": " ", "\r": " "})
        # A cell that is enclosed as RFC 4180 has it is read as such, unless others show that no cell is.
        rows = [(text.translate(unwanted).rstrip('"'), label.translate(unwanted)) for text, label in rows]
        rows = [(text if text.strip() else "x", label) for text, label in rows]
    suffix = {"\t": ".tsv"}.get(delimiter, ".csv")
    path = folder / f"{seed}{suffix if writer in ('csv', 'hand', 'pandas', 'polars') else '.' + writer}"
    how = f"{writer}, {encoding}, {delimiter!r}, {quoting}"
    content = written(path, rows, (writer, encoding, delimiter, quoting), draw)
    if content is not None:
        path.write_bytes(content)
    if draw.random() < 0.2 and path.suffix != ".parquet":
        path = packed(path, draw.choice(["gz", "bz2", "xz", "zip", "zst"]))
    # Few short texts are not enough to recognise every encoding by.
    told = encoding if draw.random() < 0.5 and encoding != "utf-8" else None
    return Made(path, rows, how, told)


def written(
    path: Path, rows: list[tuple[str, str]], how: tuple[str, str, str, str], draw: random.Random
) -> bytes | None:
    writer, encoding, delimiter, quoting = how
    end = draw.choice(["\n", "\r\n"])
    names = ("text", "label")
    if writer == "csv":
        out = io.StringIO(newline="")
        kind = {"all": csv.QUOTE_ALL, "minimal": csv.QUOTE_MINIMAL, "none": csv.QUOTE_MINIMAL}[quoting]
        csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=kind).writerows([names, *rows])  # type: ignore[arg-type]
        return out.getvalue().encode(encoding, "replace")
    if writer == "hand":
        return "".join(delimiter.join(row) + end for row in [names, *rows]).encode(encoding, "replace")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    if writer == "pandas":
        import pandas as pd

        pd.DataFrame(columns).to_csv(path, index=False, sep=delimiter, encoding=encoding, errors="replace")
    elif writer == "polars":
        import polars as pl

        pl.DataFrame(columns).write_csv(path, separator=delimiter)
    elif writer == "parquet":
        import polars as pl

        pl.DataFrame(columns).write_parquet(path)
    elif writer == "jsonl":
        return "".join(json.dumps(dict(zip(names, row, strict=True))) + end for row in rows).encode()
    else:
        found = [dict(zip(names, row, strict=True)) for row in rows]
        return json.dumps(found, indent=draw.choice([None, 1]), ensure_ascii=draw.random() < 0.5).encode()
    return None


def packed(path: Path, kind: str) -> Path:
    """The file compressed, under its own name or one that tells of it."""
    content = path.read_bytes()
    target = path.with_name(f"{path.name}.{kind}")
    if kind == "zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.name, content)
    elif kind == "zst":
        with pa.CompressedOutputStream(pa.OSFile(str(target), "wb"), "zstd") as out:
            out.write(content)
    else:
        target.write_bytes({"gz": gzip, "bz2": bz2, "xz": lzma}[kind].compress(content))  # type: ignore[attr-defined]
    path.unlink()
    return target if len(content) % 2 else target.rename(path)


def check(made: Made, encoding_of_writer: str) -> str:
    """Whether a file was read as it was written (`right`) or `refused`; everything else is a failure."""
    expected = [
        (text.encode(encoding_of_writer, "replace").decode(encoding_of_writer), label) for text, label in made.rows
    ]
    try:
        table = open_file(made.path, made.encoding)
        found = list(table.rows(["text", "label"]))
    except (InputError, ValueError) as error:
        if isinstance(error, ValueError):  # no such column
            assert table.columns != ["text", "label"], made.how
            return "refused"
        assert made.path.name in error.message, made.how
        return "refused"
    problems = [row for row in found if isinstance(row, RowProblem)]
    if problems:
        assert all(str(made.path) in str(problem) for problem in problems)
        return "refused"
    values = [tuple(row[1]) for row in found if not isinstance(row, RowProblem)]
    assert len(values) == len(expected), f"{made.path}: {made.how}: {len(values)} rows of {len(expected)}"
    if values != expected:
        # The one thing that may differ: an encoding that was recognised wrongly, and said to be read so; or a few
        # bytes that are UTF-8 as well.
        assert made.encoding is None and encoding_of_writer not in ("utf-8", "utf-8-sig"), f"{made.path}: {made.how}"
        assert any("read as" in note for note in table.notes) or is_utf8(made.path), f"{made.path}: {made.how}"
        return "other letters"
    return "right"


def is_utf8(path: Path) -> bool:
    try:
        path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def run(folder: Path, seeds: range) -> dict[str, int]:
    counts = {"right": 0, "refused": 0, "other letters": 0}
    for seed in seeds:
        made = make(folder, seed)
        counts[check(made, made.how.split(", ")[1])] += 1
    return counts


def test_random_tables_are_read_as_they_were_written(tmp_path: Path) -> None:
    counts = run(tmp_path, range(100))
    assert counts["refused"] + counts["other letters"] <= 5, counts


@pytest.mark.slow
def test_a_thousand_random_tables_are_read_as_they_were_written(tmp_path: Path) -> None:
    counts = run(tmp_path, range(100, 1100))
    assert counts["refused"] + counts["other letters"] <= 50, counts
