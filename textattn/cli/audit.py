"""`textattn audit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from textattn.cli.answers import open_model
from textattn.cli.console import enumerated, note, out, out_json, table
from textattn.cli.options import Data, DataSettings, Device, Json, Quiet
from textattn.cli.settings import data_settings
from textattn.errors import InputError
from textattn.explain.methods import audited_names, method_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from textattn.explain.audit_measures import Interval
    from textattn.explain.audit_results import AttentionResult, AuditResult, MethodResult

SLOW = tuple(name for name in method_names() if name not in audited_names())


def audit(  # noqa: PLR0913 (every option of a command is a parameter)
    data: Data = None,
    settings: DataSettings = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Run directory; default as for predict. Repeat it to compare the attention of several seeds.",
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
        except (OSError, InputError) as error:
            note(f"the audit could not be kept in {classifier.path}: {error}", "Warning")
        else:
            if kept is not None:
                note(f"Kept in {kept}: metrics.json and README.md")


def print_audit(result: AuditResult, verdict: str) -> None:
    """The verdict, then a table of the methods and what was seen of the attention itself."""
    out(verdict)
    out("")
    header, rows = method_rows(result.methods)
    for line in table(rows, header):
        out(line)
    if result.attention is not None:
        out("")
        for line in table(attention_rows(result.attention)):
            out(line)
    if result.seeds is not None:
        agreed = result.seeds
        out("")
        tau = "–" if agreed.attention_tau is None else f"{agreed.attention_tau:.2f}"
        out(
            f"{agreed.num_models} models: attention tau {tau}, Jensen-Shannon divergence "
            f"{agreed.attention_jensen_shannon:.3f}, equal answers {agreed.equal_answers:.1%}"
        )


def method_rows(methods: Mapping[str, MethodResult]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the methods with chance at the end."""
    evidence = any(result.evidence is not None for result in methods.values())
    header = ["method", "comp", "comp mask", "suff", "suff mask", "top flips", "until flip", "texts"]
    header += ["AUPRC", "token F1", "IOU F1"] if evidence else []
    rows = []
    for name in sorted(methods, key=lambda name: name == "random"):
        result = methods[name]
        row = [name]
        for curves in (result.comprehensiveness, result.sufficiency):
            row += [_mean(curves["deletion"]), _mean(curves["mask"])]
        row += [f"{result.top_token_flips:.1%}", f"{result.erased_until_flip:.0%}", str(result.num_examples)]
        if evidence:
            agreed = result.evidence
            row += (
                ["", "", ""]
                if agreed is None
                else [_mean(agreed.auprc), _mean(agreed.token_f1), f"{agreed.iou_f1:.3f}"]
            )
        rows.append(row)
    return header, rows


def _mean(value: Interval | None) -> str:
    return "–" if value is None else f"{value.mean:.3f}"


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
