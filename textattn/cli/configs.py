"""`textattn configs` and `textattn schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from textattn.cli import completion
from textattn.cli.console import out, out_json, out_lines, table
from textattn.cli.options import Json
from textattn.errors import ConfigError, shell_command

app = typer.Typer(
    help="List, print or copy the configs that come with textattn.",
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Name of a shipped config, such as imdb.", autocompletion=completion.shipped_configs
    ),
]


@app.command("ls")
def ls(json: Json = False) -> None:
    """List the shipped configs."""
    from textattn.config import config_title, shipped_configs

    found = {name: config_title(path) for name, path in shipped_configs().items()}
    if json:
        out_json(found, indent=True)
        return
    for line in table(found.items()):
        out(line)


@app.command("show")
def show(name: Name) -> None:
    """Print a shipped config.

    \b
    textattn configs show imdb
    textattn configs show imdb > mine.yaml
    """
    out_lines(_path(name).read_text(encoding="utf-8").rstrip("\n"))


@app.command("cp")
def cp(
    name: Name,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="File or folder to copy to.")] = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace an existing file.")] = False,
) -> None:
    """Copy a shipped config to edit it.

    \b
    textattn configs cp imdb
    textattn configs cp imdb mine.yaml
    """
    source = _path(name)
    target = target / source.name if target.is_dir() else target
    if target.exists() and not overwrite:
        hint = shell_command("textattn configs cp {} {} --overwrite", name, target)
        raise ConfigError(f"{target} exists; nothing was changed", hint)
    try:
        target.write_bytes(source.read_bytes())
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written ({error.strerror or error})") from None
    out(str(target))


def schema() -> None:
    """Print the JSON Schema of configs, for editors.

    \b
    textattn schema > textattn.schema.json
    """
    from textattn.config import json_schema

    out_json(json_schema(), indent=True)


def _path(name: str) -> Path:
    from difflib import get_close_matches

    from textattn.config import shipped_configs

    found = shipped_configs()
    if name not in found:
        near = get_close_matches(name, found, n=1)
        raise ConfigError(
            f"no shipped config {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""), "textattn configs ls"
        )
    return found[name]
