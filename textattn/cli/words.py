"""`textattn words`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from textattn.cli.answers import open_model
from textattn.cli.console import out, out_json, table
from textattn.cli.options import Device, Json, Model, Quiet

if TYPE_CHECKING:
    from textattn.explain.lexicon import Entry


def words(
    model: Model = None,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Split of the model's own data.")] = "test",
    examples: Annotated[
        int, typer.Option("--examples", metavar="N", min=1, help="Number of texts, drawn at random with a fixed seed.")
    ] = 1000,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="Method that weighs the words, as for explain.")
    ] = "gradient_x_input",
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="Number of words for each label.")] = 15,
    json: Json = False,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """List the words that carry each label.

    \b
    textattn words
    textattn words --model runs/imdb --top 30
    """
    from textattn.cli.progress import ConsoleReport
    from textattn.cli.split_texts import texts_of_split
    from textattn.explain.lexicon import lexicon
    from textattn.explain.methods import find_method

    find_method(method)
    classifier = open_model(model, device)
    labelled = texts_of_split(classifier, split, examples)
    texts = labelled.texts
    with ConsoleReport().progress("Explaining", len(texts), "texts") as advance:
        found = lexicon(classifier, texts, labelled.golds, method=method, top=top, on_texts=advance)
    if json:
        out_json(
            {
                "method": method,
                "split": split,
                "num_examples": len(texts),
                "labels": {label: [asdict(entry) for entry in entries] for label, entries in found.items()},
            },
            indent=True,
        )
        return
    for number, (label, entries) in enumerate(found.items()):
        out(f"{chr(10) if number else ''}{label}")
        _print(entries)


def _print(entries: list[Entry]) -> None:
    if not entries:
        out("  (no word counts for it in enough texts)")
        return
    import shutil

    rows = [
        [
            entry.word,
            f"{entry.score:.2f}",
            str(entry.num_texts),
            f"{entry.num_against}/{entry.num_with}" if entry.num_with else "–",
            entry.suspect,
            entry.counter_example,
        ]
        for entry in entries
    ]
    width = shutil.get_terminal_size().columns
    for line in table(rows, ("  word", "score", "texts", "against", "suspect", "where it is not so")):
        out(line if len(line) <= width else line[: width - 1] + "…")
