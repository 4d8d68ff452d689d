"""Send the progress of a run to TensorBoard, MLflow or Weights & Biases. The run directory remains authoritative.

If a tool fails, this is reported once, and the run continues without the tool. The tools read their settings, such as
the server and the name of the project, from their own environment variables (MLFLOW_TRACKING_URI, WANDB_MODE, …).
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
from textattn.errors import MissingExtra, Pruned, shell_command
from textattn.report import Report
from textattn.runs.signals import Interrupted, Terminated, signal_number
from textattn.storage.run_dir import RunDir

if TYPE_CHECKING:
    from textattn.report import Evaluation, Step

Status = Literal["finished", "interrupted", "failed"]
TITLES = {"tensorboard": "TensorBoard", "mlflow": "MLflow", "wandb": "Weights & Biases"}
# Exceptions that end a run without being a failure.
STOPPED = (Interrupted, KeyboardInterrupt, Terminated, Pruned)
# The name of the experiment or project, if the tool's environment variable does not set it.
PROJECT = "textattn"
# The maximum number of points of the training loss, in addition to those at evaluations.
POINTS = 200
# The number of seconds that a finished run waits for uploads.
PATIENCE = 120


def check_trackers(names: Sequence[str]) -> None:
    """Import the tools, so that a missing package is reported before any data are read.

    Raises:
        MissingExtra: a package is not installed.
    """
    for name in names:
        feature = f"output.tracking={name}"
        try:
            if name == "tensorboard":
                from torch.utils.tensorboard import SummaryWriter  # noqa: F401
            elif name == "mlflow":
                # Disable telemetry, and do not wait long for a server that cannot be reached.
                os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
                os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
                os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
                import sqlalchemy  # noqa: F401  (needed for MLflow's default storage)
                from mlflow import MlflowClient  # noqa: F401
            else:
                # A name inside the package is imported, because a folder ./wandb of earlier runs can be imported too.
                from wandb import init  # noqa: F401
        except ImportError as error:
            package = (error.name or name).split(".")[0]
            raise MissingExtra(feature, name if package == "torch" else package, name) from None


@contextlib.contextmanager
def tracked(config: Config, name: str, report: Report) -> Iterator[Report]:
    """Provide a report that forwards the events to `report` and to the tools of `output.tracking`.

    Args:
        config: the config of the run.
        name: the name of the config; together with the name of the run directory it is the name of the run.
        report: the report to forward to; it is returned unchanged if there are no tools.

    Raises:
        MissingExtra: a tool is not installed.
    """
    if not config.output.tracking:
        yield report
        return
    check_trackers(config.output.tracking)
    forwarding = Tracked(config, name, report)
    try:
        yield forwarding
    except BaseException as error:
        forwarding.close("interrupted" if isinstance(error, STOPPED) else "failed")
        raise


class Tracked(Report):
    """Forwards all events to another report, and numbers and plots to the tools."""

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
        config = load_config(str(directory.training_config))  # with the settings of the recipe
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
            self._send(lambda tool: tool.finished(run, values, pictures, self.last))
            self.close("finished")
        except (KeyboardInterrupt, Terminated) as stop:
            raise Interrupted(
                signal_number(stop),
                f"interrupted while the run was sent to {', '.join(TITLES[name] for name in self.tools)}; "
                f"the run in {run} is complete",
                shell_command("textattn info --model {}", run),
            ) from None
        self.report.finished(run, metrics)

    def close(self, status: Status) -> None:
        """Send the status of the run to the tools and close them; later events are not sent."""
        self._send(lambda tool: tool.close(status))
        self.tools = {}

    def _of_step(self, step: Step) -> dict[str, float]:
        """The numbers for the steps since the last call; empty if there were none."""
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
            self._send(lambda tool: tool.scalars(finite, step))

    def _send(self, call: Callable[[Tool], None]) -> None:
        for name, tool in list(self.tools.items()):
            try:
                call(tool)
            except Exception as error:
                del self.tools[name]
                self._without(name, error)

    def _without(self, name: str, error: Exception) -> None:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        self.note(
            f"{TITLES[name]} failed, and the run continues without it ({why if len(why) < 200 else why[:199] + '…'})"
        )


# The tools. Each receives numbers at a step (`scalars`), the results of a finished run (`finished`) and its status
# (`close`). `id` is the identifier of the run in the tool; `where` tells the user how to find the run.


class TensorBoard:
    """Event files in the run directory."""

    id: str | None = None

    def __init__(self, config: Config, run: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = RunDir(run).tensorboard
        self.where = shell_command("tensorboard --logdir {}", folder)
        # Steps that an earlier process wrote and that are trained again are no longer shown.
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
    """A run of the experiment MLFLOW_EXPERIMENT_NAME on the server MLFLOW_TRACKING_URI."""

    def __init__(self, config: Config, run: Path, name: str, id: str | None) -> None:
        import mlflow
        from mlflow.entities import Param

        # Errors are also raised as exceptions, and these are reported in one line.
        for chatty in ("mlflow", "alembic"):
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
        self.client = mlflow.MlflowClient()
        self.resumed = id is not None and self._resume(id)
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
            for start in range(0, len(params), 100):  # the maximum number per request
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

    def _resume(self, id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            self.client.update_run(id, status="RUNNING")
        except MlflowException:  # the run was deleted, or it is on another server
            return False
        return True

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name))
            except MlflowException:  # another run has just created it
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _latest(self, name: str) -> int:
        """The last step that an earlier process sent, which may be later than the step from which training resumes."""
        if name not in self.latest:
            history = self.client.get_metric_history(self.id, name) if self.resumed else []
            self.latest[name] = max((point.step for point in history), default=0)
        return self.latest[name]


class WandB:
    """A run of the project WANDB_PROJECT, whose files are in the run directory."""

    def __init__(self, config: Config, run: Path, name: str, id: str | None) -> None:
        import wandb

        defaults = {"project": ("WANDB_PROJECT", PROJECT), "name": ("WANDB_NAME", name), "dir": ("WANDB_DIR", str(run))}
        chosen: dict[str, Any] = {
            key: value for key, (variable, value) in defaults.items() if not os.environ.get(variable)
        }
        if id is not None:
            chosen |= {"id": id, "resume": "allow"}
        # wandb must not capture stdout and stderr, and must not wait forever for a network that cannot be reached.
        settings: dict[str, Any] = {"console": "off", "silent": True}
        if not os.environ.get("WANDB_FINISH_TIMEOUT"):
            settings["finish_timeout"] = PATIENCE
        self.run = wandb.init(
            **chosen,
            config=config.model_dump(mode="json") | {"run_directory": str(run.resolve())},
            settings=wandb.Settings(**settings),
            reinit="create_new",
        )
        # wandb reports every import of scikit-learn and other packages to its service process, and the import fails if
        # that process has ended.
        with contextlib.suppress(AttributeError):  # not public
            self.run._unregister_telemetry_import_hooks(self.run.id)
        self.id = self.run.id
        self.where = f"wandb sync {self.run.settings.sync_dir}" if self.run.offline else str(self.run.url)

    def scalars(self, values: dict[str, float], step: int) -> None:
        # After resuming from an earlier step, wandb would reject steps that it already has, with a warning.
        if step >= self.run.step:
            self.run.log(values, step=step)

    def finished(self, run: Path, values: dict[str, float], pictures: list[Path], step: int) -> None:
        import wandb

        self.run.summary.update(values)
        images = {f"plots/{picture.stem}": wandb.Image(str(picture)) for picture in pictures}
        if images:
            self.run.log(images, step=max(step, self.run.step))

    def close(self, status: Status) -> None:
        # wandb uses 255 for Ctrl-C.
        codes: dict[Status, int] = {"finished": 0, "interrupted": 255, "failed": 1}
        self.run.finish(exit_code=codes[status])


Tool = TensorBoard | MLflow | WandB


def _open(name: str, config: Config, run: Path, run_name: str, id: str | None, step: int) -> Tool:
    if name == "tensorboard":
        return TensorBoard(config, run, step)
    return MLflow(config, run, run_name, id) if name == "mlflow" else WandB(config, run, run_name, id)
