"""Explanations written to files: a page, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from textattn.cli.split_texts import LabelledTexts
from textattn.errors import ConfigError, Option
from textattn.explain.elements import ElementMean
from textattn.explain.explanations import Explanation
from textattn.explain.html import PageText, render_page
from textattn.explain.stored_audit import trust
from textattn.inference.classifier import Classifier
from textattn.pages.gather import RunReport
from textattn.storage.files import atomic_path, check_new, write_text, writing
from textattn.storage.run_dir import REPORT, RunDir


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
        PageText(
            explanations,
            golds[number] if golds else None,
            evidence[number] if evidence else (),
            _maps(classifier, explanations),
        )
        for number, explanations in enumerate(zip(*by_method, strict=True))
    ]
    methods = [explanations[0].method for explanations in by_method if explanations]
    verdicts = {method: found for method in methods if (found := trust(classifier, method)) is not None}
    page = render_page(texts, verdicts, labels=classifier.labels, model=str(classifier.path))
    with writing(file, Option("html", "page.html")):
        write_text(file, page)


def _maps(classifier: Classifier, explanations: Sequence[Explanation]) -> Sequence[Sequence[Sequence[float]]]:
    """What each token attends to, for the method `attention` of a model that can tell; () for others and long texts."""
    from textattn.explain.trace import MOST_MAPPED, has_map, trace

    attention = next((found for found in explanations if found.method == "attention"), None)
    if attention is None or len(attention.tokens) > MOST_MAPPED or not has_map(classifier):
        return ()
    maps = trace(classifier, attention.text).attention_map
    return () if maps is None else maps.astype(float).tolist()


def write_report(file: Path | None, classifier: Classifier, report: RunReport) -> Path:
    """The report of a run as one HTML page.

    Args:
        file: where to write it; None: report.html of the run.

    Returns:
        The file that was written.

    Raises:
        ConfigError: the file cannot be written, or it is a link or not in a directory of ours.
    """
    from textattn.pages.html import render_report

    run = RunDir(classifier.path)
    page = render_report(report)
    if file is None and not (run.is_run() and not run.report.is_symlink()):
        raise ConfigError(f"{run} is not a run that was trained here, and is not written to", Option("output", REPORT))
    file = file or run.report
    with writing(file, Option("output", REPORT)):
        write_text(file, page)
    return file


def plot_files(file: Path, number: int) -> list[Path]:
    """The files of so many pictures: FILE itself for one, else FILE-1, FILE-2, …"""
    return [file] if number == 1 else [file.with_stem(f"{file.stem}-{n}") for n in range(1, number + 1)]


def check_files(html: Path | None, plots: Sequence[Path], overwrite: bool) -> None:
    """Check that a page and pictures may be written. Nothing is changed.

    Raises:
        ConfigError: a file exists and `overwrite` is not set.
    """
    if html is not None:
        check_new(html, overwrite, Option("html"))
    for plot in plots:
        check_new(plot, overwrite, Option("plot"))


def write_plots(file: Path, classifier: Classifier, by_method: Sequence[Sequence[Explanation]]) -> list[Path]:
    """A picture for each text and method; see `plot_files`.

    Raises:
        ConfigError: the file cannot be written.
    """
    from textattn.explain.plot import draw

    drawn = [explanation for explanations in zip(*by_method, strict=True) for explanation in explanations]
    files = plot_files(file, len(drawn))
    for path, explanation in zip(files, drawn, strict=True):
        with writing(path, Option("plot", "weights.png")), atomic_path(path) as temporary:
            draw(explanation, classifier, temporary, path.suffix[1:].lower())
    return files


def write_table(file: Path, means: Mapping[str, ElementMean], label: str, *, method: str, num_texts: int) -> None:
    """A picture of the periodic table; see `textattn.explain.periodic_table.draw_table`.

    Raises:
        ConfigError: the file cannot be written.
    """
    from textattn.explain.periodic_table import draw_table

    with writing(file, Option("plot", "table.png")), atomic_path(file) as temporary:
        draw_table(means, label, temporary, file.suffix[1:].lower(), method=method, num_texts=num_texts)
