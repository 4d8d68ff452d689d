"""The report of a run as one HTML page that needs nothing else: no network, no files beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import Template

from textattn.explain.html import asset
from textattn.inference.markup import shown
from textattn.pages import figures, number_figures, summary, texts
from textattn.pages.gather import RunReport

# Settings of the data and the output are shown elsewhere or say nothing about the model.
ELSEWHERE = ("data.path", "output.")
# Sections that are called something shorter in the navigation.
SHORT = {
    "confusion": "Confusions",
    "slices": "Slices",
    "errors": "Errors",
    "words": "Words",
    "calibration": "Calibration",
    "about": "About",
}


def render_report(report: RunReport) -> str:
    """The page; the same report gives the same bytes."""
    found = list(_sections(report))
    folder = Path(__file__).parent
    own = {name: (folder / f"report.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    return Template(own["html"]).substitute(
        title=shown(f"{report.name}: report"),
        name=shown(report.name),
        facts=_facts(report),
        colors=asset("colors.css"),
        marks=asset("marks.css"),
        style=own["css"],
        script=own["js"],
        cards=summary.cards(report),
        nav="".join(f'<a href="#{key}">{SHORT.get(key, title)}</a>' for key, title, _ in found),
        sections="".join(
            f'<section class="part" id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>'
            f"{content}</section>"
            for key, title, content in found
        ),
    )


def _sections(report: RunReport) -> Iterator[tuple[str, str, str]]:
    """Identifier, title and content of each section that has any."""
    m = report.measured
    if report.numbers is not None:
        yield "scatter", "Predicted and true", number_figures.scatter(report.numbers)
        yield "slices", "Where it is worse", number_figures.slices(report.numbers)
        yield "errors", "The largest errors", number_figures.errors(report.numbers)
    if m is not None:
        cells = f'<div id="cells">{texts.cells(report)}</div>'
        if not m.multi_label:
            lead = '<p class="lead">Rows: true label. Columns: given label. Select a number to read its texts.</p>'
            matrix = f'{lead}<div class="matrix-and-cells">{figures.matrix(report)}{cells}</div>'
            yield "confusion", "What is taken for what", matrix
        yield "labels", "Labels", figures.labels(m) + (cells if m.multi_label else "")
    if report.selective is not None:
        yield "alone", "Answering alone", figures.alone(report)
    if report.slicings and m is not None:
        yield "slices", "Where it is worse", figures.slices(report.slicings, m.multi_label)
    if report.errors is not None and report.errors.surest:
        yield "errors", "The surest errors", texts.errors(report.errors)
    if any(report.words.values()):
        yield "words", "Words of each label" if m is not None else "Words for more and less", texts.words(report)
    if m is not None:
        temperature = float(report.metrics.get("temperature", 1.0))
        yield "calibration", "Can its scores be believed?", figures.calibration(m, temperature)
    if training := figures.training(report):
        yield "training", "Training", training
    yield "about", "About this run", _about(report)


def _facts(report: RunReport) -> str:
    environment = report.environment
    if environment is None:
        return ""
    splits = ", ".join(f"{split.num_examples:,} {name}" for name, split in environment.dataset.splits.items())
    of = shown(report.labels[0]) if len(report.labels) == 1 else f"{len(report.labels):,} labels"
    return (
        f"{shown(_short(environment.dataset.source))} · {splits} · {of} · "
        f"{shown(environment.started[:10])} · textattn {shown(environment.textattn)}"
    )


def _short(source: str) -> str:
    """The name of a local file or folder without where it lies; other sources as they are."""
    return Path(source).name if Path(source).is_absolute() else source


def _about(report: RunReport) -> str:
    metrics, rows = report.metrics, [("Model", shown(report.model))]
    if "num_parameters" in metrics:
        rows.append(("Parameters", f"{metrics['num_parameters']:,}"))
    if (m := report.measured) is not None:
        rows.append(("Headline", shown(figures.meaning(m))))
        if cut := m.metrics.get("num_truncated"):
            rows.append(("Truncated", f"{cut:,} of {m.count:,} {m.split} texts are longer than the model reads"))
    title = "Labels" if len(report.labels) > 1 else "Numbers"
    rows.append((title, ", ".join(f"<bdi>{shown(label)}</bdi>" for label in report.labels)))
    environment = report.environment
    if environment is not None:
        dataset = environment.dataset
        revision = f" at {shown(dataset.revision)}" if dataset.revision else ""
        rows.append(("Data", shown(dataset.source) + revision))
        counts = ", ".join(f"{split.num_examples:,} {name}" for name, split in dataset.splits.items())
        rows.append(("Rows", counts))
        if environment.start is not None:
            rows.append(("Goes on from", f"<code>{shown(environment.start.model)}</code>"))
        rows += [("Note", shown(note)) for note in dataset.notes]
        rows.append(("Started", shown(environment.started)))
        rows.append(("Software", f"textattn {shown(environment.textattn)}, Python {shown(environment.python)}"))
        rows.append(("Seed", f"{environment.seed}"))
        rows.append(("Command", f"<code>{shown(environment.command)}</code>"))
    listed = "".join(f"<dt>{title}<dd>{content}" for title, content in rows)
    return f"<dl>{listed}</dl>{_settings(report)}"


def _settings(report: RunReport) -> str:
    given = None if report.environment is None else report.environment.settings
    if not given:
        return ""
    shown_ones = {key: value for key, value in given.items() if not key.startswith(ELSEWHERE)}
    if not shown_ones:
        return ""
    rows = "".join(
        f"<tr><th scope=row><code>{shown(key)}</code><td><code>{shown(_written(value))}</code>"
        for key, value in shown_ones.items()
    )
    return (
        f"<details><summary>The {len(shown_ones)} settings that the config and the command gave</summary>"
        f'<div class="scroll"><table class="figures">{rows}</table></div></details>'
        "<p>All settings are in <code>training_config.yaml</code>; training with it repeats the run.</p>"
    )


def _written(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
