"""A run that was stopped and goes on is the run that was never stopped, to the byte; what does not fit is refused."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from inprocess import Result
from inprocess import run as cli
from stopped_runs import KINDS, Killed, Killer, merged, outcome, settings, start, write_texts

from textattn.config import config_from_mapping
from textattn.errors import InputError, TrainingError
from textattn.report import Evaluation
from textattn.runs.train import train
from textattn.training.state import BestWeights, Progress, TrainState


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("data") / "texts.jsonl")


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the usual run leaves that nothing stops."""
    return outcome(start(settings(data, tmp_path_factory.mktemp("undisturbed") / "run")))


QUICK = ("as usual", "stopping where folds were best")


@pytest.mark.parametrize(
    "kind", [*QUICK, *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind not in QUICK)]
)
def test_killed_again_and_again_ends_with_the_same_bytes(kind: str, data: Path, tmp_path: Path) -> None:
    """At random steps and evaluations, until a start gets to the end."""
    expected = outcome(start(settings(data, tmp_path / "whole", kind)))
    config = settings(data, tmp_path / "killed", kind)
    chance = random.Random(kind)
    last = kills = 0
    while True:
        at = last + chance.randint(1, 7)
        killer = Killer(**{chance.choice(["step", "evaluation"]): at})
        try:
            run = start(config, killer, resume=True)
            break
        except Killed:
            kills += 1
            last = max(last, max(killer.steps))
    assert kills >= 2
    assert outcome(run) == expected


def test_goes_on_from_the_last_checkpoint_and_repeats_no_more_than_it_must(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path / "run", training={"checkpoint_steps": 2, "evaluations_per_epoch": 1})
    with pytest.raises(Killed):
        start(config, Killer(step=4))  # of 6 in an epoch; step 4 itself was not kept
    report = Killer()
    start(config, report, resume=True)
    assert report.steps == list(range(3, 19))
    assert [note for note in report.notes if "resumes after" in note] == ["training resumes after step 2 of 18"]


