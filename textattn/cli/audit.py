"""`textattn audit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from textattn.cli import completion
from textattn.cli.answers import open_model
from textattn.cli.console import enumerated, note, out, out_json, table
from textattn.cli.options import Data, DataSettings, Device, Json, Quiet
from textattn.cli.settings import data_settings
from textattn.errors import TextattnError, shell_command
from textattn.explain.methods import audited_names, method_names
from textattn.explain.verdict import STANDARD_DEVIATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from textattn.explain.audit_measures import Interval
    from textattn.explain.audit_results import AttentionResult, AuditResult, MethodResult, SeedAgreement

SLOW = tuple(name for name in method_names() if name not in audited_names())


def audit(  # noqa: PLR0913 (every option of a command is a parameter)
    data: Data = None,
    settings: DataSettings = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            autocompletion=completion.models,
            metavar="MODEL",
            help="Run directory; default as for predict. Repeat it to compare models of several seeds.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Split to take texts from.")] = "test",
    examples: Annotated[
        int, typer.Option("--examples", metavar="N", min=1, help="Number of texts, drawn at random with a fixed seed.")
    ] = 500,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            autocompletion=completion.methods,
            metavar="NAMES",
            help="Methods, separated by commas, or all; default: all but "
            f"{enumerated(SLOW, 'and')}, which take minutes.",
        ),
    ] = None,
    json: Json = False,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Measure how far the explanations of a model can be trusted.

    \b
    textattn audit
    textattn audit --model runs/imdb --examples 500
    textattn audit --model runs/seed1 --model runs/seed2
    """
    note("Loading torch …")
    from textattn.cli.progress import ConsoleReport
    from textattn.explain.audit import AUDITED, AuditSettings, measure, parse_methods
    from textattn.inference.evaluation import load_split
    from textattn.runs.audit_record import keep_audit

    chosen = AUDITED if methods is None else parse_methods(methods)
    data, values = data_settings(data, settings)
    names: list[str | None] = [*model] if model else [None]
    first, *more = names
    classifier, others = open_model(first, device), [open_model(name, device) for name in more]
    report = ConsoleReport()
    rows = load_split(classifier, data, split, values, report.note)
    report.stage(f"Auditing {classifier.path} on {min(examples, len(rows)):,} texts of {split}")
    result = measure(classifier, rows, AuditSettings(examples, chosen), others, report)
    found = result.to_json()
    if json:
        out_json(found, indent=True)
    else:
        print_audit(result, found["verdict"])
    # A verdict on other data is not what explain and the model card speak of.
    if data is None:
        try:
            kept = keep_audit(classifier, found)
        except (OSError, TextattnError) as error:
            note(f"the audit could not be kept in {classifier.path}: {error}", "Warning")
        else:
            if kept is not None:
                note(f"Kept in {kept}: metrics.json and README.md. To show it in report.html too:")
            note(shell_command("  textattn report {}", kept))


def print_audit(result: AuditResult, verdict: str) -> None:
    """The verdict, two tables of the methods, each within 80 columns, and what was seen of the attention itself."""
    out(verdict)
    for rows in (erasure_rows(result.methods), other_rows(result.methods)):
        if rows:
            out("")
            for line in table(_to_the_right(rows)):
                out(line)
    searched = [found.num_texts for method in result.methods.values() if (found := method.share_of_best) is not None]
    if searched:
        out("")
        out(f"best: the share of what the best order gains over chance, on up to {max(searched):,} texts")
    if result.attention is not None:
        out("")
        for line in table(attention_rows(result.attention)):
            out(line)
    if result.noise is not None:
        noise = result.noise
        out("")
        out(
            f"noise of {noise.relative_size:.0%} in the embeddings moves answers by {_mean(noise.total_variation)} "
            f"({STANDARD_DEVIATIONS if result.of_numbers else 'total variation'})"
        )
    if result.seeds is not None:
        out("")
        for line in table(seed_rows(result.seeds)):
            out(line)


def erasure_rows(methods: Mapping[str, MethodResult]) -> list[list[str]]:
    """What erasure did: a header, then the methods with chance at the end."""
    searched = any(result.share_of_best is not None for result in methods.values())
    rows = [["method", "comp", "(mask)", "suff", "(mask)", "flips", "until", *(["best"] if searched else []), "texts"]]
    for name in _in_order(methods):
        result = methods[name]
        row = [name]
        for curves in (result.comprehensiveness, result.sufficiency):
            row += [_mean(curves["deletion"]), _mean(curves["mask"])]
        row += [f"{result.top_token_flips:.0%}", f"{result.erased_until_flip:.0%}"]
        row += [_percent(result.share_of_best)] if searched else []
        rows.append([*row, str(result.num_examples)])
    return rows


