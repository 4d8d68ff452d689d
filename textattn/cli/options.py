"""Options and arguments that several commands share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from textattn.cli import completion
from textattn.cli.console import set_quiet
from textattn.errors import ConfigError, Option

# What `--linear-only` sets.
LINEAR = "model.linear"
PICTURES = (".png", ".svg", ".pdf")
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.", callback=set_quiet)]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Run directory or alias, bundle or hf://user/name; default: $TEXTATTN_MODEL or the newest run in runs/.",
        show_default=False,
        autocompletion=completion.models,
    ),
]
Texts = Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="Texts; `-` reads lines from stdin.")]
Data = Annotated[
    str | None,
    typer.Argument(metavar="DATA", help="File, folder or Hub id; default: the data the model was trained on."),
]
DataSettings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings of the data section, such as text=review.",
        autocompletion=completion.data_settings,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings that replace those of the config.",
        autocompletion=completion.overrides,
    ),
]
ConfigName = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file, `-` for stdin, a shipped config's name, a data file or a folder of them.",
        autocompletion=completion.configs,
    ),
]
LinearOnly = Annotated[
    bool, typer.Option("--linear-only", help="Fit a linear model in seconds, without a network: model.linear=only.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, with one object per line for several results.")]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:N, mps or auto.")]
Runtime = Annotated[
    str | None,
    typer.Option(
        "--runtime", metavar="NAME", help="onnx, int8 or torch; default: the first the model has.", show_default=False
    ),
]


def with_linear_only(overrides: list[str] | None, linear_only: bool) -> list[str]:
    """The overrides, with what `--linear-only` is short for if it is given."""
    return [*(overrides or []), *([f"{LINEAR}=only"] if linear_only else [])]


@contextlib.contextmanager
def naming_linear_only(linear_only: bool) -> Iterator[None]:
    """Errors name the option `--linear-only`, if it was given, and not the setting that nobody wrote."""
    try:
        yield
    except ConfigError as error:
        if linear_only:
            option = Option("linear_only", flag=True)
            error.problems = [replace(p, setting=option) if p.setting == LINEAR else p for p in error.problems]
        raise


def check_picture(plot: Path | None, example: str) -> None:
    """Raises ConfigError if the file given with `--plot` cannot be a picture.

    Args:
        example: a file name for the hint.
    """
    if plot is not None and plot.suffix.lower() not in PICTURES:
        raise ConfigError(
            f"{plot} has none of the suffixes {', '.join(PICTURES)}", Option("plot", example), setting=Option("plot")
        )
