"""What TensorBoard, MLflow and Weights & Biases have been told, read back from what they wrote; no network."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import sqlite3
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from inprocess import run as cli
from stopped_runs import Killed, Killer, outcome, settings, start, write_texts

from textattn.config import config_from_mapping
from textattn.errors import Pruned
from textattn.report import Report
from textattn.runs.seeds import train_seeds
from textattn.runs.signals import Interrupted

TITLES = ("TensorBoard", "MLflow", "Weights & Biases")
ALL = ["tensorboard", "mlflow", "wandb"]
STEPS = 18  # 48 texts, 8 in a batch, 3 epochs
MLFLOW = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_DISABLE_TELEMETRY")
PICTURES = {"training", "confusion_matrix", "reliability"}


class Scene(NamedTuple):
    data: Path
    database: Path
    folder: Path
    connections: list[bytes]
    stderr: str

    @property
    def run(self) -> Path:
        return self.folder / "run"


def tracked(data: Path, run: Path, tools: list[str], **sections: Any) -> dict[str, Any]:
    config = settings(data, run, **sections)
    return config | {"output": config["output"] | {"tracking": tools, "plots": tools == ALL}}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """One run that tells all three, with a proxy that would see what is sent anywhere."""
    folder = tmp_path_factory.mktemp("tracked")
    data = write_texts(folder / "texts.jsonl")
    (folder / "small.yaml").write_text(json.dumps(tracked(data, folder / "run", ALL)))
    connections: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as proxy:
        threading.Thread(target=listen, args=(proxy, connections), daemon=True).start()
        there = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            patch.setenv(name, there)
            patch.setenv(name.upper(), there)
        # Where tests run some tools keep quiet by themselves.
        for name in ("no_proxy", "NO_PROXY", "CI", "PYTEST_CURRENT_TEST", "PYTEST_VERSION", *MLFLOW):
            patch.delenv(name, raising=False)
        patch.chdir(folder)
        done = cli("train", "small.yaml", WANDB_MODE="offline")
    assert (done.code, done.out) == (0, f"{folder / 'run'}\n"), done.err
    return Scene(data, folder / "mlflow.db", folder, connections, done.err)


def listen(server: socket.socket, connections: list[bytes]) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:  # closed
            return
        with connection:
            connections.append(connection.recv(200))


@pytest.fixture(autouse=True)
def _here(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scene.folder)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def client() -> Any:
    from mlflow import MlflowClient

    return MlflowClient()


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), {"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def records(file: Path) -> Iterator[Any]:
    """Of a .wandb file: a LevelDB log after a head of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, whole = file.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield Record.FromString(whole)
            whole = b""


def wandb_files(run: Path) -> list[Path]:
    return sorted((run / "wandb").glob("offline-run-*/run-*.wandb"))


def history(file: Path) -> list[dict[str, Any]]:
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records(file)
        if record.HasField("history")
    ]


# One run


def test_a_tracked_run_has_the_bytes_of_an_untracked_one(scene: Scene, tmp_path: Path) -> None:
    plain = outcome(start(settings(scene.data, tmp_path / "run", output={"plots": True})))
    assert {**outcome(scene.run), "files": None} == {**plain, "files": None}
    own = {path.name for path in scene.run.iterdir()} - set(plain["files"])
    assert own == {"tensorboard", "wandb", "tracking.json"}


def test_nothing_is_sent_anywhere_or_left_beside_the_run(scene: Scene) -> None:
    assert scene.connections == []
    # Where MLflow keeps its things when nobody says where.
    assert {path.name for path in scene.folder.iterdir()} == {"texts.jsonl", "small.yaml", "run", "mlflow.db", "mlruns"}


def test_the_tools_say_where_they_are_and_else_nothing(scene: Scene) -> None:
    ids = json.loads((scene.run / "tracking.json").read_text())
    said = [line for line in scene.stderr.splitlines() if line.startswith(tuple(f"Note: {name}: " for name in TITLES))]
    (folder,) = (scene.run / "wandb").glob("offline-run-*")
    assert said == [
        f"Note: TensorBoard: tensorboard --logdir {scene.run / 'tensorboard'}",
        f"Note: MLflow: run {ids['mlflow']}",
        f"Note: Weights & Biases: wandb sync {folder}",
    ]
    assert not [line for line in scene.stderr.splitlines() if "wandb:" in line or "INFO" in line or "WARNING" in line]


def test_tensorboard_shows_the_run(scene: Scene) -> None:
    shown = scalars(scene.run)
    log, metrics = log_of(scene.run), json.loads((scene.run / "metrics.json").read_text())
    assert [step for step, _ in shown["train/loss"]] == list(range(1, STEPS + 1))
    assert shown["validation/accuracy"] == [(e["step"], pytest.approx(e["eval_accuracy"])) for e in log]
    first = [value for step, value in shown["train/loss"] if step <= log[0]["step"]]
    assert sum(first) / len(first) == pytest.approx(log[0]["loss"], rel=1e-5)
    rates = dict(shown["train/learning_rate"])
    assert [rates[e["step"]] for e in log] == pytest.approx([e["learning_rate"] for e in log])
    assert min(value for _, value in shown["train/tokens_per_second"]) > 0
    assert shown["final/validation/log_loss"] == [(STEPS, pytest.approx(metrics["validation"]["log_loss"]))]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(scene.run / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["images"]) == {f"plots/{name}" for name in PICTURES}
    (text,) = events.Tensors("config/text_summary")
    assert b"hidden_size: 8" in text.tensor_proto.string_val[0]


