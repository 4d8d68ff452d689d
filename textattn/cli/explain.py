"""`textattn explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from textattn.cli import completion
from textattn.cli.answers import check_arguments, open_model
from textattn.cli.console import enumerated, note
from textattn.cli.explanations import WORDS, Display, print_explanations
from textattn.cli.options import Device, Json, Model, Quiet, Runtime, Texts, check_picture
from textattn.errors import ConfigError, Option, shell_command
from textattn.explain.methods import method_names, ngram_method_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def explain(  # noqa: PLR0913 (every option of a command is a parameter)
    context: typer.Context,
    texts: Texts = None,
    model: Model = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            autocompletion=completion.methods,
            metavar="NAMES",
            help=f"{enumerated(method_names(), 'or')}, and {enumerated(ngram_method_names(), 'and')} "
            "for a model that has them; several with commas between them. Default: contributions, or attention where "
            "an answer cannot be divided among words (model.attention=mlp).",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="LABEL", help="Label to explain; default: the predicted one.")
    ] = None,
    contrast: Annotated[
        tuple[str, str] | None, typer.Option("--contrast", metavar="A B", help="Explain label A rather than B.")
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Find a smallest set of words whose removal changes the answer.")
    ] = False,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Explain texts of a split of the model's own data.")
    ] = None,
    examples: Annotated[
        int,
        typer.Option(
            "--examples", metavar="N", min=1, help="With --split: number of texts, drawn at random with a fixed seed."
        ),
    ] = 20,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained page instead of printing.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="Draw the weights as .png, .svg or .pdf; numbered for several texts."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-f", help="Replace the files of --html and --plot.")
    ] = False,
    words: Annotated[
        int, typer.Option("--words", "-w", metavar="N", min=0, help="Rows in the table of the strongest words.")
    ] = WORDS,
    full: Annotated[bool, typer.Option("--full", help="Show long texts in full on a terminal.")] = False,
    json: Json = False,
    device: Device = "cpu",
    runtime: Runtime = None,
    quiet: Quiet = False,
) -> None:
    """Show which words led to the answer.

    \b
    textattn explain "Delicious food, friendly staff."
    textattn explain --method integrated_gradients --flip "It is not bad."
    textattn explain --split test --examples 200 --html test.html
    textattn explain --json < reviews.txt
    """
    from textattn.cli.split_texts import LabelledTexts, texts_of_split
    from textattn.cli.texts import WINDOW, read_texts, require_texts
    from textattn.explain.explanations import AnsweredTexts, Question
    from textattn.explain.methods import find_method

    methods: tuple[str | None, ...] = (None,)
    if method == "all":
        # Those that are the same for every label cannot explain one.
        about_label = target is not None or contrast is not None
        methods = tuple(name for name in method_names() if not about_label or find_method(name).signed)
    elif method is not None:
        methods = tuple(dict.fromkeys(name.strip() for name in method.split(",")))
        for name in methods:
            Question(name, *(contrast or (target, None))).check_method()
    check_picture(plot, "weights.png")
    if overwrite and html is None and plot is None:
        raise ConfigError("--overwrite needs --html or --plot", Option("html", "page.html"))
    if html is not None or plot is not None:
        from textattn.cli.pages import check_files

        # What can be said before the model is loaded is said at once; how many pictures there are is known later.
        check_files(html, [], overwrite)
    if contrast is not None and target is not None:
        raise ConfigError("give either --target or --contrast", shell_command("--contrast {} {}", *contrast))
    if split is not None and texts:
        raise ConfigError("give either texts or --split, not both", shell_command("textattn explain --split {}", split))
    if split is None:
        require_texts(context, texts or [])
        check_arguments(texts or [])
    target, against = contrast or (target, None)
    classifier = open_model(model, device, runtime)
    if method == "all":
        methods = tuple(name for name in methods if name is None or find_method(name).has_network_for(classifier))
    questions = [Question(name, target, against) for name in methods]
    groups: Iterable[Sequence[str]]
    if split is None:
        labelled = LabelledTexts([])
        groups = read_texts(texts or [])
    else:
        labelled = texts_of_split(classifier, split, examples)
        groups = [labelled.texts[first : first + WINDOW] for first in range(0, len(labelled.texts), WINDOW)]
    if html is None and plot is None:
        print_explanations(classifier, groups, questions, Display(words, full, json, flip), labelled.golds)
        return
    from textattn.cli.pages import plot_files, write_page, write_plots

    given = [text for group in groups for text in group]
    check_files(html, [] if plot is None else plot_files(plot, len(given) * len(questions)), overwrite)
    answered = AnsweredTexts.of(classifier, given)
    by_method = [answered.explain(question) for question in questions]
    if html is not None:
        write_page(html, classifier, by_method, labelled)
        note(f"Written: {html} ({len(given):,} texts)")
    if plot is not None:
        for file in write_plots(plot, classifier, by_method):
            note(f"Written: {file}")
