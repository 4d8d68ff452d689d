"""Files that are not ours stay as they are, whatever a cache, a run directory or an option points at."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from inprocess import run as cli

from textattn.errors import ConfigError
from textattn.storage import cache
from textattn.storage.run_dir import RunDir
from textattn.storage.run_folder import begin, check

KEY = "0123456789abcdef" * 4
TINY = [
    "data.path=reviews.jsonl", "tokenizer.min_frequency=1", "model.embedding_dim=8", "model.hidden_size=8",
    "training.epochs=1", "training.cross_validation=null", "output.audit_examples=0", "output.plots=false",
]  # fmt: skip
Picture = dict[str, tuple[object, ...]]


def picture(folder: Path) -> Picture:
    """Everything in a folder: links with their targets, files with their content, and the dates of files."""
    found: Picture = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = ("folder",)
        else:
            # A sparse file of gigabytes is not read.
            content = path.read_bytes() if path.stat().st_size < 1 << 20 else b""
            found[name] = (hashlib.sha256(content).hexdigest(), path.stat().st_size, path.stat().st_mtime_ns)
    return found


def write(path: Path, content: str = "mine") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def sparse(path: Path, size: int = 6 << 30) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def age(folder: Path) -> None:
    """Make everything in a folder two days old, as what killed processes have left is."""
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2, follow_symlinks=False)


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{"text": f"{word} film {i}", "label": word} for i in range(20) for word in ("good", "bad")]
    Path("reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def train(out: str, *options: str) -> None:
    done = cli("train", "quickstart", *TINY, f"output.dir={out}", *options)
    assert done.code == 0, done.err


@pytest.fixture
def home(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a person, which TEXTATTN_CACHE names by mistake. It contains everything that looks like a cache."""
    folder = work / "home"
    write(folder / "thesis" / ".git" / "HEAD")
    write(folder / "thesis" / "chapters" / "one.tex")
    write(folder / "app" / ".venv" / "pyvenv.cfg")
    write(folder / ".hidden" / ".deeper" / "file")
    write(folder / "data" / KEY / "photo.jpg")
    write(folder / "data" / ("f" * 64) / "train.arrow")
    write(folder / "data" / ".unfinished-abcd1234" / "notes.txt")
    write(folder / "vectors" / "mine" / "matrix.npy")
    write(folder / "CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# of another program")
    sparse(folder / "photos" / "2019" / "film.mp4")
    (folder / "photos" / "link").symlink_to(folder / "thesis")
    (folder / "photos" / ".link").symlink_to(folder / "thesis")
    age(folder)
    monkeypatch.setenv(cache.VARIABLE, str(folder))
    monkeypatch.setattr(cache, "LARGEST", 1)  # every entry but the newest is one too many
    return folder


def test_a_folder_with_other_things_is_left_alone_by_the_cache(home: Path) -> None:
    before = picture(home)
    train("one")
    train("two", "seed=2")
    ours = home / "textattn"
    assert [path.name for path in ours.glob("data/*") if path.is_dir()]  # there is a cache, in a folder of its own
    assert cache.folder() == ours
    shown = cli("cache")
    assert f"1 entry, 0 MB in {ours}" in shown.err
    assert f"deleted 1 entry, 0 MB in {ours}" in cli("cache", "--clear").err
    assert not list(ours.glob("*/*"))
    assert {name: value for name, value in picture(home).items() if not name.startswith("textattn")} == before


def test_a_project_whose_sub_folder_is_called_textattn_has_no_cache(home: Path) -> None:
    write(home / "textattn" / "__init__.py")
    before = picture(home)
    train("one")
    assert "names a folder with other files" in cli("cache", "--clear").err
    assert picture(home) == before


