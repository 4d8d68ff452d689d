"""All commands in one Typer app."""

from __future__ import annotations

from typing import Annotated

import typer

from textattn import __version__
from textattn.cli import (
    audit,
    baseline,
    cache,
    check,
    compare,
    configs,
    drift,
    evaluate,
    explain,
    export,
    info,
    label,
    predict,
    push,
    report,
    runs,
    serve,
    train,
    tune,
    words,
)
from textattn.cli.console import set_debug, set_no_color
from textattn.cli.options import Quiet

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
app.command("tune")(tune.tune)
app.command("predict")(predict.predict)
app.command("explain")(explain.explain)
app.command("label")(label.label)
app.command("evaluate")(evaluate.evaluate)
app.command("audit")(audit.audit)
app.command("drift")(drift.drift)
app.command("baseline")(baseline.baseline)
app.command("compare")(compare.compare)
app.command("words")(words.words)
app.command("report")(report.report)
app.command("serve")(serve.serve)
app.command("export")(export.export)
app.command("push")(push.push)
app.command("pull")(push.pull)
app.command("info")(info.info)
app.command("check")(check.check)
app.add_typer(runs.app, name="runs")
app.command("cache")(cache.cache)
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
