"""Cards and sections of the page of a run that predicts numbers."""

from __future__ import annotations

from textattn.inference.markup import shown
from textattn.inference.visible import short_number
from textattn.measure.slices import Slice, Slicing
from textattn.pages import svg
from textattn.pages.numbers import Numbers, WrongNumber
from textattn.pages.texts import marked, place
from textattn.pages.wording import name, percent, table

TITLES = {
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "median_absolute_error": "median absolute error",
    "r2": "R²",
    "spearman": "Spearman's rank correlation",
}


def cards(numbers: Numbers) -> list[str]:
    """The answers to the first questions."""
    return [_quality(numbers), _interval(numbers), _worst(numbers)]


def _quality(numbers: Numbers) -> str:
    m, value = numbers.metrics, numbers.metrics[numbers.metrics["headline"]]
    between = m["interval_95"]
    range_of = f"; 95&nbsp;% interval {_short(between['low'])} to {_short(between['high'])}"
    lines = [f"always the mean: {_short(m['mean_baseline']['mae'])} mean absolute error"]
    if numbers.baseline is not None:
        lines.append(f"linear model on TF-IDF: {_short(numbers.baseline['mae'])} mean absolute error")
    inner = "".join(f"<li>{line}</li>" for line in lines)
    return (
        f'<h2>How far off is it?</h2><p class="big">{_short(value)}</p><p>{TITLES[m["headline"]]} of '
        f"{name(numbers.name)} on {m['num_examples']:,} {numbers.split} texts{range_of}. {_against(numbers)}</p>"
        f"<ul>{inner}</ul>"
    )


def _against(numbers: Numbers) -> str:
    against = numbers.against
    if against is None:
        return "No linear model was trained for comparison (<code>training.baseline=true</code>)."
    low, high = against["interval_95"]
    if low <= 0 <= high:
        return "It is <b>not clearly different from a linear model</b>."
    is_better = (against["difference"] > 0) == (numbers.metrics["headline"] in ("r2", "spearman"))
    css, word = ("good", "better") if is_better else ("bad", "worse")
    return f'It is <b class="{css}">{word} than a linear model</b> by more than chance.'


def _interval(numbers: Numbers) -> str:
    found = numbers.metrics["interval"]
    head = "<h2>How sure is a number?</h2>"
    if found is None:
        return f"{head}<p>Not known: there are too few validation rows for intervals.</p>"
    return (
        f'{head}<p class="big">± {found["margin"]:,.{numbers.decimals}f}</p><p>Intervals of this width around the '
        f"predictions should contain {percent(found['wanted_coverage'], 0)} of the true numbers. On "
        f"{numbers.split} they contain <b>{percent(found['coverage'])}</b>.</p>"
    )


def _worst(numbers: Numbers) -> str:
    if not numbers.worst:
        return ""
    worst = numbers.worst[0]
    lines = [f"largest error: {_number(worst.predicted, numbers)} instead of {_number(worst.number, numbers)}"]
    really = [(s.column, one) for s in numbers.slicings for one in s.slices if one.verdict == "worse"]
    for column, one in sorted(really, key=lambda pair: pair[1].figure)[:3]:
        lines.append(f"{shown(column)} {name(one.value)}: mean absolute error {_short(-one.figure)}")
    half = numbers.metrics["median_absolute_error"]
    return (
        f'<h2>Where does it err?</h2><p class="big">{_short(half)}</p><p>Half of the errors are smaller, half are '
        f"larger.</p><ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"
    )


def scatter(numbers: Numbers) -> str:
    """Predicted against true numbers, and a table of the metrics."""
    rows = (
        f'<tr><th scope="row">{title}<td class="amount">{_short(numbers.metrics[key])}'
        + ("" if numbers.baseline is None else f'<td class="amount">{_short(numbers.baseline[key])}')
        for key, title in TITLES.items()
    )
    columns = ["metric", ">this model", *([">linear model"] if numbers.baseline is not None else [])]
    unit = f"The errors are in the unit of {name(numbers.name)}."
    figure = (
        f"<figure>{svg.scatter(numbers.points, numbers.name)}<figcaption>Each dot is a text. On the dashed line the "
        f"prediction is the true number. {unit}</figcaption></figure>"
    )
    return f'<div class="matrix-and-cells">{figure}<div>{table(columns, rows)}</div></div>'


def errors(numbers: Numbers) -> str:
    """The texts with the largest errors."""
    articles = "".join(_article(i, one, numbers) for i, one in enumerate(numbers.worst, 1))
    signed = any(one.explanation is not None and one.explanation.signed for one in numbers.worst)
    legend = (
        '<p class="legend"><mark class="p3">word</mark> more <mark class="c3">word</mark> less</p>' if signed else ""
    )
    count = numbers.metrics["num_examples"]
    return (
        f'<p class="lead">The {len(numbers.worst):,} of {count:,} texts with the largest errors.</p>{legend}{articles}'
    )


def _article(position: int, one: WrongNumber, numbers: Numbers) -> str:
    return (
        f'<article><header><p class="place">{position} · {place(one.where, one.row)}</p>'
        f"<h3>{_number(one.predicted, numbers)}</h3>"
        f'<p class="marker wrong">true: {_number(one.number, numbers)}</p></header>'
        f"<div>{marked(one.text, one.explanation)}</div></article>"
    )


def slices(numbers: Numbers) -> str:
    """A table for each column."""
    tested = sum(one.p is not None for slicing in numbers.slicings for one in slicing.slices)
    intro = (
        f'<p class="lead">Each row against all other texts, worst first. <b class="bad">worse</b> and '
        f'<b class="good">better</b> mean: by more than chance, after Holm\'s correction for {tested:,} comparisons. '
        "Without a mark the difference may be chance.</p>"
    )
    return intro + "".join(map(_slicing, numbers.slicings))


def _slicing(slicing: Slicing) -> str:
    columns = ["value", ">texts", ">mean absolute error", "against the others"]
    return table(columns, map(_slice_row, slicing.slices), caption=name(slicing.column), css="figures slices")


def _slice_row(one: Slice) -> str:
    css = {"worse": "bad", "better": "good"}.get(one.verdict, "")
    mark = f'<b class="{css}">{one.verdict}</b> ' if css else ""
    p = "" if one.adjusted_p is None else f" <small>p = {one.adjusted_p:.2g}</small>"
    difference = f"{-one.difference:+.3g}".replace("-", "−")
    return (
        f'<tr><th scope="row">{name(one.value)}<td class="amount">{one.count:,}<td class="amount">{_short(-one.figure)}'
        f"<td>{mark}{difference}{p}"
    )


def _number(value: float, numbers: Numbers) -> str:
    return f"{value:,.{numbers.decimals}f}".replace("-", "−")


def _short(value: float | None) -> str:
    return "–" if value is None else short_number(value).replace("-", "−")
