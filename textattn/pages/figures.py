"""Sections of the page with figures: confusion, labels, thresholds, calibration, slices, training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from textattn.inference.markup import shown
from textattn.measure.selective import standing
from textattn.measure.slices import Slice, Slicing
from textattn.pages import svg
from textattn.pages.cases import MOST_LABELS
from textattn.pages.gather import Figure, LabelRow, Measured, RunReport
from textattn.pages.wording import (
    KIND_NAMES,
    MEANINGS,
    UNSEEN_BAR,
    bar,
    interval,
    metric_name,
    name,
    number,
    percent,
    table,
)

# The target that is shown first, if it can be reached.
SHOWN_TARGET = 0.95
STANDING = {
    "kept": '<b class="good">kept</b>, with its whole interval',
    "open": "consistent with the aim",
    "missed": '<b class="bad">missed</b>',
    "unknown": "nothing answered",
}


def labels(m: Measured) -> str:
    """The table of labels, the most frequent first."""
    columns = ["label", ">texts", ">precision", ">recall", ">F1", UNSEEN_BAR]
    columns += [">right", ">given wrongly", ">left out", ">rightly not given"] if m.multi_label else []
    order = sorted(range(len(m.labels)), key=lambda i: -(m.labels[i].tp + m.labels[i].fn))
    return table(columns, (_label_row(i, m.labels[i], m.multi_label) for i in order))


def _label_row(i: int, row: LabelRow, multi_label: bool) -> str:
    line = (
        f'<tr><th scope="row">{name(row.name)}<td class="amount">{row.tp + row.fn:,}'
        f'<td class="amount">{percent(row.precision)}<td class="amount">{percent(row.recall)}'
        f'<td class="amount">{percent(row.f1)}'
        f'<td class="wide">{bar(Figure(row.f1), "model")}'
    )
    if multi_label:
        for kind, count in enumerate((row.tp, row.fp, row.fn)):
            said = f"{shown(row.name)} {KIND_NAMES[kind]}: {count:,} texts"
            line += f'<td class="amount">{cell_button(i, kind, count, said)}'
        line += f'<td class="amount">{row.tn:,}'
    return line


def cell_button(first: int, second: int, count: int, said: str, is_open: bool = False) -> str:
    """A number that lists its texts.

    Args:
        first, second: the cell; see `Cells`.
        count: the number.
        said: what a screen reader says, escaped.
        is_open: whether its texts are shown at first.
    """
    if not count:
        return "0"
    opened, controls = str(is_open).lower(), f"cell-{first}-{second}"
    return (
        f'<button type="button" class="cell-of" aria-expanded="{opened}" aria-controls="{controls}" '
        f'aria-label="{said}">{count:,}</button>'
    )


def matrix(report: RunReport) -> str:
    """The confusion matrix; for many labels, the pairs that are confused most."""
    assert report.cells is not None
    counts, number_of = report.cells.counts, len(report.labels)
    if number_of > MOST_LABELS:
        return _pairs(report)
    opened = report.cells.opened
    totals = [sum(n for (t, _), n in counts.items() if t == true) for true in range(number_of)]
    head = "".join(f'<th scope="col"><span>{name(label)}</span>' for label in report.labels)
    body = []
    for true, label in enumerate(report.labels):
        line = f'<tr><th scope="row">{name(label)}'
        for given, other in enumerate(report.labels):
            count = counts.get((true, given), 0)
            share = 100 * count / max(totals[true], 1)
            css = "right" if true == given else "wrong"
            inner = (
                cell_button(true, given, count, _said(label, other, count), (true, given) == opened)
                if count
                else "<span>·</span>"
            )
            small = f"<small>{share:.0f}\u00a0%</small>" if count and number_of <= 8 else ""
            line += f'<td class="{css}" style="--w:{share:.0f}%">{inner}{small}'
        body.append(line)
    many = " many" if number_of > 8 else ""
    corner = '<td><span class="unseen">true label</span>'
    return (
        f'<div class="scroll"><table class="matrix{many}"><thead><tr>{corner}{head}<tbody>{"".join(body)}</table></div>'
    )


def _pairs(report: RunReport) -> str:
    index, opened = {label: i for i, label in enumerate(report.labels)}, report.cells and report.cells.opened
    rows = (
        f'<tr><td>{name(true)}<td>{name(given)}<td class="amount">'
        + cell_button(*(cell := (index[true], index[given])), count, _said(true, given, count), cell == opened)
        + f'<td class="amount">{percent(count / total)}'
        for true, given, count, total in confusions(report)[:MOST_LABELS]
    )
    columns = ["true label", "given label", ">texts", ">of the true label"]
    return table(columns, rows)


def _said(true: str, given: str, count: int) -> str:
    return f"{count:,} texts: true {shown(true)}, given {shown(given)}"


def alone(report: RunReport) -> str:
    """Thresholds and the curve of selective prediction."""
    found = report.selective
    assert found is not None
    what, chosen, measured = unit(report), found["chosen_on"], found["measured_on"]
    split = measured or chosen
    if chosen and measured:
        how = f"Each threshold was chosen on the {chosen} split and measured on the {measured} split."
    elif chosen:
        how = (
            f"There is no test split. The thresholds were chosen on the {chosen} split itself, so its figures flatter."
        )
    else:
        how = "There is no validation split on which a threshold could be chosen."
    columns = ["aim", ">score from", ">answers alone", ">right among them", ">95&nbsp;% interval", "the aim is"]
    rows = [_threshold_row(entry, split) for entry in found["thresholds"]]
    entry = suggested(found)
    use = (
        f'<p class="note">To use it: <code>textattn predict --min-score {number(entry["threshold"])}</code>. '
        "Texts with a lower score then get <code>?</code> in the place of a label.</p>"
        if entry is not None and entry["threshold"]
        else ""
    )
    return (
        f'<p class="lead">A score is the probability that the model gives its answer. {how}</p>'
        f"{table(columns, rows) if rows else ''}{use}"
        f'<figure class="below">{svg.coverage(found, what)}<figcaption>Of the {split} split, the surest answers first. '
        "Dashed: the aims. Dots: the chosen thresholds with their 95&nbsp;% intervals.</figcaption></figure>"
    )


def suggested(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The entry with the target nearest to `SHOWN_TARGET` that can be reached; None if none can."""
    split = found["measured_on"] or found["chosen_on"]
    reached = [one for one in found["thresholds"] if one["threshold"] is not None and one[split]["answered"]]
    return min(reached, key=lambda one: abs(one["target"] - SHOWN_TARGET), default=None)


