"""`textattn words`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from textattn.cli import completion
from textattn.cli.answers import open_model
from textattn.cli.console import note, out, out_json, table
from textattn.cli.options import Device, Json, Model, Quiet, check_picture
from textattn.errors import ConfigError, Option, Setting

if TYPE_CHECKING:
    from textattn.explain.lexicon import Entry
    from textattn.inference.classifier import Classifier


def words(  # noqa: PLR0913 (every option of a command is a parameter)
    model: Model = None,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Split of the model's own data.")] = "test",
    examples: Annotated[
        int, typer.Option("--examples", metavar="N", min=1, help="Number of texts, drawn at random with a fixed seed.")
    ] = 1000,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            autocompletion=completion.methods,
            metavar="NAME",
            help="Method that weighs the words. The default is that of explain.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="Number of words for each label.")] = 15,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="For a model of chemical formulas: instead of printing, draw what the elements contribute to a label "
            "on the periodic table, as .png, .svg or .pdf.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace the file of --plot.")] = False,
    label: Annotated[
        str | None, typer.Option("--label", metavar="LABEL", help="Label of the picture; default: the last one.")
    ] = None,
    json: Json = False,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """List the words that carry each label.

    \b
    textattn words
    textattn words --model runs/imdb --top 30
    textattn words --model runs/materials --plot table.png
    """
    from textattn.cli.progress import ConsoleReport
    from textattn.cli.split_texts import texts_of_split
    from textattn.explain.lexicon import lexicon
    from textattn.explain.methods import default_method, find_method

    check_picture(plot, "table.png")
    if label is not None and plot is None:
        raise ConfigError("only a picture shows a single label", Option("plot", "table.png"), setting=Option("label"))
    if overwrite and plot is None:
        raise ConfigError("--overwrite needs --plot", Option("plot", "table.png"))
    if plot is not None:
        from textattn.storage.files import check_new

        check_new(plot, overwrite, Option("plot"))
    if method is not None:
        find_method(method)
    classifier = open_model(model, device)
    method = method or default_method(classifier)
    if plot is not None:
        _plot(plot, classifier, split, examples, method, label)
        return
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
        if number:
            out("")
        out(label)
        _print(entries)


def _plot(file: Path, classifier: Classifier, split: str, examples: int, method: str, label: str | None) -> None:
    """Draws the periodic table."""
    from textattn.cli.pages import write_table
    from textattn.cli.progress import ConsoleReport
    from textattn.cli.split_texts import texts_of_split
    from textattn.explain.elements import element_means
    from textattn.explain.explanations import Question

    if not classifier.tokenizer.reads_formulas:
        raise ConfigError(
            "only a model of chemical formulas has elements to draw",
            ("a model trained with ", Setting("tokenizer.type", "composition")),
            setting=Option("plot"),
        )
    label = classifier.labels[-1] if label is None else label
    Question(method, label).check(classifier.labels)
    texts = texts_of_split(classifier, split, examples).texts
    with ConsoleReport().progress("Explaining", len(texts), "formulas") as advance:
        means = element_means(classifier, texts, label, method=method, on_texts=advance)
    write_table(file, means, label, method=method, num_texts=len(texts))
    note(f"Written: {file} ({label}: {len(means)} elements in {len(texts):,} formulas)")


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