def test_things_that_lie_in_our_cache_are_left_alone(home: Path, work: Path) -> None:
    """A person may put things into a folder that is ours; what looks like an entry counts only with our files in it."""
    shutil.rmtree(home)
    train("one")
    assert cache.folder() == home
    (entry,) = (home / "data").iterdir()
    outside = work / "outside"
    write(outside / "train.arrow")
    write(home / "data" / "thesis" / "train.arrow")
    write(home / "data" / KEY / "photo.jpg")
    write(home / "data" / ".git" / "HEAD")
    write(home / "data" / ".unfinished-abcd1234" / "notes.txt")
    write(home / "photos" / KEY / "train.arrow")
    write(entry / "notes.txt")
    (home / "data" / ("a" * 64)).symlink_to(outside)
    (home / "data" / ".unfinished-abcd5678").symlink_to(outside)
    (home / "vectors").symlink_to(outside)
    before = picture(home) | picture(outside)
    age(home)
    age(outside)
    foreign = {name: value[:2] for name, value in (picture(home) | picture(outside)).items()}
    own = {str(file.relative_to(home)) for file in entry.iterdir() if file.name != "notes.txt"}
    train("two", "seed=2")
    assert cli("cache", "--clear").code == 0
    after = {name: value[:2] for name, value in (picture(home) | picture(outside)).items()}
    assert after == {name: value for name, value in foreign.items() if name not in own}
    assert own < before.keys()


