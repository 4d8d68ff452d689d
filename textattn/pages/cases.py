"""Which texts a report shows: the surest errors with their reasons, and some texts of every kind of answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textattn.measure.confident_learning import SUSPICIOUS, confident_disagreements, disagreement_of_surest, has_learned
from textattn.pages.answers import SplitAnswers

if TYPE_CHECKING:
    from textattn.explain.explanations import Explanation
    from textattn.inference.classifier import Classifier

# Errors that are explained, and characters of each that are read: a page is no place for a book.
ERRORS = 50
LONGEST_TEXT = 20_000
# Texts listed for a cell of the confusion matrix, for all cells together, and the characters of each that are shown.
OF_CELL, OF_CELLS, OF_TEXT = 12, 800, 300
# With more labels than this, the cells of a matrix are too small to be read.
MOST_LABELS = 30


@dataclass(frozen=True)
class Case:
    """A text with the answer to it."""

    row: int
    """From 0, in its split."""
    where: str | None
    """Where it stands, such as `tickets.csv:54`."""
    text: str
    gold: list[str]
    given: list[str]
    label: str
    """The label that the score is about: the predicted one, or for multi-label the one that is most wrong."""
    score: float
    """The probability of that label."""
    suspect: bool = False
    """Whether the true label may be wrong itself."""
    explanation: Explanation | None = None


@dataclass(frozen=True)
class Errors:
    """The wrong answers, and the labels that they put in question."""

    count: int
    surest: list[Case]
    """At most `ERRORS`, the surest first."""
    num_suspects: int | None
    """Texts whose label may be wrong; None if the model has learned too little to judge that."""


@dataclass
class Cells:
    """Some texts of each cell: of the confusion matrix by (true, predicted), of several labels by (label, kind).

    Kinds are 0: rightly given, 1: given wrongly, 2: left out.
    """

    cases: dict[tuple[int, int], list[Case]] = field(default_factory=dict)
    counts: dict[tuple[int, int], int] = field(default_factory=dict)
    """How many texts there are in all."""
    opened: tuple[int, int] | None = None
    """The cell whose texts are shown at first: the most frequent confusion."""


def find_errors(answers: SplitAnswers, classifier: Classifier | None) -> Errors:
    """The wrong answers of a split.

    Args:
        answers: the answers to the split.
        classifier: explains the surest errors; None: they are not explained.
    """
    wrong = np.flatnonzero(~answers.right)
    worst, score = _most_wrong(answers, wrong)
    order = np.argsort(-score, kind="stable")[:ERRORS]
    rows = wrong[order]
    suspects = suspect_rows(answers)
    texts = [text[:LONGEST_TEXT] for text in answers.texts_of(rows.tolist())]
    cases = [
        _case(answers, int(row), text, int(worst[i]), suspects is not None and bool(suspects[row]))
        for row, text, i in zip(rows, texts, order, strict=True)
    ]
    if classifier is not None:
        cases = _explained(cases, classifier)
    return Errors(len(wrong), cases, None if suspects is None else int(suspects.sum()))


def _most_wrong(answers: SplitAnswers, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each row the label that is most wrong, and how sure the model is of that: (rows,) each."""
    probs = answers.probs[rows]
    if not answers.multi_label:
        return answers.decided[rows].astype(np.int64), probs.max(axis=1, initial=0.0)
    # Of the labels that are wrongly given or left out, the one whose probability is farthest from the truth.
    wrong = answers.truth[rows] != answers.decided[rows]
    distance = np.where(wrong, np.abs(answers.truth[rows] - probs), -1.0)
    return distance.argmax(axis=1), distance.max(axis=1, initial=0.0)


def suspect_rows(answers: SplitAnswers) -> NDArray[np.bool_] | None:
    """The rows whose labels may be wrong, by confident learning with the answers of the model: (rows,).

    The model has not been trained on these rows. Where nearly all labels agree with its surest answers, no label is in
    question. None if the model has learned too little to judge labels.
    """
    questions = [(answers.truth.astype(np.int64), answers.probs)]
    if answers.multi_label:
        questions = [
            (answers.truth[:, i].astype(np.int64), np.stack([1 - p, p], axis=1)) for i, p in enumerate(answers.probs.T)
        ]
    found = np.zeros(len(answers), np.bool_)
    judged = False
    for truth, probs in questions:
        if not len(truth) or not has_learned(truth, probs):
            continue
        if disagreement_of_surest(truth, probs) >= SUSPICIOUS:
            found |= confident_disagreements(truth, probs) != truth
        judged = True
    return found & ~answers.right if judged else None