def test_mlflow_has_the_run(scene: Scene) -> None:
    id = json.loads((scene.run / "tracking.json").read_text())["mlflow"]
    found = client().get_run(id)
    log, metrics = log_of(scene.run), json.loads((scene.run / "metrics.json").read_text())
    assert (found.info.status, found.info.run_name) == ("FINISHED", "small run")
    assert client().get_experiment(found.info.experiment_id).name == "textattn"
    assert found.data.tags["textattn.run_directory"] == str(scene.run)
    assert found.data.params["model.hidden_size"] == "8"
    assert found.data.params["output.tracking"] == str(ALL)
    assert found.data.metrics["final/validation/log_loss"] == metrics["validation"]["log_loss"]
    points = client().get_metric_history(id, "validation/accuracy")
    assert [(p.step, p.value) for p in points] == [(e["step"], e["eval_accuracy"]) for e in log]
    assert {file.path for file in client().list_artifacts(id, "plots")} == {f"plots/{name}.png" for name in PICTURES}
    card = Path(client().download_artifacts(id, "README.md"))
    assert card.read_bytes() == (scene.run / "README.md").read_bytes()


def test_wandb_can_send_the_run_later(scene: Scene) -> None:
    (file,) = wandb_files(scene.run)
    found = list(records(file))
    (run,) = [record.run for record in found if record.HasField("run")]
    assert (run.project, run.display_name) == ("textattn", "small run")
    assert run.run_id == json.loads((scene.run / "tracking.json").read_text())["wandb"]
    config = {item.key: item.value_json for item in run.config.update}
    assert json.loads(config["model"])["hidden_size"] == 8
    assert json.loads(config["run_directory"]) == str(scene.run)
    points, log = history(file), log_of(scene.run)
    assert [p["_step"] for p in points] == list(range(1, STEPS + 1))
    told = [(p["_step"], p["validation/accuracy"]) for p in points if "validation/accuracy" in p]
    assert told == [(e["step"], e["eval_accuracy"]) for e in log]
    assert {name for name in points[-1] if name.endswith("/path")} == {f"plots/{name}/path" for name in PICTURES}
    assert len(list(file.parent.glob("files/media/images/plots/*.png"))) == len(PICTURES)
    summary = {item.key or "/".join(item.nested_key): item.value_json for r in found for item in r.summary.update}
    metrics = json.loads((scene.run / "metrics.json").read_text())
    assert json.loads(summary["final/validation/log_loss"]) == metrics["validation"]["log_loss"]
    assert [record.exit.exit_code for record in found if record.HasField("exit")] == [0]


# Several starts, several runs


def test_a_killed_run_goes_on_in_the_same_runs_and_says_nothing_twice(scene: Scene, tmp_path: Path) -> None:
    config = tracked(scene.data, tmp_path / "run", ALL)
    with pytest.raises(Killed):
        start(config, Killer(step=14))  # the last checkpoint is of step 12
    ids = json.loads((tmp_path / "run" / "tracking.json").read_text())
    run = start(config, resume=True)
    assert json.loads((run / "tracking.json").read_text()) == ids
    every = list(range(1, STEPS + 1))
    shown = scalars(run)
    assert [step for step, _ in shown["train/loss"]] == every
    assert shown["validation/accuracy"] == [(e["step"], pytest.approx(e["eval_accuracy"])) for e in log_of(run)]
    found = client().get_run(ids["mlflow"])
    assert found.info.status == "FINISHED"
    assert [p.step for p in client().get_metric_history(ids["mlflow"], "train/loss")] == every
    points = client().get_metric_history(ids["mlflow"], "validation/accuracy")
    assert [p.step for p in points] == [e["step"] for e in log_of(run)]
    files = wandb_files(run)
    assert [record.run.run_id for f in files for record in records(f) if record.HasField("run")] == [ids["wandb"]] * 2
    assert {p["_step"] for file in files for p in history(file)} == set(every)


class Stopper(Report):
    """Ctrl-C at a step, as the terminal would send it."""

    @contextlib.contextmanager
    def training(self, epochs: int) -> Iterator[Callable[[Any], None]]:
        yield lambda step: signal.raise_signal(signal.SIGINT) if step.global_step == 5 else None


