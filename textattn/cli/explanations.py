"""Explanations as they are printed. Light to import."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from textattn.cli.answers import as_json
from textattn.cli.console import flush, out, out_json, use_color

if TYPE_CHECKING:
    from textattn.explain.explanations import Explanation
    from textattn.explain.flips import Flip
    from textattn.inference.classifier import Classifier

# Between two explanations.
RULE = 60
# Rows in the table of the strongest words.
WORDS = 8
# A text must not steer the terminal: control characters are shown as pictures of themselves.
VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {
    code: 0x2421 if code == 127 else 0xFFFD for code in range(127, 160)
}


def print_explanations(
    classifier: Classifier,
    groups: Iterable[Sequence[str]],
    *,
    methods: Sequence[str] = ("attention",),
    target: str | None = None,
    against: str | None = None,
    flip: bool = False,
    golds: Sequence[str] = (),
    words: int = WORDS,
    full: bool = False,
    json: bool = False,
) -> None:
    """Highlighted texts with their strongest words, or a JSON line each, as the groups come; then the verdict on them.

    Args:
        golds: the true label of each text, where known.
    """
    from textattn.explain.explanations import explain_texts
    from textattn.explain.trust import trust

    multi_label = classifier.config.multi_label
    trusted = {method: trust(classifier, method) for method in methods}
    shown = 0
    for texts in groups:
        by_method = [explain_texts(classifier, texts, method, target, against) for method in methods]
        flips = [_flip(classifier, text) for text in texts] if flip else [None] * len(texts)
        for number, explanations in enumerate(zip(*by_method, strict=True)):
            gold = golds[shown] if golds else None
            for explanation in explanations:
                if json:
                    value = _explanation_as_json(explanation, multi_label) | {"verdict": trusted[explanation.method]}
                    value |= {} if gold is None else {"gold": gold}
                    value |= {"flip": _flip_as_json(flips[number])} if flip else {}
                    out_json(value)
                else:
                    first = shown == 0 and explanation is explanations[0]
                    _print_explanation(explanation, words, multi_label, gold, separate=not first, full=full)
            if flip and not json:
                _print_flip(flips[number], multi_label)
            shown += 1
        flush()
    if not json and shown:
        out("")
        for verdict in filter(None, trusted.values()):
            _print_wrapped(f"Trust: {verdict}")
        if not any(trusted.values()):
            import shlex

            out("Trust: not measured for this model; to measure it:")
            out(f"  textattn audit --model {shlex.quote(str(classifier.path))}")


def _explanation_as_json(explanation: Explanation, multi_label: bool) -> dict[str, Any]:
    value = as_json(explanation.prediction, 1, multi_label) | {
        "text": explanation.text,
        "target": explanation.target,
        "method": explanation.method,
        "tokens": explanation.tokens,
        "offsets": explanation.offsets,
        "weights": explanation.weights,
        "words": [{"word": w.text, "start": w.start, "end": w.end, "weight": w.weight} for w in explanation.words],
        "truncated": explanation.truncated,
    }
    if explanation.method == "attention":
        value["attention_weights"] = explanation.weights
    if explanation.against is not None:
        value["against"] = explanation.against
    if explanation.completeness_error is not None:
        value["completeness_error"] = explanation.completeness_error
    return value


def _flip(classifier: Classifier, text: str) -> Flip | None:
    from textattn.explain.flips import find_flip

    return find_flip(classifier, classifier.normalise(text)[0])


def _flip_as_json(flip: Flip | None) -> dict[str, Any] | None:
    if flip is None:
        return None
    return {
        "words": [{"word": w.text, "start": w.start, "end": w.end, "weight": w.weight} for w in flip.words],
        "label": flip.prediction.label,
        "score": flip.prediction.score,
        "labels": flip.prediction.labels,
        "is_smallest": flip.is_smallest,
    }


def _print_flip(flip: Flip | None, multi_label: bool) -> None:
    out("")
    if flip is None:
        _print_wrapped("flip: no set of words changes the answer when taken out, not even all of them")
        return
    answer = flip.prediction
    given = ", ".join(answer.labels) or "none" if multi_label else f"{answer.label} ({answer.score:.4f})"
    words = ", ".join(repr(word.text) for word in flip.words)
    claim = "no smaller set does that" if flip.is_smallest else "none of these can be spared; a smaller set may exist"
    _print_wrapped(f"flip: without {words} the answer is {given}; {claim}")


def _print_explanation(
    explanation: Explanation, words: int, multi_label: bool, gold: str | None, *, separate: bool, full: bool
) -> None:
    """On a terminal wrapped at words, long texts folded; in a pipe the text is passed on as it is."""
    from textattn.explain.terminal import render

    color, width, console = _terminal()
    person = sys.stdout.isatty()
    lines = render(
        explanation, words, color=color, multi_label=multi_label, width=width, folded=person and not full, gold=gold
    )
    if separate:
        out("\n" + "-" * min(width, RULE) + "\n")
    for line in lines:
        if console is not None:
            from rich.text import Text

            pieces = [(piece.translate(VISIBLE), style) for piece, style in line]
            console.print(Text.assemble(*pieces), soft_wrap=not person)
        else:
            out("".join(piece for piece, _ in line))


def _print_wrapped(text: str) -> None:
    """A sentence, wrapped for a person, one line for a program."""
    _, width, _ = _terminal()
    if sys.stdout.isatty():
        import textwrap

        text = textwrap.fill(text.translate(VISIBLE), width)
    out(text)


def _terminal() -> tuple[bool, int, Any]:
    """Whether to colour, how wide to write, and rich's console where a terminal needs one."""
    import shutil

    color = use_color(sys.stdout)
    if not color and not sys.stdout.isatty():
        return False, shutil.get_terminal_size().columns, None
    # Only a terminal needs rich.
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False, no_color=not color, force_terminal=color or None)
    color = color and console.color_system is not None
    return color, console.width, console if color or sys.stdout.isatty() else None
