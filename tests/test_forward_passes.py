"""A text is tokenised once and answered once, however many questions are asked about the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from explain_models import TEXTS, build, ids_of, same, split_of

from textattn.api import Model
from textattn.errors import InputError
from textattn.explain.audit import audit
from textattn.explain.explanations import AnsweredTexts, Question
from textattn.explain.flips import find_flip_of
from textattn.explain.methods import audited_names, find_method, method_names
from textattn.explain.methods._base import Need
from textattn.tokens.tokenizer import TextTokenizer

TEXT = TEXTS[0]


class Watched:
    """How often the texts were tokenised, and which token ids the session ran."""

    def __init__(self) -> None:
        self.tokenised: list[str] = []
        self.rows: list[list[int]] = []

    def times(self, ids: list[int]) -> int:
        return self.rows.count(ids)


@contextmanager
def watching(classifier: Model) -> Iterator[Watched]:
    """The real tokenizer and session, watched."""
    watched = Watched()

    def tokenizing(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(texts: Any) -> Any:
            texts = list(texts)
            watched.tokenised.extend(texts)
            return original(texts)

        return call

    run = classifier.session.run

    def running(input_ids: Any, attention_mask: Any, **options: Any) -> Any:
        for ids, mask in zip(input_ids, attention_mask, strict=True):
            watched.rows.append(ids[mask.astype(bool)].tolist())
        return run(input_ids, attention_mask, **options)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("encode", "encode_with_offsets"):
            patch.setattr(classifier.tokenizer, name, tokenizing(getattr(classifier.tokenizer, name)))
        patch.setattr(classifier.session, "run", running)
        yield watched


@pytest.mark.parametrize("method", method_names())
def test_one_explanation(method: str) -> None:
    classifier = build()
    ids = ids_of(classifier, TEXT)
    with watching(classifier) as watched:
        classifier.explain(TEXT, method=method)
    assert watched.tokenised == [TEXT]
    if method in audited_names():
        assert watched.times(ids) == 1
    if method == "attention" or Need.TORCH in find_method(method).needs:
        # Gradients run the torch model itself; the session is for the answer.
        assert watched.rows == [ids]


def test_many_questions_about_several_texts() -> None:
    classifier = build()
    with watching(classifier) as watched:
        answered = AnsweredTexts.of(classifier, TEXTS[:3])
        for method in audited_names():
            answered.explain(Question(method))
        flips = [find_flip_of(answered, row) for row in range(3)]
    assert watched.tokenised == TEXTS[:3]
    for text in TEXTS[:3]:
        assert watched.times(ids_of(classifier, text)) == 1
    for text, flip in zip(TEXTS, flips, strict=False):
        alone = classifier.flip(text)
        assert (flip is None) == (alone is None)
        if flip is not None and alone is not None:
            assert [word.text for word in flip.words] == [word.text for word in alone.words]
            same([word.weight for word in flip.words], [word.weight for word in alone.words])


@pytest.mark.parametrize("evidence", [False, True])
def test_an_audit(evidence: bool) -> None:
    """Of texts with several words, which no other text becomes when words are erased."""
    classifier = build()
    texts = [TEXTS[0], TEXTS[2], TEXTS[4]]
    marks = [np.array([[0, 3]])] * 3 if evidence else None
    with watching(classifier) as watched:
        audit(classifier, split_of(texts, evidence=marks))
    assert watched.tokenised == texts
    for text in texts:
        assert watched.times(ids_of(classifier, text)) == 1


def test_a_tokenizer_with_an_id_beyond_its_vocabulary_is_refused() -> None:
    """By explain as by predict: the embedding has no row for it."""
    classifier = build()
    value = json.loads(classifier.tokenizer.backend.to_str())
    value["model"]["vocab"]["good"] = 1_000
    files = classifier.tokenizer.to_files() | {"tokenizer.json": json.dumps(value)}
    content = {name: text.encode() for name, text in files.items()}
    classifier.tokenizer = TextTokenizer.from_files(content["tokenizer.json"], content["tokenizer_config.json"], "run")
    for ask in (classifier.predict, classifier.explain, classifier.flip):
        with pytest.raises(InputError, match=r"run/tokenizer.json: damaged \(token 1000 of"):
            ask("good")
