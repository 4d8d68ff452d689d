"""`textattn export`."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from textattn.cli.console import note, out, out_json
from textattn.cli.options import Json, Model, Quiet
from textattn.errors import ConfigError, Option


def export(
    model: Model = None,
    int8: Annotated[bool, typer.Option("--int8", help="Also write model.int8.onnx, a quarter of the size.")] = False,
    max_drop: Annotated[
        float,
        typer.Option(
            "--max-drop",
            metavar="POINTS",
            min=0,
            help="With --int8: largest accepted drop of the metric, in percentage points (of an error of numbers, in "
            "percent of their standard deviation).",
        ),
    ] = 0.5,
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="With --int8: split to measure the drop on.")
    ] = "validation",
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", "-b", metavar="FILE", help="Write the model as one file that --model takes."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace the file of --bundle.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a trained model portable.

    \b
    textattn export                              # model.onnx, which train writes too
    textattn export --int8 --bundle model.zip    # one small file
    textattn predict --model model.zip "Delicious food, friendly staff."

    Before anything is written, model.onnx is compared with torch and int8 is measured on the run's validation split.
    """
    from textattn.cli.progress import ConsoleReport
    from textattn.storage.find_model import find_model
    from textattn.storage.run_dir import ONNX, ONNX_INT8

    run = find_model(model)
    if run.is_file():
        raise ConfigError(
            f"{run} is a bundle; export needs the run directory it was made from", setting=Option("model")
        )
    from textattn.export.bundle import check_bundle, write_bundle

    if bundle is not None:
        check_bundle(bundle, overwrite)
    note("Loading torch …")
    from textattn.export.onnx_model import export_int8, export_onnx

    report = ConsoleReport()
    facts: dict[str, Any] = {"run": str(run)}
    written = run / ONNX
    is_missing = not written.is_file()
    with _writing(run) if is_missing or int8 or not bundle else contextlib.nullcontext():
        if is_missing or not (int8 or bundle):
            facts["max_difference"] = export_onnx(run)
            note(f"{written}: {written.stat().st_size / 1e6:.1f} MB, at most {facts['max_difference']:.1e} from torch")
        quantised = export_int8(run, split, max_drop, report) if int8 else None
    if quantised is not None:
        written = run / ONNX_INT8
        facts["int8"] = quantised.to_dict()
        note(
            f"{written}: {quantised.bytes_before / 1e6:.2f} MB -> {quantised.bytes_after / 1e6:.2f} MB "
            f"({quantised.bytes_before / quantised.bytes_after:.2f} times smaller), "
            f"{quantised.metric} {quantised.before:.4f} -> {quantised.after:.4f} "
            f"on {quantised.num_examples:,} texts ({quantised.split})"
        )
    if bundle is not None:
        size = write_bundle(run, bundle, int8=int8, overwrite=overwrite)
        written = bundle
        facts["bundle"] = {"file": str(bundle), "bytes": size}
        note(f'{bundle}: {size / 1e6:.2f} MB; textattn predict --model {shlex.quote(str(bundle))} "a sentence"')
    if json:
        out_json(facts, indent=True)
    else:
        out(str(written))


def _writing(run: Path) -> contextlib.AbstractContextManager[object]:
    """Own the folder of the model while it is written; it need not be the directory of a run."""
    from textattn.storage.locks import owned

    return owned(run, "exported", "wait until that process has ended", setting=Option("model"))