def _threshold_row(entry: Mapping[str, Any], split: str) -> str:
    aim = f'<tr><th scope="row">{percent(entry["target"], 0)} right'
    if entry["threshold"] is None:
        return f'{aim}<td class="amount">–<td colspan="4">not reached on the validation split'
    m = entry[split]
    return (
        f'{aim}<td class="amount"><b>{number(entry["threshold"])}</b><td class="amount">{percent(m["coverage"])} '
        f"<small>({m['answered']:,} of {m['total']:,})</small>"
        f'<td class="amount">{percent(m["accuracy"])}<td class="amount">{interval(*(m["interval_95"] or (None, None)))}'
        f"<td>{STANDING[standing(entry['target'], m)]}"
    )


def calibration(m: Measured, temperature: float) -> str:
    """The reliability diagram."""
    ece, before = m.metrics["ece"], m.metrics.get("ece_uncalibrated")
    said = (
        f"On average a score is <b>{percent(ece)}</b> away from the share that is right (expected calibration error)."
    )
    if temperature != 1 and before is not None:
        said += f" Before calibration it was {percent(before)} away (temperature {temperature:.3f})."
    counted = "Each label of each text is a prediction" if m.multi_label else "Each text is a prediction"
    return (
        f'<p class="lead">{said}</p><figure>{svg.reliability(m.metrics["reliability"], m.multi_label)}'
        f"<figcaption>{counted}. On the dashed line a score is what it says; below it the model is too sure of itself. "
        "Large dots: many predictions. Lines: 95&nbsp;% intervals.</figcaption></figure>"
    )


