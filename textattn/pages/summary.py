"""The cards at the top of the page: short answers to the first questions about a run."""

from __future__ import annotations

from textattn.inference.markup import shown
from textattn.pages import number_figures
from textattn.pages.figures import confusions, suggested, unit
from textattn.pages.gather import Measured, RunReport
from textattn.pages.wording import bar, figure_interval, interval, metric_name, name, number, percent

TRUST = {"good": "Good evidence", "part": "Part of the evidence", "none": "No evidence", "unknown": "Not known"}


def cards(report: RunReport) -> str:
    """The answers to the first questions about a run."""
    if report.numbers is not None:
        found = [*number_figures.cards(report.numbers), _trust(report)]
    else:
        found = [_quality(report), _alone(report), _first_errors(report), _trust(report)]
    inner = "".join(f'<section class="card">{content}</section>' for content in found if content)
    return f'<div class="cards">{inner}</div>' if inner else ""


def _quality(report: RunReport) -> str:
    m = report.measured
    if m is None:
        folds = report.metrics.get("cross_validation")
        if folds is None:
            return (
                "<h2>Is it good?</h2><p>Nothing was measured: the data have neither a validation nor a test split.</p>"
            )
        metric, between = folds["headline"], folds["interval_95"]
        if "mean_baseline" in folds:
            return (
                f'<h2>How far off is it?</h2><p class="big">{folds[metric]:.3g}</p>'
                f"<p>{metric_name(metric)} in cross-validation on the training texts</p>"
            )
        return (
            f'<h2>Is it good?</h2><p class="big">{percent(folds[metric])}</p>'
            f"<p>{metric_name(metric)} in cross-validation on the training texts; "
            f"95&nbsp;% interval {interval(between['low'], between['high'])}</p>"
        )
    bars = [("this model", m.model, "model")]
    if m.baseline is not None:
        bars.append(("linear model on TF-IDF", m.baseline, "other"))
    bars.append((f"always {name(m.majority_label)}", m.majority, "other"))
    rows = "".join(
        f'<span>{title}</span>{bar(figure, css)}<span class="amount">{percent(figure.value)}</span>'
        for title, figure, css in bars
    )
    return (
        f'<h2>Is it good?</h2><p class="big">{percent(m.model.value)}</p>'
        f"<p>{metric_name(m.metric)} on {m.count:,} {m.split} texts; 95&nbsp;% interval {figure_interval(m.model)}. "
        f"{_against(m)}</p>"
        f'<div class="bars">{rows}</div>'
    )


def _against(m: Measured) -> str:
    said = {
        "better": 'It is <b class="good">better than a linear model</b> by more than chance.',
        "worse": 'It is <b class="bad">worse than a linear model</b> by more than chance.',
        "same": "It is <b>not clearly different from a linear model</b>.",
    }
    if m.baseline_verdict is not None:
        return said[m.baseline_verdict]
    if m.baseline is not None:
        return ""
    return "No linear model was trained for comparison (<code>training.baseline=true</code>)."


def _alone(report: RunReport) -> str:
    found = report.selective
    if found is None:
        return ""
    what, split = unit(report), found["measured_on"] or found["chosen_on"]
    head = "<h2>From which score may it answer alone?</h2>"
    if not found["thresholds"]:
        return f"{head}<p>Not known: without a validation split no threshold can be chosen.</p>"
    entry = suggested(found)
    if entry is None:
        least = min(one["target"] for one in found["thresholds"])
        return (
            f'{head}<p class="big">Never</p><p>From no score on are {percent(least, 0)} of enough validation {what} '
            "right.</p>"
        )
    measured = entry[split]
    lines = "".join(
        f"<li>from <b>{number(one['threshold'])}</b>: {percent(one[split]['coverage'], 0)} of the {what}, "
        f"{percent(one[split]['accuracy'])} right</li>"
        for one in found["thresholds"]
        if one is not entry and one["threshold"] is not None and one[split]["answered"]
    )
    return (
        f'{head}<p class="big">{number(entry["threshold"])}</p><p>From this score on it answers '
        f"<b>{percent(measured['coverage'], 0)}</b> of the {split} {what}, and "
        f"<b>{percent(measured['accuracy'])}</b> of these answers are right "
        f"({measured['right']:,} of {measured['answered']:,}; 95&nbsp;% interval "
        f"{interval(*measured['interval_95'])}). The aim was {percent(entry['target'], 0)}.</p>"
        + (f"<ul>{lines}</ul>" if lines else "")
    )


def _first_errors(report: RunReport) -> str:
    m, errors = report.measured, report.errors
    if m is None or errors is None:
        return ""
    head = f'<h2>Where does it err?</h2><p class="big">{errors.count:,} <small>of {m.count:,} texts</small></p><ul>'
    lines = []
    if m.multi_label:
        worst = sorted((row for row in m.labels if row.tp + row.fn), key=lambda row: row.f1)[:3]
        lines += [f"{name(row.name)}: F1 {percent(row.f1)}, {row.tp + row.fn:,} texts" for row in worst]
    else:
        lines += [
            f"<b>{count:,}</b> of {support:,} {name(true)} taken for {name(given)}"
            for true, given, count, support in confusions(report)[:3]
        ]
    really = [(s.column, one) for s in report.slicings for one in s.slices if one.verdict == "worse"]
    for column, one in sorted(really, key=lambda pair: pair[1].figure)[:2]:
        lines.append(f"{shown(column)} {name(one.value)}: only {percent(one.figure)} right")
    if errors.num_suspects:
        lines.append(f"{errors.num_suspects:,} true label{'s' * (errors.num_suspects != 1)} may be wrong")
    return head + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"


def _trust(report: RunReport) -> str:
    if report.audit is None:
        return ""
    found, sentence = report.audit
    return f'<h2>Are its highlights reasons?</h2><p class="big word">{TRUST[found]}</p><p>{shown(sentence)}</p>'
