"""The folder of formats: each file is one format, and everything that names formats reads them from there."""

from __future__ import annotations

from pathlib import Path

import pytest
from inprocess import run as cli

from textattn.data import formats
from textattn.data.files import open_file
from textattn.data.formats import Format, all_formats, format_named, format_of, is_table
from textattn.errors import InputError

FOLDER = Path(formats.__file__).parent
NAMES = [kind.name for kind in all_formats()]


def test_every_file_of_the_folder_is_a_format() -> None:
    files = {path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_")}
    assert set(NAMES) == files
    assert {"txt", "csv", "tsv", "json", "jsonl", "parquet"} <= files


@pytest.mark.parametrize("kind", all_formats(), ids=NAMES)
def test_a_format_is_found_by_its_name_and_its_suffixes(kind: Format) -> None:
    assert format_named(kind.name) is kind
    for suffix in kind.suffixes:
        assert suffix == suffix.lower() and suffix.startswith(".")
        assert format_of(f"some/file{suffix}") is format_of(f"FILE{suffix.upper()}") is kind


def test_no_two_formats_share_a_suffix_or_a_beginning() -> None:
    suffixes = [suffix for kind in all_formats() for suffix in kind.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    beginnings = [kind.magic for kind in all_formats() if kind.magic]
    assert not any(a.startswith(b) for a in beginnings for b in beginnings if a is not b)


@pytest.mark.parametrize("kind", all_formats(), ids=NAMES)
def test_a_data_file_stands_for_a_config(kind: Format, tmp_path: Path) -> None:
    """What is missing is the file itself."""
    for suffix in (*kind.suffixes, f"{kind.suffixes[0]}.gz"):
        assert is_table(f"x{suffix}")
        with pytest.raises(InputError, match="no such file"):
            open_file(tmp_path / f"x{suffix}")


def test_messages_list_the_formats(tmp_path: Path) -> None:
    listed = ", ".join(NAMES)
    for option in ("--input-format", "--output-format"):
        done = cli("predict", "-i", "-", "-o", "-", option, "xlsx")
        assert (done.code, done.err.splitlines()[0]) == (2, f"Error: {option}: must be one of {listed}, got 'xlsx'")
    (tmp_path / "x.xlsx").touch()
    with pytest.raises(InputError) as caught:
        open_file(tmp_path / "x.xlsx")
    for kind in all_formats():
        assert all(suffix in caught.value.message for suffix in kind.suffixes)


@pytest.mark.parametrize("kind", [kind for kind in all_formats() if not kind.streams], ids=lambda kind: kind.name)
def test_what_cannot_be_streamed_says_so(kind: Format, trained_run: Path) -> None:
    words = ["predict", "--model", trained_run, "-i", "-", "-o", "-", "--output-format", kind.name]
    done = cli(*words, stdin=b"good\n")
    assert done.code == 2
    assert done.err.startswith(f"Error: --output -: {kind.name} needs a file\n")


@pytest.mark.parametrize("kind", [kind for kind in all_formats() if kind.magic], ids=lambda kind: kind.name)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_damaged_file_with_the_suffix_of_a_text_format_is_recognised(
    kind: Format, suffix: str, tmp_path: Path
) -> None:
    file = tmp_path / f"x{suffix}"
    file.write_bytes(kind.magic + b"\0\xff\xfe\n" * 20)
    with pytest.raises(InputError) as caught:
        list(open_file(file).rows([]))
    assert caught.value.message.startswith(f"{file}: not a {kind.name} file (")
