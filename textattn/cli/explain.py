"""`textattn explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from textattn.cli.answers import check_arguments, open_model
from textattn.cli.console import note
from textattn.cli.explanations import WORDS, print_explanations
from textattn.cli.options import Device, Json, Model, Runtime, Texts
from textattn.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from textattn.inference.classifier import Classifier

PLOTS = (".png", ".svg", ".pdf")


def explain(
    context: typer.Context,
    texts: Texts = None,
    model: Model = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="NAMES",
            help="attention, attention_x_gradient, gradient_x_input, integrated_gradients, occlusion, lime or "
            "kernel_shap, and ngrams for a model that has them; several with commas between them.",
        ),
    ] = "attention",
    target: Annotated[
        str | None, typer.Option("--target", metavar="LABEL", help="Label to explain; default: the predicted one.")
    ] = None,
    contrast: Annotated[
        tuple[str, str] | None, typer.Option("--contrast", metavar="A B", help="Explain label A rather than B.")
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Find a smallest set of words without which the answer is another.")
    ] = False,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Explain texts of a split of the model's own data.")
    ] = None,
    examples: Annotated[
        int, typer.Option("--examples", metavar="N", min=1, help="With --split: so many, drawn at random (seeded).")
    ] = 20,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained page instead of printing.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="Draw the weights: .png, .svg or .pdf, numbered for several texts."
        ),
    ] = None,
    words: Annotated[
        int, typer.Option("--words", "-w", metavar="N", min=0, help="Rows in the table of the strongest words.")
    ] = WORDS,
    full: Annotated[bool, typer.Option("--full", help="Show long texts in full on a terminal.")] = False,
    json: Json = False,
    device: Device = "cpu",
    runtime: Runtime = None,
) -> None:
    """Show which words count for the answer.

    \b
    textattn explain "Delicious food, friendly staff."
    textattn explain --method integrated_gradients --flip "It is not bad."
    textattn explain --split test --examples 200 --html test.html
    textattn explain --json < reviews.txt
    """
    from textattn.cli.texts import read_texts, require_texts
    from textattn.explain.methods import METHODS, check_method

    methods = tuple(METHODS) if method == "all" else tuple(dict.fromkeys(m.strip() for m in method.split(",")))
    for name in methods:
        check_method(name)
    if plot is not None and plot.suffix.lower() not in PLOTS:
        raise ConfigError(f"--plot: {plot} has none of the suffixes {', '.join(PLOTS)}", "--plot weights.png")
    if contrast is not None and target is not None:
        raise ConfigError("give either --target or --contrast", f"--contrast {contrast[0]} {contrast[1]}")
    if split is not None and texts:
        raise ConfigError("give either texts or --split, not both", f"textattn explain --split {split}")
    if split is None:
        require_texts(context, texts or [])
        check_arguments(texts or [])
    target, against = contrast or (target, None)
    classifier = open_model(model, device, runtime)
    golds: Sequence[str] = ()
    groups: Iterable[Sequence[str]]
    evidence: Sequence[Sequence[tuple[int, int]]] = ()
    if split is None:
        groups = read_texts(texts or [])
    else:
        groups, golds, evidence = texts_of_split(classifier, split, examples)
    if html is None and plot is None:
        print_explanations(
            classifier,
            groups,
            methods=methods,
            target=target,
            against=against,
            flip=flip,
            golds=golds,
            words=words,
            full=full,
            json=json,
        )
        return
    from textattn.cli.pages import write_page, write_plots
    from textattn.explain.explanations import explain_texts

    given = [text for group in groups for text in group]
    by_method = [explain_texts(classifier, given, name, target, against) for name in methods]
    if html is not None:
        write_page(html, classifier, by_method, golds, evidence)
        note(f"Written: {html} ({len(given):,} texts)")
    if plot is not None:
        for file in write_plots(plot, classifier, by_method):
            note(f"Written: {file}")


def texts_of_split(
    classifier: Classifier, name: str, examples: int
) -> tuple[list[list[str]], list[str], list[list[tuple[int, int]]]]:
    """Texts in groups, their true labels, and what people marked in them."""
    import numpy as np

    from textattn.cli.progress import ConsoleReport
    from textattn.cli.texts import WINDOW
    from textattn.inference.evaluation import load_split

    rows = load_split(classifier, None, name, {}, ConsoleReport().note)
    if len(rows) > examples:
        rows = rows.take(np.sort(np.random.default_rng(0).permutation(len(rows))[:examples]))
    labels = classifier.labels
    golds = [
        labels[row] if rows.labels.ndim == 1 else ", ".join(labels[i] for i in np.flatnonzero(row))
        for row in rows.labels
    ]
    texts = list(rows)
    marked = [[] if spans is None else [(int(a), int(b)) for a, b in spans] for spans in rows.evidence or []]
    return [texts[first : first + WINDOW] for first in range(0, len(texts), WINDOW)], golds, marked