def other_rows(methods: Mapping[str, MethodResult]) -> list[list[str]]:
    """What else was measured: a header and a row for each method of which there is anything; may be empty."""
    columns: dict[str, Callable[[MethodResult], str]] = {
        "for": lambda result: "" if result.signs is None else _percent(result.signs.supporting),
        "against": lambda result: "" if result.signs is None else _percent(result.signs.opposing),
        "stable": lambda result: "" if result.noise_overlap is None else _percent(result.noise_overlap),
        "unlike": lambda result: _percent(result.outliers["deletion"]),
        "AUPRC": lambda result: "" if result.evidence is None else _mean(result.evidence.auprc),
        "token F1": lambda result: "" if result.evidence is None else _mean(result.evidence.token_f1),
        "IOU F1": lambda result: "" if result.evidence is None else f"{result.evidence.iou_f1:.3f}",
    }
    cells = {title: [cell(methods[name]) for name in _in_order(methods)] for title, cell in columns.items()}
    shown = {title: values for title, values in cells.items() if any(values)}
    names = _in_order(methods)
    rows = [[name, *(values[place] for values in shown.values())] for place, name in enumerate(names)]
    rows = [row for row in rows if any(row[1:])]
    return [["method", *shown], *rows] if rows else []


def _to_the_right(rows: list[list[str]]) -> list[list[str]]:
    """All columns but the first aligned to the right, although some cells are empty or negative."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[row[0], *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))] for row in rows]


def _in_order(methods: Mapping[str, MethodResult]) -> list[str]:
    return sorted(methods, key=lambda name: name == "random")


def _mean(value: Interval | None) -> str:
    return "–" if value is None else f"{value.mean:.3f}"


def _percent(value: Interval | None) -> str:
    return "–" if value is None else f"{value.mean:.0%}"


def seed_rows(agreed: SeedAgreement) -> list[list[str]]:
    """How far models of several seeds agree."""
    rows = [
        [f"{agreed.num_models} models: equal answers", f"{agreed.equal_answers:.1%}"],
        ["contributions: tau, overlap of the top words", _pair(agreed.contributions_tau, agreed.contributions_overlap)],
    ]
    if agreed.attention_jensen_shannon is None:
        return rows
    return [
        *rows,
        ["attention: tau, overlap of the top words", _pair(agreed.attention_tau, agreed.attention_overlap)],
        ["attention: Jensen-Shannon divergence", f"{agreed.attention_jensen_shannon:.3f}"],
    ]


def _pair(first: float | None, second: float | None) -> str:
    return ", ".join("–" if value is None else f"{value:.2f}" for value in (first, second))


def attention_rows(facts: AttentionResult) -> list[list[str]]:
    """What was seen of the attention itself, each with a few words on what it means."""

    def interval(value: Interval | None) -> str:
        return "–" if value is None else f"{value.mean:.2f} ({value.low:.2f} to {value.high:.2f})"

    rows = [
        ["tau with gradients", interval(facts.tau_gradient)],
        ["tau with leave-one-out", interval(facts.tau_leave_one_out)],
        ["  (gradients with leave-one-out)", interval(facts.tau_gradient_leave_one_out)],
        ["answer moves, weights permuted", interval(facts.permuted_total_variation)],
        ["answer moves, equal weights", interval(facts.uniform_total_variation)],
        ["answers changed by equal weights", f"{facts.uniform_decisions_changed:.1%}"],
        ["answers changed by zeroing the top weight", f"{facts.top_weight_flips:.1%}"],
        ["  (by zeroing a random one)", f"{facts.random_weight_flips:.1%}"],
        ["weights zeroed until the answer changes", f"{facts.weights_erased_until_flip:.0%}"],
        ["  (in random order)", f"{facts.random_weights_erased_until_flip:.0%}"],
        ["conicity of the states", interval(facts.conicity)],
    ]
    if facts.accuracy is not None:
        rows.append(["accuracy, with equal weights", f"{facts.accuracy:.3f}, {facts.uniform_accuracy:.3f}"])
    return rows