def slices(slicings: Sequence[Slicing], multi_label: bool) -> str:
    """A table for each column."""
    figure = "mean F1 of a text" if multi_label else "right"
    tested = sum(one.p is not None for slicing in slicings for one in slicing.slices)
    intro = (
        f'<p class="lead">Each row against all other texts, worst first. <b class="bad">worse</b> and '
        f'<b class="good">better</b> mean: by more than chance, after Holm\'s correction for {tested:,} comparisons. '
        "Without a mark the difference may be chance.</p>"
    )
    return intro + "".join(_slicing(slicing, figure) for slicing in slicings)


def _slicing(slicing: Slicing, figure: str) -> str:
    columns = ["value", ">texts", f">{figure}", UNSEEN_BAR, ">95&nbsp;% interval", "against the others"]
    return table(columns, map(_slice_row, slicing.slices), caption=name(slicing.column), css="figures slices")


def _slice_row(one: Slice) -> str:
    css = {"worse": "bad", "better": "good"}.get(one.verdict, "")
    mark = f'<b class="{css}">{one.verdict}</b> ' if css else ""
    p = "" if one.adjusted_p is None else f" <small>p = {one.adjusted_p:.2g}</small>"
    difference = f"{100 * one.difference:+.1f}".replace("-", "−")
    return (
        f'<tr><th scope="row">{name(one.value)}<td class="amount">{one.count:,}<td class="amount">{percent(one.figure)}'
        f'<td class="wide">{bar(Figure(one.figure, one.low, one.high), "model")}'
        f'<td class="amount">{interval(one.low, one.high)}<td>{mark}{difference}\u00a0points{p}'
    )


def training(report: RunReport) -> str:
    """The curves of training."""
    figures = "".join(f"<figure>{picture}</figure>" for picture in _curves(report))
    best = report.metrics.get("best") or {}
    if not figures:
        return ""
    step, metric = best.get("best_global_step"), best.get("metric_for_best_model")
    value = best.get("best_metric")
    kept = f"validation {metric_name(metric)} {value:.4f}" if isinstance(value, float) and metric else "the last one"
    said = "" if step is None else f"<p>The selected model is that after step {step:,}: {kept}.</p>"
    return f'<div class="three">{figures}</div>{said}'


def _curves(report: RunReport) -> Iterator[str]:
    best = report.metrics.get("best") or {}
    metric = best.get("metric_for_best_model", "")
    wanted = [("loss", "training loss", "other"), ("eval_loss", "validation loss", "chosen")]
    if metric != "log_loss":
        wanted.append((f"eval_{metric}", f"validation {metric_name(metric)}", "model"))
    for key, title, css in wanted:
        points = [(float(e["step"]), float(e[key])) for e in report.log if isinstance(e.get(key), (int, float))]
        if points:
            at = next((point for point in points if point[0] == best.get("best_global_step")), None)
            yield svg.curve(points, title, css, None if key == "loss" else at)


def meaning(m: Measured) -> str:
    """What the headline metric is."""
    return f"{metric_name(m.metric)}: {MEANINGS.get(m.metric, '')}"


def confusions(report: RunReport) -> list[tuple[str, str, int, int]]:
    """Pairs of labels that are confused: the true and the given label, how often, and of how many; the most first."""
    assert report.cells is not None
    counts = report.cells.counts
    totals = {true: sum(n for (t, _), n in counts.items() if t == true) for true, _ in counts}
    wrong = [(cell, n) for cell, n in counts.items() if cell[0] != cell[1]]
    wrong.sort(key=lambda item: (-item[1], item[0]))
    return [(report.labels[t], report.labels[g], n, totals[t]) for (t, g), n in wrong]


def unit(report: RunReport) -> str:
    """What a threshold applies to."""
    return "labels given" if report.measured is not None and report.measured.multi_label else "texts"
