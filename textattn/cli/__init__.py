"""The command line: one file a command. The only place that prints."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from textattn import __version__
from textattn.cli import check, configs, evaluate, explain, info, predict, train
from textattn.cli.console import Quiet, is_debug, print_error, set_debug, set_no_color, tolerate_encodings
from textattn.errors import TextattnError

ISSUES = "https://github.com/textattn/textattn/issues"

app = typer.Typer(
    name="textattn",
    help="Train text classifiers you can read: one YAML in, a small model out, and highlighted words that say why.",
    epilog='\b\nBegin with:\n  textattn train quickstart\n  textattn explain "Delicious food, friendly staff."',
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("explain")(explain.explain)
app.command("evaluate")(evaluate.evaluate)
app.command("info")(info.info)
app.command("check")(check.check)
app.add_typer(configs.app, name="configs")
app.command("schema")(configs.schema)


def _version(value: bool) -> None:
    if value:
        print(f"textattn {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.", callback=set_debug)] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Plain output.", callback=set_no_color)] = False,
    quiet: Quiet = False,
) -> None:
    """Options of every command; they stand before it."""


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    tolerate_encodings()
    try:
        app(prog_name="textattn")
    except TextattnError as error:
        if is_debug():
            raise
        print_error(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # `| head` has seen enough. Nothing may be written when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if is_debug():
            raise
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            print_error(TextattnError("the disk is full", "free some space, or another output.dir"))
            sys.exit(1)
        print_error(
            TextattnError(
                f"{type(error).__name__}: {error}",
                f"this is a bug: run it again as `textattn --debug …` and report what it prints at {ISSUES}",
            )
        )
        sys.exit(1)
