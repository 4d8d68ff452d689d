"""`textattn evaluate`."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textattn.cli.console import note, out, out_json, table
from textattn.cli.options import Data, DataSettings, Device, Json, Model, Quiet, Runtime
from textattn.cli.settings import data_settings
from textattn.errors import CheckFailed, ConfigError, Option

if TYPE_CHECKING:
    from collections.abc import Mapping

# Those that are shown and can be checked.
METRICS = (
    "accuracy", "quadratic_kappa", "mae", "balanced_accuracy", "macro_f1", "micro_f1", "auroc", "average_precision",
    "log_loss", "brier", "ece", "rmse", "median_absolute_error", "r2", "spearman",
)  # fmt: skip
# Worse when higher.
LOSSES = ("mae", "log_loss", "brier", "ece", "rmse", "median_absolute_error")


def evaluate(  # noqa: PLR0913 (every option of a command is a parameter)
    data: Data = None,
    settings: DataSettings = None,
    model: Model = None,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Split to measure on.")] = "test",
    fail_under: Annotated[
        list[str] | None,
        typer.Option("--fail-under", metavar="METRIC=X", help="Exit with 4 where a metric is worse: accuracy=0.9."),
    ] = None,
    json: Json = False,
    device: Device = "cpu",
    runtime: Runtime = None,
    quiet: Quiet = False,
) -> None:
    """Measure a model on labelled data.

    \b
    textattn evaluate
    textattn evaluate more.csv text=review label=stars
    textattn evaluate --split validation --fail-under accuracy=0.9

    Without DATA, the training data are read again. If they have changed since, a warning says where, and the output
    of --json contains "data_changed": true.
    """
    from textattn.cli.answers import open_model

    limits = [_limit(text) for text in fail_under or []]
    data, values = data_settings(data, settings)
    classifier = open_model(model, device, runtime)
    from textattn.cli.progress import ConsoleReport
    from textattn.inference.evaluation import measure, read_labelled

    report = ConsoleReport()
    report.stage(f"Measuring {classifier.path} on the {split} split of {data or 'its own data'}")
    loaded = read_labelled(classifier, data, split, values)
    for text in loaded.notes:
        report.note(text)
    if loaded.change is not None:
        note(loaded.change, "Warning")
    with report.progress("Measuring", len(loaded.rows), "texts") as advance:
        metrics = measure(classifier, loaded.rows, split, advance)
    if json:
        out_json(metrics | ({} if loaded.change is None else {"data_changed": True}), indent=True)
    else:
        _print(metrics)
    _check(metrics, limits)


def _limit(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    if name not in METRICS:
        near = get_close_matches(name, METRICS, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else f"; metrics are: {', '.join(METRICS)}"
        raise ConfigError(
            f"unknown metric {name!r}{meant}", Option("fail_under", "accuracy=0.9"), setting=Option("fail_under")
        )
    try:
        return name, float(value)
    except ValueError:
        raise ConfigError(
            f"expected metric=number, got {text!r}", Option("fail_under", "accuracy=0.9"), setting=Option("fail_under")
        ) from None


def _print(metrics: Mapping[str, Any]) -> None:
    from textattn.cli.progress import headline

    out(headline(dict(metrics)))
    out("")
    rows = [(name, f"{metrics[name]:.4f}") for name in METRICS if metrics.get(name) is not None]
    for line in table(rows):
        out(line)
    if "per_class" in metrics:
        out("")
        per_class = [
            (label, *(f"{row[name]:.4f}" for name in ("precision", "recall", "f1")), str(row["support"]))
            for label, row in metrics["per_class"].items()
        ]
        for line in table(per_class, ("label", "precision", "recall", "f1", "texts")):
            out(line)
    if "confusion_matrix" in metrics and len(metrics["per_class"]) <= 12:
        out("")
        out("confusion (rows: true, columns: predicted)")
        labels = list(metrics["per_class"])
        rows = [(label, *map(str, row)) for label, row in zip(labels, metrics["confusion_matrix"], strict=True)]
        for line in table(rows, ("", *labels)):
            out(line)
    if metrics["num_truncated"]:
        note(f"Note: {metrics['num_truncated']:,} of {metrics['num_examples']:,} texts were truncated")


def _check(metrics: Mapping[str, Any], limits: list[tuple[str, float]]) -> None:
    failed = []
    for name, limit in limits:
        value = metrics.get(name)
        if value is None:
            failed.append(f"{name} is not defined on this split")
        elif value > limit if name in LOSSES else value < limit:
            failed.append(f"{name} is {value:.4f}, asked for {limit:g}")
    if failed:
        raise CheckFailed("; ".join(failed))