def _case(answers: SplitAnswers, row: int, text: str, label: int, suspect: bool = False) -> Case:
    return Case(
        row=row,
        where=answers.where(row),
        text=text,
        gold=answers.names(answers.truth, row),
        given=answers.names(answers.decided, row),
        label=answers.labels[label],
        score=float(answers.probs[row, label]),
        suspect=suspect,
    )


def _explained(cases: Sequence[Case], classifier: Classifier) -> list[Case]:
    """The cases with explanations, of the wrong label rather than the true one where there are more than two."""
    from textattn.explain.explanations import explain_texts
    from textattn.explain.methods import default_method, is_signed

    signed = is_signed(default_method(classifier))
    groups: dict[tuple[str | None, str | None], list[int]] = defaultdict(list)
    for number, case in enumerate(cases):
        question: tuple[str | None, str | None] = (None, None)
        if signed and classifier.config.multi_label:
            question = (case.label, None)
        elif signed and len(classifier.labels) > 2:
            question = (None, case.gold[0])
        groups[question].append(number)
    found = list(cases)
    for (target, against), numbers in groups.items():
        texts = [cases[number].text for number in numbers]
        for number, explanation in zip(numbers, explain_texts(classifier, texts, None, target, against), strict=True):
            found[number] = replace(cases[number], explanation=explanation)
    return found


def find_cells(answers: SplitAnswers) -> Cells:
    """Some texts of each cell: of wrong answers the surest, of right ones the least sure."""
    rows_of = dict(_rows_of_cells(answers))
    most = max(1, min(OF_CELL, OF_CELLS // max(1, len(rows_of))))
    chosen = {cell: rows[:most] for cell, rows in rows_of.items()}
    wanted = np.array([row for rows in chosen.values() for row in rows], np.int64)
    texts = dict(zip(wanted.tolist(), answers.texts_of(wanted.tolist()), strict=True))
    counts = {cell: len(rows) for cell, rows in rows_of.items()}
    wrong = [] if answers.multi_label else [cell for cell in counts if cell[0] != cell[1]]
    cells = Cells(counts=counts, opened=max(wrong, key=lambda cell: counts[cell], default=None))
    for cell, rows in chosen.items():
        label = cell[0] if answers.multi_label else cell[1]
        cells.cases[cell] = [_case(answers, row, _cut(texts[row]), label) for row in rows.tolist()]
    return cells


def _rows_of_cells(answers: SplitAnswers) -> Iterator[tuple[tuple[int, int], NDArray[np.int64]]]:
    """The rows of each cell that is not empty, the most telling first."""
    number = len(answers.labels)
    if not answers.multi_label:
        cells = answers.truth.astype(np.int64) * number + answers.decided
        score = answers.probs.max(axis=1, initial=0.0)
        for cell in np.unique(cells).tolist():
            true, predicted = divmod(cell, number)
            rows = np.flatnonzero(cells == cell)
            sign = 1 if true == predicted else -1
            yield (true, predicted), rows[np.argsort(sign * score[rows], kind="stable")]
        return
    for i in range(number):
        truth, given, probs = answers.truth[:, i] == 1, answers.decided[:, i] == 1, answers.probs[:, i]
        # Texts that rightly lack a label tell nothing of it.
        for kind, chosen, sign in ((0, truth & given, 1), (1, given & ~truth, -1), (2, truth & ~given, 1)):
            rows = np.flatnonzero(chosen)
            if len(rows):
                yield (i, kind), rows[np.argsort(sign * probs[rows], kind="stable")]


def _cut(text: str) -> str:
    return text if len(text) <= OF_TEXT else text[: OF_TEXT - 1] + "…"