def test_a_cache_of_an_earlier_version_is_shown_and_deleted(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no marks, so only folders that hold nothing but files of ours count."""
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(work))
    root = work / "textattn"
    write(root / "vectors" / KEY / "matrix.npy")
    write(root / "data" / KEY / "train.arrow")
    write(root / "data" / KEY / "letter.doc")
    write(root / "data" / ".git" / "HEAD")
    assert [entry for entry, _ in cache.entries(root)] == [root / "vectors" / KEY]
    assert cli("cache", "--clear").code == 0
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == [
        "data/.git/HEAD", f"data/{KEY}/letter.doc", f"data/{KEY}/train.arrow",
    ]  # fmt: skip


def test_a_half_written_mark_of_a_killed_process_is_ours(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, "kept")
    write(work / "kept" / "CACHEDIR.TAG", cache.TAG_CONTENT[:20].decode())
    train("one")
    assert (work / "kept" / "CACHEDIR.TAG").read_bytes() == cache.TAG_CONTENT
    assert len(list((work / "kept").glob("data/*"))) == 1


# Run directories


@pytest.fixture
def project(work: Path) -> Path:
    """A project with a copied config, and folders of the names that runs use."""
    train("run")
    folder = work / "project"
    folder.mkdir()
    shutil.copy("run/training_config.yaml", folder)
    for name in (
        "README.md", "config.json", "log.jsonl", "metrics.csv", "plots/training.png", "predictions/test.parquet",
        "wandb/run-20260101_000000-abcd/files/x", "checkpoints/step-000000001.safetensors", "tensorboard/mine",
    ):  # fmt: skip
        write(folder / name, "{}")
    write(folder / "environment.json", '{"textattn": "no run"}')
    (folder / "attention").symlink_to(folder / "plots")
    return folder


@pytest.mark.parametrize("option", ["--resume", "--overwrite", "--quiet"])
@pytest.mark.parametrize("with_config", [True, False])
def test_a_project_is_not_a_run(option: str, with_config: bool, project: Path) -> None:
    if not with_config:
        (project / "training_config.yaml").unlink()
    before = picture(project)
    done = cli("train", "quickstart", *TINY, "output.dir=project", option)
    assert done.code == 2
    what = (
        "contains a training_config.yaml, but it is not the directory of a run" if with_config else "already contains"
    )
    assert f"output.dir: project {what}" in done.err
    assert "nothing was changed" in done.err
    assert "output.dir=runs/my-run" in done.err
    assert picture(project) == before


def test_an_audit_of_a_model_in_a_project_changes_no_file_there(project: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "metrics.json"):
        shutil.copy(Path("run") / name, project)
    (project / "environment.json").unlink()
    before = picture(project)
    done = cli("audit", "--model", "project", "--split", "validation", "--examples", "8")
    assert done.code == 0, done.err
    assert picture(project) == before


def test_a_summary_of_seeds_is_ours_only_with_its_runs(work: Path) -> None:
    write(work / "garden" / "seeds.json", "carrots")
    before = picture(work / "garden")
    done = cli("train", "quickstart", *TINY, "output.dir=garden", "--seeds", "2")
    assert done.code == 2
    assert "garden already contains files that are not a run; nothing was changed" in done.err
    assert picture(work / "garden") == before


FOREIGN = (
    "mine.txt", "plots/holiday.png", "plots/.mine.tmp", "predictions/other.parquet", "attention/notes.md",
    "checkpoints/step-one.safetensors", "wandb/settings", "wandb/offline-run-20260101_000000-zzzz/files/config.yaml",
    "tensorboard/readme", "deeper/plots/training.png", "plots/training.png.d/x",
)  # fmt: skip
OWN = (
    "plots/training.png", "plots/.training.png.ab12cd34.tmp", "predictions/test.parquet", "attention/train.parquet",
    "checkpoints/step-000000007.safetensors", "checkpoints/best-000000007.safetensors", "model.int8.onnx",
    "wandb/offline-run-20260101_000000-abcd/files/config.yaml", "tensorboard/events.out.tfevents.1.host.2.0",
)  # fmt: skip


@pytest.mark.parametrize("option", ["--overwrite", "--resume"])
def test_beginning_again_removes_the_files_of_a_run_and_no_others(option: str, work: Path) -> None:
    train("run")
    run = work / "run"
    for name in (*FOREIGN, *OWN):
        write(run / name, name)
    write(run / "tracking.json", '{"wandb": "abcd"}')
    (run / "wandb" / "latest-run").symlink_to("offline-run-20260101_000000-abcd")
    (run / "wandb" / "other-run").symlink_to("offline-run-20260101_000000-zzzz")
    if option == "--resume":  # without checkpoints, a run begins again
        shutil.rmtree(run / "checkpoints")
        write(run / "checkpoints" / "step-one.safetensors", "checkpoints/step-one.safetensors")
        (run / "metrics.json").unlink()
    age(run)
    before = picture(run)
    train("run", option)
    after = picture(run)
    assert {name: after.get(name) for name in FOREIGN} == {name: before[name] for name in FOREIGN}
    assert after["wandb/other-run"] == before["wandb/other-run"]
    assert "wandb/latest-run" not in after
    old = {name for name in OWN if after.get(name) == before.get(name) and name in before}
    assert old == set()
    assert RunDir(run).is_finished()


@pytest.mark.parametrize("option", ["--overwrite", "--resume"])
@pytest.mark.parametrize(
    "linked", ["plots", "predictions", "checkpoints", "wandb", "README.md", "trainer_state.json", "plots/training.png"]
)
def test_a_link_is_not_written_to(option: str, linked: str, work: Path) -> None:
    train("run")
    write(work / "pictures" / "training.png")
    write(work / "pictures" / "step-000000001.safetensors")
    place = work / "run" / linked
    if place.suffix:
        place.parent.mkdir(exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(work / "pictures" / "training.png")
    else:
        shutil.rmtree(place, ignore_errors=True)
        place.symlink_to(work / "pictures")
    if option == "--resume":
        (work / "run" / "metrics.json").unlink()
    before = picture(work / "run") | picture(work / "pictures")
    done = cli("train", "quickstart", *TINY, "output.dir=run", "output.plots=true", option)
    assert done.code == 2
    assert f"run/{linked} is a symbolic link" in done.err
    assert picture(work / "run") | picture(work / "pictures") == before


def test_a_run_of_an_earlier_version_is_known_by_files_that_fit_together(work: Path) -> None:
    train("run")
    (work / "run" / "RUNDIR.TAG").unlink()
    train("run", "--overwrite")
    assert (work / "run" / "RUNDIR.TAG").exists()
    for missing in ("environment.json", "config.json", "training_config.yaml"):
        shutil.copytree("run", missing)
        (work / missing / "RUNDIR.TAG").unlink()
        (work / missing / missing).unlink()
        with pytest.raises(ConfigError, match="nothing was changed"):
            begin(RunDir(work / missing), True)


def test_what_a_process_left_that_was_killed_while_it_began_again(work: Path) -> None:
    begin(RunDir(work / "run"), False)
    write(work / "run" / "mine.txt")
    check(RunDir(work / "run"), False)
    write(work / "run" / "plots" / "training.png")
    with pytest.raises(ConfigError, match="already contains parts of a run; nothing was changed"):
        check(RunDir(work / "run"), False)
    train("run", "--overwrite")
    assert (work / "run" / "mine.txt").read_text() == "mine"
