"""Explained texts as one HTML page that needs nothing else: no network, no files beside it, every text as it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from textattn.explain.explanations import Explanation
from textattn.explain.marked_text import Shape, body_html, counted
from textattn.explain.marks import SHADES, hue, number, sum_html
from textattn.explain.methods import find_method, is_signed
from textattn.inference.classifier import Prediction
from textattn.inference.markup import shown

# Rows in the table of the strongest words.
TABLE_ROWS = 10


@dataclass(frozen=True)
class PageText:
    """One text of the page."""

    explanations: Sequence[Explanation]
    """One for each method, all of the same text."""
    gold: Sequence[str] | None = None
    """Its true labels; None where they are not known."""
    evidence: Sequence[tuple[int, int]] = ()
    """Characters that people marked, half-open."""
    maps: Sequence[Sequence[Sequence[float]]] = ()
    """For each head what each token attends to, (heads, seq, seq): rows sum to 1. Shown with the method `attention`."""

    @property
    def right(self) -> bool | None:
        """Whether all true labels were given and no other; None where they are not known."""
        if self.gold is None or self.prediction.is_number:
            return None
        return set(self.gold) == set(self.prediction.labels)

    @property
    def prediction(self) -> Prediction:
        """The model's answer, the same for every method."""
        return self.explanations[0].prediction


def render_page(texts: Sequence[PageText], verdicts: Mapping[str, str], *, labels: Sequence[str], model: str) -> str:
    """The page; the same input gives the same bytes.

    Args:
        verdicts: method -> how far its highlights can be trusted, in a sentence; may lack methods.
        labels: of the model, in its order.
        model: its name.
    """
    methods = list(dict.fromkeys(explanation.method for text in texts for explanation in text.explanations))
    gold = _Choices([text.gold for text in texts], labels)
    given = _Choices([text.prediction.labels for text in texts], labels)
    answers = [text.right for text in texts if text.right is not None]
    right = {"1": ("right", answers.count(True)), "0": ("wrong", answers.count(False))} if answers else {}
    marked = any(len(text.evidence) for text in texts)
    articles = (
        _article(number, text, methods, gold.values[number - 1], given.values[number - 1])
        for number, text in enumerate(texts, 1)
    )
    return Template(asset("page.html")).substitute(
        colors=asset("colors.css"),
        marks=asset("marks.css"),
        title=shown(f"{model}: {counted(len(texts), 'text')} explained"),
        model=shown(model),
        facts=_facts(len(texts), answers),
        about="\n".join(_about(i, method, verdicts.get(method), marked) for i, method in enumerate(methods)),
        methods=_method_switch(methods),
        right=_select("right", "Answers", "all", right),
        gold=_select("gold", "True label", "any", gold.counts),
        given=_select("given", "Predicted", "any", given.counts),
        count=counted(len(texts), "text"),
        texts="\n".join(articles),
    )


