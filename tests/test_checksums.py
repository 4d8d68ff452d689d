"""What was written is what is loaded: damage in any file that predictions depend on is named, with exit code 3."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from unittest.mock import patch

import damaged_models
import pytest
from conftest import unsealed
from damaged_models import FILES, RUNTIMES, answers
from inprocess import run as cli

import textattn
from textattn.errors import InputError
from textattn.storage import checksums
from textattn.storage.checksums import from_bytes, replace_file_of_model, to_bytes

# pytest looks for fixtures among the names of a file.
run = damaged_models.run
READ_BY = {"model.onnx": "onnx", "model.int8.onnx": "int8", "model.safetensors": "torch"}


@pytest.fixture
def sealed(run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, with its checksums."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def test_a_finished_run_has_the_checksums_of_the_files_that_predictions_depend_on(sealed: Path) -> None:
    found = json.loads((sealed / "checksums.json").read_text())
    assert set(found["crc32"]) == set(FILES)


@pytest.mark.parametrize("name", [*FILES, "checksums.json"])
def test_a_flipped_bit_is_named_by_every_command_that_reads_the_file(sealed: Path, name: str) -> None:
    flip(sealed / name, (sealed / name).stat().st_size // 2)
    runtime = READ_BY.get(name, "onnx")
    for command in (["predict"], ["explain"], ["predict", "--json"]):
        done = cli(*command, "--model", sealed, "--runtime", runtime, "good")
        assert (done.code, done.out) == (3, "")
        assert done.err.startswith(f"Error: {sealed / name}: damaged: ")
        assert "\nHint: " in done.err


def test_the_hint_for_a_damaged_graph_works(sealed: Path) -> None:
    before = answers(sealed)
    flip(sealed / "model.onnx", 5000)
    done = cli("predict", "--model", sealed, "good")
    assert done.code == 3
    assert done.err.endswith(f"Hint: textattn export --model {sealed}\n")
    assert cli("export", "--model", sealed).code == 0
    assert answers(sealed) == before


def test_what_people_may_edit_is_no_damage(sealed: Path) -> None:
    before = answers(sealed)
    (sealed / "README.md").write_text("mine")
    (sealed / "notes.txt").write_text("mine")
    assert answers(sealed) == before


def test_an_edit_on_purpose_is_accepted_as_the_hint_says(sealed: Path) -> None:
    config = json.loads((sealed / "config.json").read_text())
    (sealed / "config.json").write_text(json.dumps(config | {"temperature": 2.5}))
    done = cli("predict", "--model", sealed, "good")
    assert done.code == 3
    assert "if the file was edited on purpose, remove checksums.json beside it" in done.err
    assert textattn.load(unsealed(sealed)).config.temperature == 2.5


def test_a_bundle_has_checksums_of_its_own(sealed: Path, tmp_path: Path) -> None:
    expected = answers(sealed)
    for model in (sealed, unsealed(sealed)):
        bundle = tmp_path / "model.zip"
        assert cli("export", "--model", model, "--bundle", bundle, "--overwrite").code == 0
        assert answers(bundle) == expected
        unpacked = tmp_path / "unpacked"
        shutil.unpack_archive(bundle, unpacked)
        flip(unpacked / "tokenizer.json", 700)
        with pytest.raises(InputError, match=r"tokenizer\.json: damaged: its checksum"):
            textattn.load(unpacked)
        shutil.rmtree(unpacked)


def test_export_of_a_damaged_run_writes_nothing(sealed: Path, tmp_path: Path) -> None:
    flip(sealed / "tokenizer.json", 700)
    done = cli("export", "--model", sealed, "--bundle", tmp_path / "model.zip")
    assert done.code == 3
    assert f"Error: {sealed / 'tokenizer.json'}: damaged: " in done.err
    assert not (tmp_path / "model.zip").exists()


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_model_can_be_loaded_whenever_the_writing_of_a_file_ends(sealed: Path, writes: int) -> None:
    original, done = checksums.write_bytes, []

    def write(path: Path, content: bytes) -> None:
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(path)
        original(path, content)

    expected = answers(sealed)
    content = (sealed / "model.onnx").read_bytes()
    with patch.object(checksums, "write_bytes", write), pytest.raises(KeyboardInterrupt):
        replace_file_of_model(sealed, "model.onnx", content)
    assert answers(sealed) == expected


def test_training_into_a_sealed_directory_forgets_its_checksums(sealed: Path) -> None:
    from textattn.storage.run_dir import RunDir

    RunDir(sealed).write_weights(b"others")
    assert not (sealed / "checksums.json").exists()


def test_every_change_of_a_bit_of_the_checksums_themselves_is_seen() -> None:
    content = to_bytes({"model.onnx": "0123abcd", "config.json": "89abcdef"})
    assert from_bytes(content, "x") == {"config.json": "89abcdef", "model.onnx": "0123abcd"}
    for place in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            with pytest.raises(InputError, match=r"^x: damaged: "):
                from_bytes(bytes(damaged), "x")
        with pytest.raises(InputError, match=r"^x: damaged: "):
            from_bytes(content[:place], "x")


def test_checksums_of_a_newer_version_ask_for_an_upgrade() -> None:
    facts = {"format_version": 2, "sha512": {}}
    own = f"{zlib.crc32(json.dumps(facts).encode()):08x}"
    content = json.dumps(facts | {"crc32_of_this_file": own}, indent=2) + "\n"
    with pytest.raises(InputError, match="has format version 2, but this version of textattn reads formats up to 1"):
        from_bytes(content.encode(), "x")


def test_models_of_earlier_versions_have_none(sealed: Path) -> None:
    expected = answers(sealed)
    assert answers(unsealed(sealed)) == expected
    assert cli("export", "--model", sealed).code == 0
    assert not (sealed / "checksums.json").exists()


def test_damage_of_every_kind_in_every_file(run: Path, tmp_path: Path) -> None:
    """Of a run, a bundle and the cache; `damage_all.py` does the same thousands of times."""
    import damage_all

    assert cli("export", "--model", run, "--bundle", tmp_path / "model.zip", "--quiet").code == 0
    script = "import sys, damage_all as d; from pathlib import Path; d.prepare_folder(*map(Path, sys.argv[1:]))"
    here = Path(damage_all.__file__).parent
    folder = tmp_path / "folder"
    for command in (
        ["-c", script, str(run), str(tmp_path / "model.zip"), str(folder)],
        [str(here / "damage_all.py"), str(folder), "150", "0"],
    ):
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, timeout=500, cwd=here, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout)["counts"]
    assert counts["clear"] >= 70
    assert sum(counts.values()) == 150


def test_the_runtimes_of_these_tests_answer(sealed: Path) -> None:
    """Or everything above would prove nothing."""
    assert len({answers(sealed, runtime) for runtime in RUNTIMES}) >= 2
