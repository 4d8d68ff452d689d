"""Sections of the page that show texts and words: errors with reasons, texts of each cell, words of each label."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from textattn.explain.explanations import Explanation
from textattn.explain.lexicon import Entry
from textattn.explain.marked_text import Shape, body_html
from textattn.explain.marks import number
from textattn.inference.markup import shown, visible
from textattn.pages.cases import Case, Cells, Errors
from textattn.pages.gather import RunReport
from textattn.pages.wording import KIND_NAMES, UNSEEN_BAR, name, names, table

# The folders before the name of a file and a line.
_FOLDERS = re.compile(r".*[/\\](?=[^/\\]+:\d+$)")


def errors(found: Errors) -> str:
    """The surest errors, with filters."""
    cases = found.surest
    labels = list(dict.fromkeys(label for case in cases for label in [*case.gold, *case.given]))
    index = {label: str(i) for i, label in enumerate(labels)}
    few = found.count == len(cases)
    lead = f"All {len(cases):,} errors" if few else f"The {len(cases):,} of {found.count:,} errors"
    lead += ", the surest first." if few else " of which the model is surest."
    signed = any(case.explanation is not None and case.explanation.signed for case in cases)
    legend = (
        '<p class="legend"><mark class="p3">word</mark> for the label that is explained '
        '<mark class="c3">word</mark> against it</p>'
        if signed
        else ""
    )
    articles = "".join(_article(i, case, index) for i, case in enumerate(cases, 1))
    return (
        f'<p class="lead">{lead}{_suspects(found)}</p>{legend}{_filters(cases, index)}<div>{articles}</div>'
        '<p class="none" hidden>No error matches.</p>'
    )


def _suspects(found: Errors) -> str:
    if found.num_suspects is None:
        return " The model has learned too little to tell whether labels are wrong."
    if not found.num_suspects:
        return " The labels look clean: nearly all agree with the surest answers."
    number, s = found.num_suspects, "s" * (found.num_suspects != 1)
    return (
        f" <b>{number:,} true label{s} may be wrong</b>: the model, which was not trained on these texts, contradicts "
        "the label with confidence (confident learning). <code>textattn check --deep</code> looks through all splits."
    )


def _filters(cases: Sequence[Case], index: Mapping[str, str]) -> str:
    if len(cases) < 2:
        return ""
    golds, given = (Counter(label for labels in side for label in labels) for side in _sides(cases))
    selects = _select("gold", "True label", golds, index) + _select("given", "Given", given, index)
    suspects = sum(case.suspect for case in cases)
    check = (
        f'<label class="check"><input type="checkbox" id="suspect">Label in doubt ({suspects})</label>'
        if suspects
        else ""
    )
    return (
        f'<div class="filters" role="search">{selects}<label>Search<input type="search" id="find" autocomplete="off" '
        f'spellcheck="false"></label>{check}<output id="count" aria-live="polite">{len(cases)} errors</output></div>'
    )


def _sides(cases: Sequence[Case]) -> tuple[list[list[str]], list[list[str]]]:
    """The true and the given labels of each case."""
    return [case.gold for case in cases], [case.given for case in cases]


def _select(key: str, title: str, counts: Counter[str], index: Mapping[str, str]) -> str:
    options = "".join(
        f'<option value="{index[label]}">{shown(label)} ({count:,})</option>' for label, count in counts.most_common()
    )
    return f'<label>{title}<select id="{key}"><option value="">any</option>{options}</select></label>'


def _article(position: int, case: Case, index: Mapping[str, str]) -> str:
    gold, given = (" ".join(index[label] for label in labels) for labels in (case.gold, case.given))
    score = f'<span class="score">{case.score:.3f}</span>'
    if case.given == [case.label]:
        answer = f"<h3>{name(case.label)} {score}</h3>"
    else:
        answer = f"<h3>{names(case.given)}</h3><p>{name(case.label)} {score}</p>"
    doubt = '<p class="doubt">label in doubt</p>' if case.suspect else ""
    return (
        f'<article data-gold="{gold}" data-given="{given}" data-suspect="{int(case.suspect)}"><header>'
        f'<p class="place">{position} · {place(case.where, case.row)}</p>{answer}'
        f'<p class="marker wrong">✗ true: {names(case.gold)}</p>{doubt}</header>'
        f"<div>{marked(case.text, case.explanation)}</div></article>"
    )


def place(where: str | None, row: int) -> str:
    """Where a text stands."""
    # Where the file lies is nobody's business who is shown the page.
    return shown(_FOLDERS.sub("", where)) if where is not None else f"row {row:,}"


def marked(text: str, explanation: Explanation | None) -> str:
    """A text with its words marked, if it was explained."""
    if explanation is None:
        return f'<div class="text" dir="auto">{escape(visible(text), quote=False)}</div>'
    why = "where it looked"
    if explanation.signed:
        against = "" if explanation.against is None else f" rather than {name(explanation.against)}"
        why = f"why {name(explanation.target)}{against}"
    cut = '<p class="sum">The model did not read all of it.</p>' if explanation.truncated else ""
    body = body_html(explanation, Shape([explanation]))
    return f'<p class="why">{why}</p><div class="text" dir="auto">{body}</div>{cut}'


def cells(report: RunReport) -> str:
    """The texts of each cell, hidden until it is selected."""
    found = report.cells
    assert found is not None
    multi_label = report.measured is not None and report.measured.multi_label
    return "".join(_cell(cell, cases, found, report.labels, multi_label) for cell, cases in sorted(found.cases.items()))


def _cell(cell: tuple[int, int], cases: Sequence[Case], found: Cells, labels: Sequence[str], multi_label: bool) -> str:
    first, second = cell
    count = found.counts[cell]
    if multi_label:
        title, right = f"{name(labels[first])} {KIND_NAMES[second]}", second == 0
    else:
        title, right = f"True {name(labels[first])}, given {name(labels[second])}", first == second
    order = "the least sure first" if right else "the surest first"
    how = f"{count:,} text{'s' * (count != 1)}, {order}"
    how += f"; {len(cases):,} are shown" if len(cases) < count else ""
    items = "".join(
        f'<li><span class="place">{place(case.where, case.row)} · {case.score:.3f}</span>'
        f'<span class="plain" dir="auto">{escape(visible(case.text), quote=False)}</span></li>'
        for case in cases
    )
    return (
        f'<section class="cell" id="cell-{first}-{second}" tabindex="-1"{_hidden(cell, found)}><h3>{title}</h3>'
        f'<p>{how}. <button type="button" class="close">Close</button></p><ol>{items}</ol></section>'
    )


def _hidden(cell: tuple[int, int], found: Cells) -> str:
    return "" if cell == found.opened else " hidden"


def words(report: RunReport) -> str:
    """The strongest words of each label."""
    groups = "".join(_words_of(label, report.words[label]) for label in report.labels if report.words.get(label))
    return (
        '<p class="lead">What counts most for each label, by the mean contribution in the texts that got it, from '
        f"{report.num_weighed:,} texts. A dashed word may be no reason. <code>textattn words</code> tells more.</p>"
        f'<div class="words">{groups}</div>'
    )


def _words_of(label: str, entries: Sequence[Entry]) -> str:
    top = max(entry.score for entry in entries)
    rows = (
        f"<tr><td><span{_suspicion(entry)}><bdi>{shown(' '.join(entry.word.split()))}</bdi></span>"
        f'<td class="amount">{number(entry.score, True)}'
        f'<td><i class="p" style="width:{100 * entry.score / top:.0f}%"></i>'
        for entry in entries
    )
    return table(["word", ">contribution", UNSEEN_BAR], rows, caption=name(label), css="strong")


def _suspicion(entry: Entry) -> str:
    return f' class="odd" title="{shown(entry.suspect)}"' if entry.suspect else ""
