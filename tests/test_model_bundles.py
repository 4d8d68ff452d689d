"""A bundle that is damaged, or made to do harm, says so, writes nothing and does not fill the memory."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zipfile
from pathlib import Path

import damaged_models
import pytest
from damaged_models import BUNDLED, complaint, copy, flips, pack
from inprocess import run as cli

# pytest looks for fixtures among the names of a file.
run = damaged_models.run


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_bundles(run: Path, tmp_path: Path, method: int) -> None:
    bundle, generator = pack(run, tmp_path / "model.zip", method=method), random.Random(0)
    assert complaint(bundle) is None
    content = bundle.read_bytes()
    with zipfile.ZipFile(bundle) as file:
        contents, directory = file.infolist(), file.start_dir
    for end in {1, 2, 3, 4, 30, directory - 1, directory, directory + 9, *range(len(content) - 23, len(content), 7)}:
        bundle.write_bytes(content[:end])
        assert complaint(bundle) is not None, f"cut to {end}"
    damaged_members = 0
    for info in contents:
        # The content of a member, behind its header: zip's checksum tells.
        start = info.header_offset + 30 + len(info.filename)
        for _ in range(10):
            place = start + generator.randrange(info.compress_size)
            bundle.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
            said = complaint(bundle)
            if said is None:
                # The last bits of a packed member may say nothing.
                with zipfile.ZipFile(bundle) as file:
                    assert file.read(info.filename) == (run / info.filename).read_bytes(), f"byte {place}"
            else:
                assert said.startswith(f"{bundle / info.filename}: damaged"), said
            damaged_members += said is not None
    assert damaged_members >= 10 * len(contents) - 2
    headers = [*range(directory, len(content)), *(info.header_offset + i for info in contents for i in range(30))]
    for damaged in flips(content, headers, 150, generator):
        bundle.write_bytes(damaged)
        complaint(bundle)


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundle_that_lacks_a_file(run: Path, tmp_path: Path, name: str) -> None:
    bundle = pack(run, tmp_path / "model.zip", without=(name,))
    said = complaint(bundle, "onnx")
    assert said is not None
    assert str(bundle / name) in said


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"PK\x03\x04" * 9, b"no zip", b"\x80\x04."])
def test_a_file_that_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    bundle = tmp_path / "model.zip"
    bundle.write_bytes(content)
    assert complaint(bundle) is not None
    done = cli("predict", "--model", bundle, "good")
    assert (done.code, done.out) == (3, "")


def test_a_bundle_writes_nothing_wherever_its_names_point(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "a" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    names = [
        "../evil",
        f"{tmp_path}/evil",
        "..\\evil",
        "C:\\evil",
        "sub/../../evil",
        "sub/",
        "~/evil",
        "model.onnx/evil",
    ]
    bundle = pack(run, tmp_path / "model.zip", extra=dict.fromkeys(names, b"evil"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert complaint(bundle) is None
    assert cli("predict", "--model", bundle, "good").code == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("prefix", ["../", "run/", "/", "./"])
def test_files_elsewhere_in_a_bundle_are_not_found(run: Path, tmp_path: Path, prefix: str) -> None:
    bundle = pack(run, tmp_path / "model.zip", rename=lambda name: prefix + name)
    # Those beside it are not taken either.
    copy(run, tmp_path / "run")
    assert complaint(bundle) == f"{bundle / 'config.json'}: no such file"


def test_an_encrypted_bundle(run: Path, tmp_path: Path) -> None:
    bundle = pack(run, tmp_path / "model.zip")
    content = bytearray(bundle.read_bytes())
    with zipfile.ZipFile(bundle) as file:
        places = [info.header_offset + 6 for info in file.infolist()]
        place = file.start_dir
        for info in file.infolist():
            places.append(place + 8)
            place += 46 + len(info.filename) + len(info.extra) + len(info.comment)
    for place in places:
        content[place] |= 1
    bundle.write_bytes(content)
    assert "encrypted" in str(complaint(bundle))


@pytest.mark.parametrize(
    ("method", "honest"),
    [
        pytest.param(
            zipfile.ZIP_DEFLATED,
            True,
        ),
        pytest.param(zipfile.ZIP_DEFLATED, False),
        pytest.param(zipfile.ZIP_BZIP2, False),
    ],
)
def test_a_bundle_that_would_fill_the_memory(run: Path, tmp_path: Path, method: int, honest: bool) -> None:
    """A hundred bytes can become a hundred thousand; a header may say that they do, or not."""
    size, said_size = 96 << 20, 2000
    bundle = pack(run, tmp_path / "model.zip", without=("tokenizer.json",))
    with zipfile.ZipFile(bundle, "a") as file:
        info = zipfile.ZipInfo("tokenizer.json")
        info.compress_type = method
        file.writestr(info, bytes(size))
    if not honest:
        content = bundle.read_bytes()
        assert content.count(struct.pack("<L", size)) == 2
        bundle.write_bytes(content.replace(struct.pack("<L", size), struct.pack("<L", said_size)))
    assert bundle.stat().st_size < 200_000
    tracemalloc.start()
    try:
        said = complaint(bundle)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert said is not None
    assert str(bundle / "tokenizer.json") in said
    assert peak < 16 << 20