def asset(name: str) -> str:
    """A file beside this module: a template, or a style that several pages share."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


class _Choices:
    """The labels that occur, as options of a filter, and for each text those that it has."""

    def __init__(self, of_texts: Sequence[Sequence[str] | None], labels: Sequence[str]) -> None:
        # A text without any label is found under an option of its own.
        rows = [None if names is None else names or [""] for names in of_texts]
        found = Counter(name for names in rows for name in names or ())
        names = [name for name in dict.fromkeys([*labels, *found]) if name in found]
        value = {name: str(i) for i, name in enumerate(names)}
        self.counts = {value[name]: (name, found[name]) for name in names}
        self.values = [" ".join(value[name] for name in names or ()) for names in rows]


def _facts(num_texts: int, answers: Sequence[bool]) -> str:
    of = "" if len(answers) == num_texts else f" of {len(answers):,} with a known label"
    right = f" · {sum(answers):,}{of} right ({100 * sum(answers) / len(answers):.1f}\u00a0%)" if answers else ""
    return f"{counted(num_texts, 'text')} explained{right}"


def _about(index: int, method: str, verdict: str | None, evidence: bool) -> str:
    """A method with its verdict and its legend."""
    said = f'<p class="verdict">{shown(verdict)}</p>' if verdict else ""
    shades = range(1, SHADES + 1)
    if not is_signed(method):
        legend = f"<span>less {_ramp('a', shades)} more attention</span>"
    else:
        against = _ramp("c", reversed(shades))
        legend = f"<span>{against} against the label</span><span>{_ramp('p', shades)} for it</span>"
    if evidence:
        legend += '<span><span class="ev">word</span> marked by people</span>'
    return (
        f'<section data-method="{index}"{" hidden" if index else ""}><h2>{shown(method)} '
        f'<small>{shown(find_method(method).says)}</small></h2>{said}<p class="legend">{legend}</p></section>'
    )


def _ramp(hue: str, levels: Iterable[int]) -> str:
    return " ".join(f'<mark class="{hue}{level}">word</mark>' for level in levels)


def _method_switch(methods: Sequence[str]) -> str:
    if len(methods) < 2:
        return ""
    values = [*range(len(methods)), "all"]
    radios = (
        f'<label><input type="radio" name="method" value="{value}"{"" if value else " checked"}>'
        f"<span>{shown(name)}</span></label>"
        for value, name in zip(values, [*methods, "side by side"], strict=True)
    )
    return f'<fieldset class="switch"><legend>Method</legend>{"".join(radios)}</fieldset>'


def _select(name: str, title: str, unset: str, choices: Mapping[str, tuple[str, int]]) -> str:
    """A filter by one of the choices: value -> what it is called and how many texts have it."""
    if not choices:
        return ""
    options = (
        f'<option value="{value}">{shown(called) or "(none)"} ({count:,})</option>'
        for value, (called, count) in choices.items()
    )
    return f'<label>{title}<select id="{name}"><option value="">{unset}</option>{"".join(options)}</select></label>'


def _article(number: int, text: PageText, methods: Sequence[str], gold: str, given: str) -> str:
    right = "" if text.right is None else str(int(text.right))
    shape = Shape(text.explanations, text.evidence)
    panels = (
        _panel(
            methods.index(explanation.method),
            explanation,
            shape,
            _maps(explanation.tokens, text.maps) if explanation.method == "attention" else "",
        )
        for explanation in text.explanations
    )
    return (
        f'<article data-right="{right}" data-gold="{gold}" data-given="{given}">'
        f'<header><h2><span class="number">{number}</span> {_answer(text.prediction)}</h2>{_marker(text)}</header>'
        f'<div class="panels">{"".join(panels)}</div></article>'
    )


def _answer(prediction: Prediction) -> str:
    given = ((f"<bdi>{shown(label)}</bdi>", prediction.scores[label]) for label in prediction.labels)
    if prediction.is_number:
        interval = "" if prediction.interval is None else " ({} to {})".format(*prediction.interval)
        name = f"<bdi>{shown(prediction.label)}</bdi>"
        number = f'<span class="score">{prediction.shown_score}{interval}</span>'
        return f'<span class="label">{name} {number}</span>'
    labels = (f'<span class="label">{label} <span class="score">{score:.3f}</span></span>' for label, score in given)
    return " ".join(labels) or '<span class="label">no label</span>'


def _marker(text: PageText) -> str:
    if text.gold is None:
        return ""
    gold = f"<bdi>{shown(', '.join(text.gold))}</bdi>"
    if text.right:
        return f'<p class="marker right">✓ right<span class="unseen">: {gold}</span></p>'
    return f'<p class="marker wrong">✗ wrong: {gold if text.gold else "<bdi>no label</bdi>"}</p>'


def _panel(index: int, explanation: Explanation, shape: Shape, maps: str) -> str:
    notes = ["The text is longer than the model reads; the rest was left out. "] if explanation.truncated else []
    if (error := explanation.completeness_error) is not None:
        figure = f"{100 * error:.1f}\u00a0%" if math.isfinite(error) else "not defined"
        about = "How far the sum of the weights is from the change of the log-odds it stands for"
        notes.append(f'<span title="{about}">Completeness error: {figure}</span>')
    note = f'<p class="note">{"".join(notes)}</p>' if notes else ""
    total = f'<p class="sum">{line}</p>' if (line := sum_html(explanation)) else ""
    hidden = " hidden" if index else ""
    return (
        f'<section data-method="{index}"{hidden}><p class="why"><b>{shown(explanation.method)}</b> '
        f'<span>{_why(explanation)}</span></p><div class="text" dir="auto">{body_html(explanation, shape)}</div>'
        f"{total}{note}{_table(explanation)}{maps}</section>"
    )


def _why(explanation: Explanation) -> str:
    if not explanation.signed:
        return "where it looked, the same for every label"
    prediction = explanation.prediction
    given = explanation.target in (prediction.label, *prediction.labels)
    score = "" if given else f' <span class="score">{prediction.scores[explanation.target]:.3f}</span>'
    against = "" if explanation.against is None else f" rather than <bdi>{shown(explanation.against)}</bdi>"
    return f"why <bdi>{shown(explanation.target)}</bdi>{score}{against}"


def _table(explanation: Explanation) -> str:
    pairs = zip(explanation.words, explanation.word_attention, strict=True)
    words = sorted((p for p in pairs if p[0].text.strip() and p[0].weight), key=lambda pair: -abs(pair[0].weight))
    if not words:
        return ""
    signed, top = explanation.signed, abs(words[0][0].weight)
    # A contribution is a product with the attention, so the two are compared.
    with_attention = explanation.shows_attention
    rows = "".join(
        f"<tr><td><bdi>{shown(' '.join(word.text.split()))}</bdi>"
        f'<td class="amount">{number(word.weight, signed)}'
        f'<td><i class="{hue(word.weight, signed)}" style="width:{100 * abs(word.weight) / top:.0f}%"></i>'
        + (f'<td class="amount">{number(attention, False)}' if with_attention else "")
        for word, attention in words[:TABLE_ROWS]
    )
    weight = "contribution" if explanation.total is not None else "weight"
    head = f'<th scope="col">word<th scope="col" class="amount">{weight}'
    head += '<th scope="col"><span class="unseen">as a bar</span>'
    head += '<th scope="col" class="amount">attention' if with_attention else ""
    return f"<details><summary>Strongest words</summary><table><thead><tr>{head}<tbody>{rows}</table></details>"


def _maps(tokens: Sequence[str], maps: Sequence[Sequence[Sequence[float]]]) -> str:
    """What each token attends to, a table for each head. The shade of a cell is its weight in per cent."""
    if not maps:
        return ""
    names = [f"<bdi>{shown(' '.join(token.split()))}</bdi>" for token in tokens]
    head = "".join(f'<th scope="col"><span>{name}</span>' for name in names)
    tables = (
        f"<table><caption>head {number}: row attends to column</caption><thead><tr><td>{head}<tbody>"
        + "".join(
            f'<tr><th scope="row">{name}' + "".join(_shade(weight) for weight in row)
            for name, row in zip(names, weights, strict=True)
        )
        + "</table>"
        for number, weights in enumerate(maps, 1)
    )
    return f'<details class="maps"><summary>What each token attends to</summary><div>{"".join(tables)}</div></details>'


def _shade(weight: float) -> str:
    share = round(100 * weight)
    return f'<td style="--w:{share}%" title="{share} %">' if share else "<td>"
