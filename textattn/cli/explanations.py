"""Explanations as they are printed. Light to import."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from textattn.cli.console import flush, out, out_json, out_lines, use_color
from textattn.errors import ConfigError, Option
from textattn.explain.as_json import explanation_as_json, words_as_json
from textattn.inference.visible import one_line, visible
from textattn.storage.run_dir import WEIGHTS

if TYPE_CHECKING:
    from rich.console import Console

    from textattn.explain.explanations import AnsweredTexts, Explanation, Question
    from textattn.explain.flips import Flip
    from textattn.inference.classifier import Classifier

# Between two explanations.
RULE = 60
# Rows in the table of the strongest words.
WORDS = 8


@dataclass(frozen=True)
class Display:
    """What to show of explanations."""

    words: int = WORDS
    """Rows in the table of the strongest words."""
    full: bool = False
    """Whether a terminal shows long texts in full."""
    json: bool = False
    """Whether to print a JSON line for each text and method, instead of text for people."""
    flip: bool = False
    """Whether to look for a smallest set of words without which the answer is another."""


def print_explanations(
    classifier: Classifier,
    groups: Iterable[Sequence[str]],
    questions: Sequence[Question],
    display: Display,
    golds: Sequence[Sequence[str]] = (),
) -> None:
    """Prints explanations as the groups come; then, for people, how far the methods can be trusted.

    Args:
        questions: each is asked about every text.
        golds: the true labels of each text, where known.
    """
    from textattn.explain.explanations import AnsweredTexts
    from textattn.explain.stored_audit import trust

    multi_label = classifier.config.multi_label
    questions = [question.of(classifier) for question in questions]
    trusted = {method: trust(classifier, method) for question in questions if (method := question.method)}
    shown = 0
    for texts in groups:
        answered = AnsweredTexts.of(classifier, texts)
        by_method = [answered.explain(question) for question in questions]
        flips = _flips(answered) if display.flip else [None] * len(texts)
        for flip, explanations in zip(flips, zip(*by_method, strict=True), strict=True):
            gold = golds[shown] if golds else None
            for explanation in explanations:
                if display.json:
                    value = explanation_as_json(explanation, multi_label, trusted[explanation.method])
                    value |= _heads_as_json(explanation, classifier)
                    if gold is not None:
                        value["gold"] = list(gold) if multi_label else gold[0]
                    if display.flip:
                        value["flip"] = _flip_as_json(flip)
                    out_json(value)
                else:
                    if shown or explanation is not explanations[0]:
                        out_lines("\n" + "-" * min(_terminal().width, RULE) + "\n")
                    print_explanation(explanation, display, multi_label, gold)
            if display.flip and not display.json:
                _print_flip(flip, multi_label)
            shown += 1
        flush()
    if not display.json and shown:
        out("")
        for verdict in filter(None, trusted.values()):
            _print_wrapped(f"Trust: {verdict}")
        if not any(trusted.values()):
            import shlex

            out("Trust: not measured for this model; to measure it:")
            out(f"  textattn audit --model {shlex.quote(str(classifier.path))}")


def _flips(answered: AnsweredTexts) -> list[Flip | None]:
    if any(prediction.is_number for prediction in answered.predictions):
        raise ConfigError(
            "the model predicts a number, and there is no other label that it could give",
            "leave it out",
            setting=Option("flip"),
        )
    from textattn.explain.flips import find_flip_of

    return [find_flip_of(answered, row) for row in range(len(answered.texts))]


def _heads_as_json(explanation: Explanation, classifier: Classifier) -> dict[str, Any]:
    """The weights of each head, for `attention` of a model with several; only PyTorch tells them apart."""
    several = classifier.config.architecture["num_heads"] > 1
    if explanation.method != "attention" or not several or not classifier.files.has(WEIGHTS):
        return {}
    from textattn.explain.trace import trace

    heads = trace(classifier, explanation.text).head_weights
    return {} if heads is None or len(heads) < 2 else {"head_weights": heads.astype(float).tolist()}


def _flip_as_json(flip: Flip | None) -> dict[str, Any] | None:
    if flip is None:
        return None
    return {
        "words": words_as_json(flip.words),
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
    given = ", ".join(answer.labels) or "none" if multi_label else f"{answer.label} ({answer.shown_score})"
    words = ", ".join(repr(word.text) for word in flip.words)
    claim = "no smaller set does that" if flip.is_smallest else "none of these can be spared; a smaller set may exist"
    _print_wrapped(f"flip: without {words} the answer is {given}; {claim}")


def print_explanation(
    explanation: Explanation, display: Display, multi_label: bool, gold: Sequence[str] | None
) -> None:
    """On a terminal wrapped at words, long texts folded; in a pipe the text is passed on as it is."""
    from textattn.explain.terminal import PALETTE, PALETTE_16, View, render

    terminal = _terminal()
    folded = terminal.is_person and not display.full
    few = terminal.console is not None and terminal.console.color_system == "standard"
    palette = PALETTE_16 if few else PALETTE
    view = View(display.words, terminal.width, terminal.color, multi_label, folded, palette)
    for number, line in enumerate(render(explanation, view, gold)):
        if terminal.console is not None:
            from rich.text import Text

            # The text comes first and has lines of its own; a label in the others has none.
            pieces = [(visible(one_line(piece) if number else piece), style) for piece, style in line]
            terminal.console.print(Text.assemble(*pieces), soft_wrap=not terminal.is_person)
        else:
            out("".join(piece for piece, _ in line))


def _print_wrapped(text: str) -> None:
    """A sentence, wrapped for a person, one line for a program."""
    terminal = _terminal()
    if terminal.is_person:
        import textwrap

        text = textwrap.fill(visible(text), terminal.width)
    out_lines(text)


class _Terminal(NamedTuple):
    """Where the output goes."""

    is_person: bool
    """Whether it is a terminal, and not a pipe or a file."""
    width: int
    color: bool
    console: Console | None
    """Where a terminal or colour needs rich."""


def _terminal() -> _Terminal:
    import shutil

    is_person = sys.stdout.isatty()
    color = use_color(sys.stdout)
    if not color and not is_person:
        return _Terminal(False, shutil.get_terminal_size().columns, False, None)
    # Only a terminal needs rich.
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False, no_color=not color, force_terminal=color or None)
    color = color and console.color_system is not None
    return _Terminal(is_person, console.width, color, console if color or is_person else None)
