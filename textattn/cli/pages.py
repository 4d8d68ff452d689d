"""Explanations written to files: a page, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textattn.cli.split_texts import LabelledTexts
from textattn.errors import ConfigError, Option
from textattn.explain.explanations import Explanation
from textattn.explain.html import PageText, render_page
from textattn.explain.stored_audit import trust
from textattn.inference.classifier import Classifier
from textattn.storage.files import atomic_path, write_text


def write_page(
    file: Path, classifier: Classifier, by_method: Sequence[Sequence[Explanation]], labelled: LabelledTexts
) -> None:
    """One HTML file.

    Args:
        by_method: for each method the explanations of all texts.
        labelled: true labels and marks of the same texts, where known.

    Raises:
        ConfigError: the file cannot be written.
    """
    golds, evidence = labelled.golds, labelled.evidence
    texts = [
        PageText(explanations, golds[number] if golds else None, evidence[number] if evidence else ())
        for number, explanations in enumerate(zip(*by_method, strict=True))
    ]
    methods = [explanations[0].method for explanations in by_method if explanations]
    verdicts = {method: found for method in methods if (found := trust(classifier, method)) is not None}
    page = render_page(texts, verdicts, labels=classifier.labels, model=str(classifier.path))
    try:
        write_text(file, page)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror or error}", Option("html", "page.html"), setting=Option("html")
        ) from None


def write_plots(file: Path, classifier: Classifier, by_method: Sequence[Sequence[Explanation]]) -> list[Path]:
    """A picture for each text and method; FILE itself for one, else FILE-1, FILE-2, …

    Raises:
        ConfigError: the file cannot be written.
    """
    from textattn.explain.plot import draw

    drawn = [explanation for explanations in zip(*by_method, strict=True) for explanation in explanations]
    files = [file] if len(drawn) == 1 else [file.with_stem(f"{file.stem}-{n}") for n in range(1, len(drawn) + 1)]
    for path, explanation in zip(files, drawn, strict=True):
        try:
            with atomic_path(path) as temporary:
                draw(explanation, classifier, temporary, path.suffix[1:].lower())
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written: {error.strerror or error}",
                Option("plot", "weights.png"),
                setting=Option("plot"),
            ) from None
    return files
