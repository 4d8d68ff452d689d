"""`textattn push` and `textattn pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from textattn.cli import completion
from textattn.cli.console import is_live, note, out, out_json, table, waiting
from textattn.cli.options import Json, Quiet
from textattn.errors import ConfigError, shell_command


def push(  # noqa: PLR0913 (every option of a command is a parameter)
    model: Annotated[
        str, typer.Argument(metavar="RUN", help="Run directory, alias or bundle.", autocompletion=completion.models)
    ],
    repository: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository on the Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[
        str | None,
        typer.Option("--revision", metavar="BRANCH", help="Branch to send to; made if missing.", show_default=False),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Also send report.html, which SHOWS TEXTS of the test split.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be sent; send nothing.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-f", help="Also if the repository contains something else than a model.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Send a model to the Hugging Face Hub.

    \b
    textattn push runs/imdb user/imdb --dry-run
    textattn push runs/imdb user/imdb --private
    textattn predict --model hf://user/imdb "Delicious food, friendly staff."

    Sent in one commit are the model (weights, ONNX, int8 if there is one, tokenizer, settings, checksums), its metrics,
    its card with the plots, and the histograms that `drift` compares with. Never sent are your data, predictions,
    attention files, checkpoints and logs. The tokenizer contains words of the training data, and the settings and the
    card name the files of the data.

    You are logged in with `hf auth login` or $HF_TOKEN.
    """
    from textattn.export.push import Destination, check_name, files_to_send
    from textattn.export.push import push as send
    from textattn.storage.find_model import find_model
    from textattn.storage.hub import PREFIX

    repo_id = check_name(repository)
    files = files_to_send(find_model(model), repo_id, report=report)
    facts = {"repository": repo_id, "revision": revision, "sent": not dry_run}
    listed = {"files": [{"name": file.name, "bytes": file.size} for file in files]}
    total = f"{len(files)} files, {sum(file.size for file in files) / 1e6:,.1f} MB"
    if dry_run:
        if json:
            out_json(facts | listed, indent=True)
            return
        for line in table(((file.name, f"{file.size:,}") for file in files), ("file", "bytes")):
            out(line)
        note(f"{total}; nothing was sent")
        return
    _quiet_bars()
    with waiting(f"Sending {total} …"):
        done = send(files, Destination(repo_id, revision, private, overwrite))
    if json:
        out_json(facts | {"commit": done.commit, "url": done.url, "removed": done.removed} | listed, indent=True)
        return
    out(done.url)
    if done.removed:
        note(f"removed from the repository, because this model does not have them: {', '.join(done.removed)}")
    name = PREFIX + repo_id + (f"@{revision}" if revision else "")
    note(shell_command(f'{total} sent; textattn predict --model {{}} "a sentence"', name))


def pull(
    repository: Annotated[
        str, typer.Argument(metavar="USER/NAME[@REV]", help="Repository on the Hub, with a branch, tag or commit.")
    ],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="New directory; default: NAME.", show_default=False),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-f", help="Replace the model or run of textattn that is in DIR.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a model from the Hugging Face Hub to a directory.

    \b
    textattn pull user/imdb
    textattn pull user/imdb@v1 models/imdb

    The model is checked before the directory appears. `--model hf://user/name` uses a model without copying it.
    """
    from textattn.export.pull import pull as copy
    from textattn.storage.find_model import REPOSITORY
    from textattn.storage.hub import PREFIX

    name = repository.removeprefix(PREFIX)
    if not REPOSITORY.fullmatch(name.partition("@")[0]):
        raise ConfigError(f"a model on the Hub is named user/name, got {repository!r}", "textattn pull user/name")
    _quiet_bars()
    folder = folder or Path(name.partition("@")[0].partition("/")[2])
    done = copy(name, folder, overwrite=overwrite)
    if json:
        facts = {"path": str(done.path), "repository": name, "commit": done.commit, "files": done.names}
        out_json(facts | {"bytes": done.size}, indent=True)
        return
    out(str(done.path))
    total = f"{len(done.names)} files, {done.size / 1e6:,.1f} MB"
    note(shell_command(f'{total}; textattn predict --model {{}} "a sentence"', done.path))


def _quiet_bars() -> None:
    """The Hub's client shows no bars where nobody watches."""
    if not is_live():
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