def test_killed_before_the_first_checkpoint_begins_again(
    data: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    config = settings(data, tmp_path / "run")
    with pytest.raises(Killed):
        start(config, Killer(step=1))
    report = Killer()
    assert outcome(start(config, report, resume=True)) == undisturbed
    assert any("no checkpoint to resume from, so training starts again" in note for note in report.notes)


def test_without_a_run_a_new_one_begins_and_a_finished_one_stays(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path / "run")
    report = Killer()
    run = start(config, report, resume=True)
    assert report.notes[0] == f"there is no run to resume in {run}, so a new run starts"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    report = Killer()
    assert start(config, report, resume=True) == run
    assert report.notes == [f"{run} is finished; there is nothing to resume"]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_killed_while_measuring_trains_no_more(
    data: Path, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(data, tmp_path / "run")

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("textattn.runs.finish.model_card", killed)
        with pytest.raises(Killed):
            start(config)
    assert not (tmp_path / "run" / "metrics.json").exists()
    report = Killer()
    assert outcome(start(config, report, resume=True)) == undisturbed
    assert report.steps == []


# Damage


def stopped(config: dict[str, Any], step: int = 13) -> Path:
    """A run that was killed at that step, with two checkpoints."""
    with pytest.raises(Killed):
        start(config, Killer(step=step))
    return Path(config["output"]["dir"])


def flipped(path: Path, place: float) -> None:
    """With one bit changed; a new file, because the best weights have two names."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["cut", "empty", "first", "head", "middle", "last", "best"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    damage: str, data: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    config = settings(data, tmp_path / "run")
    run = stopped(config)
    steps = sorted((run / "checkpoints").glob("step-*"))
    assert len(steps) == 2
    newest = steps[-1]
    if damage == "cut":
        newest.write_bytes(newest.read_bytes()[:-100])
    elif damage == "empty":
        newest.write_bytes(b"")
    elif damage == "best":
        flipped(max((run / "checkpoints").glob("best-*")), 0.9)
    else:
        flipped(newest, {"first": 0.0, "head": 0.01, "middle": 0.5, "last": 1.0}[damage])
    report = Killer()
    result = start(config, report, resume=True)
    assert any("damaged (" in note for note in report.notes)
    assert outcome(result) == undisturbed


def test_all_checkpoints_damaged_begins_again(data: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    config = settings(data, tmp_path / "run")
    for path in (stopped(config) / "checkpoints").iterdir():
        path.unlink() if path.name.startswith("best") else path.write_bytes(b"{}")
    report = Killer()
    assert outcome(start(config, report, resume=True)) == undisturbed
    assert any("so training starts again" in note for note in report.notes)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, b"{"])
def test_a_lost_or_damaged_file_of_the_model_is_said_at_once(
    name: str, content: bytes | None, data: Path, tmp_path: Path
) -> None:
    config = settings(data, tmp_path / "run")
    file = stopped(config) / name
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    report = Killer()
    with pytest.raises(InputError, match=rf"run/{re.escape(name)}: (no such file|damaged|not a tokenizer)") as caught:
        start(config, report, resume=True)
    assert not report.steps
    assert "overwrite=True begins again" in str(caught.value.hint)


def test_what_a_killed_process_was_writing_is_removed_and_nothing_else(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path / "run")
    run = stopped(config)
    for name in (".model.safetensors.ab12.tmp", ".log.jsonl.x.tmp", "checkpoints/.step-000000099.safetensors.q.tmp"):
        (run / name).write_bytes(b"half")
    (run / ".notes.tmp").write_text("mine")
    start(config, resume=True)
    assert {path.name for path in run.rglob(".*")} == {".notes.tmp"}


def test_two_checkpoints_and_their_best_weights_are_kept(data: Path, tmp_path: Path) -> None:
    run = stopped(settings(data, tmp_path / "run", training={"epochs": 8}), step=37)
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert [name for name in names if name.startswith("step-")] == names[-2:]
    assert 1 <= len(names[:-2]) <= 2
    for path in (run / "checkpoints").glob("step-*"):
        best = TrainState.from_bytes(path.read_bytes()).best
        assert best is not None
        assert sha256(run / "checkpoints" / best.file) == best.sha256


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_model_is_that_of_the_checkpoint_it_goes_on_from(data: Path, tmp_path: Path) -> None:
    """Killed between better weights and their checkpoint, then stopped again before they come a second time."""
    config = settings(data, tmp_path / "run", training={"evaluations_per_epoch": 1, "checkpoint_steps": None})
    with pytest.raises(Killed):
        start(config, Killer(evaluation=12))  # the second of three; nothing after its weights was kept
    run = tmp_path / "run"
    (checkpoint,) = (run / "checkpoints").glob("step-*")
    best = TrainState.from_bytes(checkpoint.read_bytes()).best
    assert best is not None
    later = sha256(run / "model.safetensors")
    if later == best.sha256:  # it was no better: as if it had been
        flipped(run / "model.safetensors", 0.9)
    with pytest.raises(Killed):
        start(config, Killer(step=7), resume=True)
    assert sha256(run / "model.safetensors") == best.sha256
    assert len((run / "log.jsonl").read_text().splitlines()) == 1


def test_after_going_back_nothing_newer_is_left(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path / "run")
    run = stopped(config)
    older, newest = sorted((run / "checkpoints").glob("step-*"))
    flipped(newest, 0.5)
    weights = run / "checkpoints" / "best-000000099.safetensors"
    weights.write_bytes(b"of a time that has not come")
    with pytest.raises(Killed):
        start(config, Killer(step=int(older.stem.removeprefix("step-")) + 1), resume=True)
    assert [path.name for path in (run / "checkpoints").glob("step-*")] == [older.name]
    assert not weights.exists()


# Refusals


@pytest.mark.parametrize(
    ("sections", "messages"),
    [
        ({"training": {"epochs": 4}}, ["training.epochs: was 3, is now 4"]),
        ({"seed": 9, "model": {"hidden_size": 9}}, ["model.hidden_size: was 8, is now 9", "seed: was 42, is now 9"]),
        ({"data": {"validation_fraction": 0.3}}, ["data.validation_fraction: was 0.2, is now 0.3"]),
    ],
)
def test_another_config_is_refused_with_the_differences(
    sections: dict[str, Any], messages: list[str], data: Path, tmp_path: Path
) -> None:
    config = settings(data, tmp_path / "run")
    run = stopped(config)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = start_cli(tmp_path, merged(config, sections))
    assert done.code == 2
    for message in messages:
        assert f"\n  {message}\n" in done.err
    assert done.err.count(", is now ") == len(messages)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def start_cli(folder: Path, config: dict[str, Any], *more: str) -> Result:
    (folder / "config.yaml").write_text(json.dumps(config))
    return cli("train", folder / "config.yaml", "--resume", *more)


def test_other_data_are_refused(data: Path, tmp_path: Path) -> None:
    own = Path(shutil.copy(data, tmp_path / "own.jsonl"))
    config = settings(own, tmp_path / "run")
    run = stopped(config)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    content = own.read_text()
    own.write_text(content.replace('"label": "True"', '"label": "False"', 1))
    done = start_cli(tmp_path, config)
    assert done.code == 2
    assert (
        "the train split has changed" in done.err
        or "the test split has changed" in done.err
        or ("the validation split has changed" in done.err)
    )
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    own.write_text(content)
    assert start_cli(tmp_path, config).code == 0


def test_other_texts_without_labels_are_refused(data: Path, tmp_path: Path) -> None:
    """They are trained on as well; with the same letters the vocabulary does not tell them apart."""
    texts = tmp_path / "unlabelled.jsonl"
    rows = [json.dumps({"text": f"{letter} b c"}) + "\n" for letter in "adefgh"]
    texts.write_text("".join(rows))
    more = {"data": {"unlabelled": {"path": str(texts)}}, "tokenizer": {"type": "char"}}
    config = merged(settings(data, tmp_path / "run"), more)
    run = stopped(config)
    texts.write_text("".join(reversed(rows)))
    done = start_cli(tmp_path, config)
    assert done.code == 2
    assert "\n  data.unlabelled: the texts have changed\n" in done.err
    # What a run of an older version did not write down is not asked for.
    environment = json.loads((run / "environment.json").read_text())
    del environment["dataset"]["unlabelled_sha256"]
    (run / "environment.json").write_text(json.dumps(environment))
    assert start_cli(tmp_path, config).code == 0


def test_how_often_checkpoints_are_kept_may_change(data: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    stopped(settings(data, tmp_path / "run"))
    again = settings(data, tmp_path / "run", training={"checkpoint_steps": None})
    assert outcome(start(again, resume=True)) == undisturbed


def test_resume_and_overwrite_exclude_each_other(data: Path, tmp_path: Path) -> None:
    done = start_cli(tmp_path, settings(data, tmp_path / "run"), "--overwrite")
    assert done.code == 2
    assert not (tmp_path / "run").exists()


def test_an_unfinished_run_is_not_trained_over(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path / "run")
    stopped(config)
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    done = cli("train", tmp_path / "config.yaml")
    assert done.code == 2
    assert "already contains an unfinished run; nothing was changed" in done.err
    assert "--resume continues it" in done.err


def test_without_a_directory_the_newest_run_of_the_config_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = settings(data, tmp_path / "unused")
    del config["output"]["dir"]
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    first = cli("train", "config.yaml").out.strip()
    Path(first).rename("runs/config/2001-01-01T00-00-00")
    with pytest.raises(Killed):
        train(config_from_mapping(config), name="config", report=Killer(step=7))
    (newest,) = [path for path in Path("runs/config").iterdir() if "2001" not in path.name]
    done = cli("train", "config.yaml", "--resume")
    assert (done.code, done.out) == (0, f"{newest}\n")
    assert outcome(newest) == outcome(Path("runs/config/2001-01-01T00-00-00"))


# Disk


def test_a_full_disk_ends_the_run_and_what_was_kept_goes_on(
    data: Path, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(data, tmp_path / "run")
    saved = 0
    to_bytes = TrainState.to_bytes

    def full(self: TrainState) -> bytes:
        nonlocal saved
        saved += 1
        if saved == 4:
            raise OSError(28, "No space left on device")
        return to_bytes(self)

    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "to_bytes", full)
        with pytest.raises(TrainingError) as caught:
            start(config)
    assert "No space left on device" in caught.value.message
    assert "resume=True output.dir=" in str(caught.value.hint)
    assert outcome(start(config, resume=True)) == undisturbed


def test_a_disk_that_cannot_be_read_is_not_called_one_that_cannot_be_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("textattn.training.examples.collate", unreadable)
    with pytest.raises(OSError, match="Input/output error"):
        start(settings(data, tmp_path / "run"))


# The file


def test_a_checkpoint_holds_what_it_was_given_and_notices_any_change() -> None:
    tensors = {"model/a": torch.randn(3, 4), "random/cpu": torch.get_rng_state(), "optimizer/a/step": torch.tensor(3.0)}
    best = BestWeights(Evaluation(7, 0.5, 0.1, float("nan"), True, 1.0), "best-000000007.safetensors", "ab")
    progress = Progress({"state": 2**100}, best=float("nan"))
    content = TrainState(tensors, progress, {}, [{"step": 7}], best).to_bytes()
    again = TrainState.from_bytes(content)
    assert again.progress.shuffle == {"state": 2**100}
    assert again.best is not None
    assert (again.best.file, again.best.sha256, again.best.evaluation.global_step) == (best.file, "ab", 7)
    assert again.log == [{"step": 7}]
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in tensors.items())
    for place in range(0, len(content), 37):
        damaged = bytearray(content)
        damaged[place] ^= 4
        with pytest.raises(ValueError, match=r"\S"):
            TrainState.from_bytes(bytes(damaged))
