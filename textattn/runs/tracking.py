"""The same run told to TensorBoard, MLflow or Weights & Biases. The run directory stays the truth.

What a tool does not take costs the run nothing: it is said once, and the run goes on without that tool. Where the tools
write and what their projects are called is said by their own variables, such as MLFLOW_TRACKING_URI and WANDB_MODE.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from textattn.config import Config, dump_config, flat_settings, load_config
from textattn.errors import MissingExtra, Pruned
from textattn.report import Report
from textattn.runs.signals import Interrupted, Terminated, signal_number
from textattn.storage.run_dir import RunDir

if TYPE_CHECKING:
    from textattn.report import Evaluation, Step

Status = Literal["finished", "interrupted", "failed"]
TITLES = {"tensorboard": "TensorBoard", "mlflow": "MLflow", "wandb": "Weights & Biases"}
# Ends of a run that are no failure of it.
STOPPED = (Interrupted, KeyboardInterrupt, Terminated, Pruned)
# Of experiments and projects, where the tool's own variable names none.
PROJECT = "textattn"
# So many points of the training loss at most, besides those of evaluations.
POINTS = 200
# Seconds that a finished run waits for uploads.
PATIENCE = 120


def check_trackers(names: Sequence[str]) -> None:
    """Imports them, so that what is missing is known before anything is read.

    Raises:
        MissingExtra: the package is not installed.
    """
    for name in names:
        feature = f"output.tracking={name}"
        try:
            if name == "tensorboard":
                from torch.utils.tensorboard import SummaryWriter  # noqa: F401
            elif name == "mlflow":
                # Nobody is told of the run but who was asked for; and a server that is away is not waited for long.
                os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
                os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
                os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
                import sqlalchemy  # noqa: F401  (for the file that MLflow writes to by default)
                from mlflow import MlflowClient  # noqa: F401
            else:
                # By a name inside it: a folder ./wandb, which older runs of it leave, can be imported too.
                from wandb import init  # noqa: F401
        except ImportError as error:
            package = (error.name or name).split(".")[0]
            raise MissingExtra(feature, name if package == "torch" else package, name) from None


@contextlib.contextmanager
def tracked(config: Config, name: str, report: Report) -> Iterator[Report]:
    """A report that hands on what it hears to `report` and to the tools of `output.tracking`; without tools `report`.

    Args:
        name: of the config; with that of the run directory the name of the run.

    Raises:
        MissingExtra: a tool is not installed.
    """
    if not config.output.tracking:
        yield report
        return
    check_trackers(config.output.tracking)
    told = Tracked(config, name, report)
    try:
        yield told
    except BaseException as error:
        told.close("interrupted" if isinstance(error, STOPPED) else "failed")
        raise


class Tracked(Report):
    """Hands on what it hears to another report, and what can be plotted to the tools."""

    def __init__(self, config: Config, name: str, report: Report) -> None:
        self.config, self.name, self.report = config, name, report
        self.tools: dict[str, Tool] = {}
        self.losses: list[float] = []
        self.last = 0

    def stage(self, text: str) -> None:
        self.report.stage(text)

    def note(self, text: str) -> None:
        self.report.note(text)

    @contextlib.contextmanager
    def progress(self, title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        with self.report.progress(title, total, unit) as advance:
            yield advance

    def begun(self, run: Path, step: int) -> None:
        self.report.begun(run, step)
        self.last = step
        directory = RunDir(run)
        config = load_config(str(directory.training_config))  # with what a recipe has set
        ids = directory.tracking()
        for name in dict.fromkeys(self.config.output.tracking):
            try:
                tool = _open(name, config, run, f"{self.name} {run.name}", ids.get(name), step)
                if tool.id is not None:
                    directory.write_tracking(ids := ids | {name: tool.id})
                self.tools[name] = tool
                self.note(f"{TITLES[name]}: {tool.where}")
            except Exception as error:
                self._without(name, error)

    @contextlib.contextmanager
    def training(self, epochs: int) -> Iterator[Callable[[Step], None]]:
        with self.report.training(epochs) as on_step:

            def both(step: Step) -> None:
                on_step(step)
                self.losses.append(step.loss)
                every = max(1, step.total_steps // POINTS)
                if step.global_step // every > self.last // every:
                    self._scalars(self._of_step(step), step.global_step)

            yield both

    def evaluated(self, evaluation: Evaluation, metric: str, step: Step | None) -> None:
        values = self._of_step(step) if step is not None else {}
        self._scalars(values | {f"validation/{metric}": evaluation.metric}, evaluation.global_step)
        self.report.evaluated(evaluation, metric, step)

    def finished(self, run: Path, metrics: dict[str, Any]) -> None:
        values = {
            f"final/{split}/{name}": float(value)
            for split in ("cross_validation", "validation", "test")
            for name, value in metrics.get(split, {}).items()
            if isinstance(value, (int, float))
        }
        pictures = [RunDir(run).plots / name for name in metrics.get("plots", [])]
        try:
            self._tell(lambda tool: tool.finished(run, values, pictures, self.last))
            self.close("finished")
        except (KeyboardInterrupt, Terminated) as stop:
            raise Interrupted(
                signal_number(stop),
                f"interrupted while the run was handed over to {', '.join(TITLES[name] for name in self.tools)}; "
                f"it is complete in {run}",
                f"textattn info --model {run}",
            ) from None
        self.report.finished(run, metrics)

    def close(self, status: Status) -> None:
        """Says how it ended; after that nothing is told any more."""
        self._tell(lambda tool: tool.close(status))
        self.tools = {}

    def _of_step(self, step: Step) -> dict[str, float]:
        """What there is to say since the last time it was said."""
        if not self.losses:
            return {}
        loss = sum(self.losses) / len(self.losses)
        self.losses, self.last = [], step.global_step
        return {
            "train/loss": loss,
            "train/learning_rate": step.learning_rate,
            "train/tokens_per_second": step.num_tokens / step.seconds,
            "train/epoch": step.epoch,
        }

    def _scalars(self, values: dict[str, float], step: int) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if finite:
            self._tell(lambda tool: tool.scalars(finite, step))

    def _tell(self, what: Callable[[Tool], None]) -> None:
        for name, tool in list(self.tools.items()):
            try:
                what(tool)
            except Exception as error:
                del self.tools[name]
                self._without(name, error)

    def _without(self, name: str, error: Exception) -> None:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        self.note(
            f"{TITLES[name]} failed, and the run goes on without it ({why if len(why) < 200 else why[:199] + '…'})"
        )


# The tools. Each is told numbers at a step (`scalars`), what a finished run holds (`finished`) and how it ended
# (`close`); `id` is what it knows the run by, `where` is how a person finds it.


class TensorBoard:
    """Event files in the run directory."""

    id: str | None = None

    def __init__(self, config: Config, run: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = RunDir(run).tensorboard
        self.where = f"tensorboard --logdir {folder}"
        # What an earlier start wrote of steps that come again is no longer shown.
        self.writer: Any = SummaryWriter(str(folder), purge_step=step + 1 if step else None)
        if not step:
            settings = dump_config(config).replace("\n", "\n    ")
            self.writer.add_text("config", f"    {settings}", 0)
            self.writer.add_text("run_directory", str(run.resolve()), 0)

    def scalars(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def finished(self, run: Path, values: dict[str, float], pictures: list[Path], step: int) -> None:
        import numpy as np
        from PIL import Image

        self.scalars(values, step)
        for picture in pictures:
            with Image.open(picture) as image:
                self.writer.add_image(
                    f"plots/{picture.stem}", np.asarray(image.convert("RGB")), step, dataformats="HWC"
                )

    def close(self, status: Status) -> None:
        self.writer.close()


class MLflow:
    """A run of the experiment that MLFLOW_EXPERIMENT_NAME says, where MLFLOW_TRACKING_URI says."""

    def __init__(self, config: Config, run: Path, name: str, id: str | None) -> None:
        import mlflow
        from mlflow.entities import Param

        # What it cannot do is raised as well, and then said in one line.
        for chatty in ("mlflow", "alembic"):
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
        self.client = mlflow.MlflowClient()
        self.resumed = id is not None and self._go_on_with(id)
        if self.resumed:
            assert id is not None
            self.id = id
        else:
            tags = {"textattn.run_directory": str(run.resolve()), "mlflow.note.content": f"`{run.resolve()}`"}
            experiment = os.environ.get("MLFLOW_EXPERIMENT_ID") or self._experiment()
            self.id = self.client.create_run(experiment, tags=tags, run_name=name).info.run_id
            params = [
                Param(re.sub(r"[^\w./ -]", "_", key), str(value)[:500]) for key, value in flat_settings(config).items()
            ]
            for start in range(0, len(params), 100):  # as many as it takes at once
                self.client.log_batch(self.id, params=params[start : start + 100])
        self.where = f"run {self.id}"
        self.latest: dict[str, int] = {}

    def scalars(self, values: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = [Metric(name, value, now, step) for name, value in values.items() if step > self._latest(name)]
        if new:
            self.client.log_batch(self.id, metrics=new)

    def finished(self, run: Path, values: dict[str, float], pictures: list[Path], step: int) -> None:
        self.scalars(values, step)
        for picture in pictures:
            self.client.log_artifact(self.id, str(picture), picture.parent.name)
        directory = RunDir(run)
        for file in (directory.model_card, directory.metrics_file, directory.training_config):
            self.client.log_artifact(self.id, str(file))

    def close(self, status: Status) -> None:
        names: dict[Status, str] = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
        self.client.set_terminated(self.id, names[status])

    def _go_on_with(self, id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            self.client.update_run(id, status="RUNNING")
        except MlflowException:  # deleted there, or kept by another server
            return False
        return True

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name))
            except MlflowException:  # another run was quicker
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _latest(self, name: str) -> int:
        """The last step an earlier start told it of, which may be after the one that is gone on from."""
        if name not in self.latest:
            history = self.client.get_metric_history(self.id, name) if self.resumed else []
            self.latest[name] = max((point.step for point in history), default=0)
        return self.latest[name]


class WandB:
    """A run of the project that WANDB_PROJECT says; its files lie in the run directory."""

    def __init__(self, config: Config, run: Path, name: str, id: str | None) -> None:
        import wandb

        own = {"project": ("WANDB_PROJECT", PROJECT), "name": ("WANDB_NAME", name), "dir": ("WANDB_DIR", str(run))}
        chosen: dict[str, Any] = {key: value for key, (variable, value) in own.items() if not os.environ.get(variable)}
        if id is not None:
            chosen |= {"id": id, "resume": "allow"}
        # stdout and stderr stay whose they are; and a network that is away is not waited for without an end.
        settings: dict[str, Any] = {"console": "off", "silent": True}
        if not os.environ.get("WANDB_FINISH_TIMEOUT"):
            settings["finish_timeout"] = PATIENCE
        self.run = wandb.init(
            **chosen,
            config=config.model_dump(mode="json") | {"run_directory": str(run.resolve())},
            settings=wandb.Settings(**settings),
            reinit="create_new",
        )
        # It wants to know of every import of scikit-learn and others, which would fail with the process it asks.
        with contextlib.suppress(AttributeError):  # not public
            self.run._unregister_telemetry_import_hooks(self.run.id)
        self.id = self.run.id
        self.where = f"wandb sync {self.run.settings.sync_dir}" if self.run.offline else str(self.run.url)

    def scalars(self, values: dict[str, float], step: int) -> None:
        # What it was told before a start that goes on from an earlier step it would refuse with a warning.
        if step >= self.run.step:
            self.run.log(values, step=step)

    def finished(self, run: Path, values: dict[str, float], pictures: list[Path], step: int) -> None:
        import wandb

        self.run.summary.update(values)
        images = {f"plots/{picture.stem}": wandb.Image(str(picture)) for picture in pictures}
        if images:
            self.run.log(images, step=max(step, self.run.step))

    def close(self, status: Status) -> None:
        # 255 is what it knows Ctrl-C by.
        codes: dict[Status, int] = {"finished": 0, "interrupted": 255, "failed": 1}
        self.run.finish(exit_code=codes[status])


Tool = TensorBoard | MLflow | WandB


def _open(name: str, config: Config, run: Path, run_name: str, id: str | None, step: int) -> Tool:
    if name == "tensorboard":
        return TensorBoard(config, run, step)
    return MLflow(config, run, run_name, id) if name == "mlflow" else WandB(config, run, run_name, id)