def test_an_interrupted_run_is_marked_as_such_until_it_goes_on(scene: Scene, tmp_path: Path) -> None:
    config = tracked(scene.data, tmp_path / "run", ["mlflow", "wandb"])
    with pytest.raises(Interrupted):
        start(config, Stopper())
    id = json.loads((tmp_path / "run" / "tracking.json").read_text())["mlflow"]
    assert client().get_run(id).info.status == "KILLED"
    (file,) = wandb_files(tmp_path / "run")
    assert [record.exit.exit_code for record in records(file) if record.HasField("exit")] == [255]
    # Tracking may be left out, or begun, where a run goes on.
    start(tracked(scene.data, tmp_path / "run", ["mlflow"]), resume=True)
    assert client().get_run(id).info.status == "FINISHED"
    assert [p.step for p in client().get_metric_history(id, "train/loss")] == list(range(1, STEPS + 1))


def test_each_seed_is_a_tracked_run(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "two seeds")
    config = config_from_mapping(tracked(scene.data, tmp_path / "seeds", ["mlflow"], training={"epochs": 1}))
    train_seeds(config, 2, name="mine")
    experiment = client().get_experiment_by_name("two seeds")
    found = client().search_runs([experiment.experiment_id])
    assert {run.info.run_name: run.data.params["seed"] for run in found} == {"mine seed-42": "42", "mine seed-43": "43"}


# What goes wrong


@pytest.mark.parametrize(
    ("tool", "missing"),
    [("tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("mlflow", "sqlalchemy"), ("wandb", "wandb")],
)
def test_a_missing_extra_is_named_before_anything_is_read(
    tool: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    run = tmp_path / "run"
    done = cli("train", "quickstart", "data.path=/no/where", f"output.dir={run}", f"output.tracking=[{tool}]")
    assert (done.code, done.out) == (2, "")
    assert f"Error: output.tracking={tool} needs the package {missing}" in done.err
    assert f"Hint: pip install 'textattn[{tool}]'" in done.err
    assert not run.exists()


def test_an_unknown_tool_is_a_wrong_config() -> None:
    done = cli("train", "quickstart", "output.tracking=[neptune]")
    assert done.code == 2
    assert "output.tracking[0]: must be one of 'tensorboard', 'mlflow', 'wandb', got 'neptune'" in done.err


class Breaker(Report):
    """Breaks all three in the middle of a run: a full disk, a database and a process that are gone."""

    def __init__(self, run: Path, database: Path) -> None:
        self.run, self.database = run, database
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextlib.contextmanager
    def training(self, epochs: int) -> Iterator[Callable[[Any], None]]:
        yield lambda step: self.break_all() if step.global_step == 5 else None

    def break_all(self) -> None:
        (events,) = (self.run / "tensorboard").iterdir()
        events.unlink()
        events.symlink_to("/dev/full")
        with sqlite3.connect(self.database) as database:
            database.execute("ALTER TABLE metrics RENAME TO gone")
        for children in Path("/proc/self/task").glob("*/children"):
            for process in children.read_text().split():
                if b"wandb-core" in Path(f"/proc/{process}/cmdline").read_bytes():
                    os.kill(int(process), signal.SIGKILL)
        time.sleep(0.3)
        # W&B watches imports of this name, here an empty file; and a run imports things late.
        importlib.import_module("fastai")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="breaks what is open by Linux's ways")
def test_tools_that_fail_in_the_middle_cost_the_run_nothing(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    (tmp_path / "fastai.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    report = Breaker(run, scene.database)
    try:
        start(tracked(scene.data, run, ALL), report)
    finally:
        with sqlite3.connect(scene.database) as database:
            database.execute("ALTER TABLE gone RENAME TO metrics")
        with contextlib.suppress(ConnectionError):  # of the process that was killed
            wandb.teardown()
    assert {**outcome(run), "files": None} == {**outcome(scene.run), "files": None}
    failed = [
        note.partition(" failed, and the run continues without it (")[0] for note in report.notes if "failed" in note
    ]
    assert sorted(failed) == sorted(TITLES)


def test_a_server_that_is_away_costs_the_run_nothing(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    report = Killer()
    run = start(tracked(scene.data, tmp_path / "run", ["mlflow"], training={"epochs": 1}), report)
    (note,) = [note for note in report.notes if "MLflow" in note]
    assert note.startswith("MLflow failed, and the run continues without it (MlflowException: API request to http://")
    assert (run / "metrics.json").exists()
    assert not (run / "tracking.json").exists()


def test_a_trial_that_is_given_up_has_not_failed(scene: Scene, tmp_path: Path) -> None:
    class GivesUp(Report):
        def evaluated(self, evaluation: Any, metric: str, step: Any) -> None:
            raise Pruned

    with pytest.raises(Pruned):
        start(tracked(scene.data, tmp_path / "run", ["mlflow"]), GivesUp())
    run = json.loads((tmp_path / "run" / "tracking.json").read_text())["mlflow"]
    with sqlite3.connect(scene.database) as database:
        (status,) = database.execute("SELECT status FROM runs WHERE run_uuid = ?", (run,)).fetchone()
    assert status == "KILLED"
