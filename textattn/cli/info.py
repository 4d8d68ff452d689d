"""`textattn info`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from textattn.cli import completion
from textattn.cli.console import out, out_json, table
from textattn.cli.options import Json, Model, Quiet
from textattn.errors import ConfigError, InputError, shell_command


@contextlib.contextmanager
def _damage_named(where: str) -> Iterator[None]:
    """Reports a file that is JSON, but not as a run writes it, as damaged."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where}: damaged ({error!r})") from None


def info(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="The same as --model.", show_default=False, autocompletion=completion.models
        ),
    ] = None,
    model: Model = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what a model is and what it reached.

    \b
    textattn info
    textattn info runs/imdb
    textattn info --model runs/imdb --json
    """
    if path is not None and model is not None:
        raise ConfigError("give either MODEL or --model, not both", shell_command("textattn info {}", path))
    from textattn.storage.find_model import find_model
    from textattn.storage.model_files import ModelFiles, read_model_config
    from textattn.storage.run_dir import ENVIRONMENT, METRICS, ONNX, ONNX_INT8, WEIGHTS

    files = ModelFiles(find_model(path or model))
    config = read_model_config(files)
    facts: dict[str, Any] = {
        "path": str(files.path),
        "finished": files.has(METRICS),
        "labels": config.labels,
        "problem_type": config.to_json()["problem_type"],
        "architecture": config.architecture,
        "size_bytes": {name: files.size(name) for name in (WEIGHTS, ONNX, ONNX_INT8) if files.has(name)},
    }
    if files.has(ENVIRONMENT):
        with _damage_named(files.where(ENVIRONMENT)):
            environment = files.read_json(ENVIRONMENT)
            facts |= {key: environment.get(key) for key in ("dataset", "command", "started", "textattn")}
    if facts["finished"]:
        with _damage_named(files.where(METRICS)):
            facts["metrics"] = dict(files.read_json(METRICS))
    if json:
        out_json(facts, indent=True)
        return
    rows = [
        ("path", facts["path"]),
        ("finished", "yes" if facts["finished"] else "no (training goes on, or will with train … --resume)"),
        ("labels", ", ".join(config.labels)),
        ("model", config.summary()),
        ("vocabulary", f"{config.architecture['vocab_size']:,} tokens"),
        ("size", ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in facts["size_bytes"].items())),
    ]
    if facts.get("dataset"):
        with _damage_named(files.where(ENVIRONMENT)):
            splits = facts["dataset"]["splits"].items()
            sizes = ", ".join(f"{split['num_examples']:,} {name}" for name, split in splits)
            rows += [("data", f"{facts['dataset']['source']}, {sizes}"), ("command", str(facts["command"]))]
    for split in ("cross_validation", "validation", "test"):
        measured = facts.get("metrics", {}).get(split)
        if measured:
            with _damage_named(files.where(METRICS)):
                name, interval = measured["headline"], measured["interval_95"]
                value = f"{name} {measured[name]:.4f} ({interval['low']:.4f} to {interval['high']:.4f})"
                rows.append((split.replace("_", "-"), value))
    audit = facts.get("metrics", {}).get("audit")
    if isinstance(audit, dict) and "verdict" in audit:
        rows.append(("trust", str(audit["verdict"])))
    for line in table(rows):
        out(line)
