"""Texts to try a model with, from the predictions that its run keeps."""

from __future__ import annotations

from textattn.errors import InputError
from textattn.inference.classifier import Classifier
from textattn.storage.run_dir import RunDir

SPLITS = ("test", "validation")
# Texts that fit on a button, more or less, and of which something can be seen.
LEAST, MOST = 20, 300
EXAMPLES = 6
# Texts that are looked at.
ROWS = 2_000


def examples_of(classifier: Classifier) -> list[str]:
    """A few texts of the test or the validation split, of as many labels as possible; none if there are none.

    A damaged file of predictions must not keep a model from answering.
    """
    if classifier.files.is_bundle:
        return []
    run = RunDir(classifier.path)
    split = next((name for name in SPLITS if run.predictions(name).is_file()), None)
    if split is None:
        return []
    # Reading them needs pyarrow.
    from textattn.pages.answers import stored_answers

    try:
        answers = stored_answers(run.path, split)
    except InputError:
        return []
    if answers is None:
        return []
    rows = range(min(len(answers), ROWS))
    has_labels = classifier.config.target is None
    by_label: dict[tuple[str, ...], list[str]] = {}
    for row, text in zip(rows, answers.texts_of(rows), strict=True):
        if LEAST <= len(text) <= MOST:
            labels = answers.names(answers.truth, row) if has_labels else ()
            by_label.setdefault(tuple(labels), []).append(text)
    # In turn from each label.
    groups = list(by_label.values())
    most = max(map(len, groups), default=0)
    return [group[place] for place in range(most) for group in groups if place < len(group)][:EXAMPLES]
