"""Predictions as they are printed. Light to import."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textattn.cli.console import flush, note, out, out_json, waiting
from textattn.data.segments import is_blank
from textattn.errors import InputError
from textattn.inference.as_json import answer_as_json, top_scores
from textattn.inference.visible import MOSTLY, UNSURE, one_line

if TYPE_CHECKING:
    from textattn.inference.classifier import Classifier


def open_model(model: str | None, device: str = "cpu", runtime: str | None = None) -> Classifier:
    """The model of --model; if none is named and there are several, a note says which one it is."""
    with waiting("Loading the model …"):
        import textattn
        from textattn.storage.find_model import finished_runs, given_name

        runs = [] if given_name(model) else finished_runs()
        classifier = textattn.load(runs[0] if runs else model, device, runtime)
    if len(runs) > 1:
        note(f"The model is {runs[0]}, the newest of {len(runs):,} finished runs", "Note")
    return classifier


def check_arguments(texts: Sequence[str], *, skip: bool = False) -> None:
    """Refuses a text that is none; cheap, so that it can come before the model is loaded.

    Args:
        skip: leave one that is empty to `print_predictions`.

    Raises:
        InputError: it is not UTF-8, or empty.
    """
    for number, text in enumerate(texts, 1):
        # Python hands over undecodable bytes of the command line as lone surrogates.
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(f"text {number} of the command line is not UTF-8")
        if is_blank(text) and not skip:
            raise InputError(f"text {number} of the command line is empty; expected a text")


def print_predictions(
    classifier: Classifier,
    groups: Iterable[Sequence[str]],
    *,
    top_k: int = 1,
    min_score: float = 0.0,
    json: bool = False,
) -> None:
    """A line a text, as the groups come; an empty text has no answer: `?` without a score."""
    multi_label = classifier.config.multi_label
    counts = Counts()
    for texts in groups:
        given = [text for text in texts if not is_blank(text)]
        tokens = classifier.tokenizer.encode(classifier.normalise(given))
        counts.total += len(given)
        counts.truncated += tokens.num_truncated
        answers = iter(classifier.predictions(given, tokens, classifier.probabilities(tokens), min_score))
        for text in texts:
            if is_blank(text):
                if json:
                    out_json({"label": None, "score": None, "text": text})
                else:
                    out(f"{UNSURE}\t")
                continue
            prediction = next(answers)
            is_unsure = prediction.is_unsure(min_score)
            counts.unsure += is_unsure
            counts.unreadable += not prediction.is_readable
            counts.unknown += prediction.unknown > MOSTLY
            if json:
                out_json(answer_as_json(prediction, text, multi_label=multi_label, top_k=top_k, min_score=min_score))
            elif top_k == 1:
                out(prediction.line(min_score))
            else:
                out("\t".join(f"{one_line(label)}\t{score:.4f}" for label, score in top_scores(prediction, top_k)))
        flush()
    counts.note(classifier, min_score)


@dataclass
class Counts:
    """How many texts were answered, and how many of them in another way than the user may expect."""

    total: int = 0
    truncated: int = 0
    unsure: int = 0
    unreadable: int = 0
    unknown: int = 0

    def note(self, classifier: Classifier, min_score: float) -> None:
        """Says it on stderr."""
        tokenizer, of_all = classifier.tokenizer, f"of {self.total:,} texts"
        if self.truncated:
            kept = f"the {tokenizer.max_length} tokens that are read ({tokenizer.truncation})"
            note(f"{self.truncated:,} {of_all} are longer than {kept}", "Note")
        if self.unreadable:
            kind = "label" if classifier.config.target is None else "number"
            note(f"{self.unreadable:,} {of_all} got no {kind}: they are no chemical formulas", "Note")
        if self.unknown:
            words = "elements and numbers" if tokenizer.reads_formulas else "words"
            note(f"{self.unknown:,} {of_all} consist mostly of {words} that the model has never seen", "Note")
        if self.unsure:
            note(f"{self.unsure:,} {of_all} got no label: the most probable one has less than {min_score:g}", "Note")
