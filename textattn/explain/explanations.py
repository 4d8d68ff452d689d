"""Why a model answered as it did: each word of a text with how much it counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from textattn.errors import ConfigError, InputError, Option, shell_command
from textattn.explain.erasure import pack
from textattn.explain.forward_pass import ForwardPass
from textattn.explain.methods import default_method, find_method, is_signed
from textattn.explain.targets import Targets
from textattn.explain.windows import Window, windows_of
from textattn.inference.classifier import RUNTIMES, Classifier, Prediction, Text
from textattn.inference.words import Word, WordSpans, find_words
from textattn.storage.run_dir import WEIGHTS
from textattn.tasks import Ordinal
from textattn.tasks.ordinal import Steps
from textattn.tokens.tokenizer import TokenizedText


@dataclass(frozen=True)
class Sum:
    """How contributions add up to the answer. All numbers are in nats, before calibration; of a model that predicts
    numbers they are in the unit of the data, and `answer` is the prediction before it is limited to the range of the
    training split."""

    bias: float
    """What does not depend on the text."""
    words: float
    """Of all tokens through the attention."""
    ngrams: float | None
    """Of all tokens through n-grams; None for a model without n-grams."""
    answer: float
    """The sum: see `Task.directions` for what it is of several labels."""
    temperature: float
    """Calibration divides the logits by it. Where the answer is log-odds, `answer / temperature` is the log-odds of the
    probabilities."""
    is_log_odds: bool
    """Whether `answer` is the log-odds of the label, rather than the other label if there is one. If not, the label is
    one of more than two, and `answer` is its logit less the mean of the others; or it is a grade, with `steps`."""
    steps: Steps | None = None
    """Of a grade whose `answer` is not its log-odds: the steps that `answer` is the mean log-odds of. `up`: each step
    up to the grade, or to it from the lower grade it is explained against; `up and stop`: those, and that there is no
    step beyond; `none up`: that there is no step from it up to the higher grade it is explained against. None for
    others."""


@dataclass(frozen=True)
class Explanation:
    """The answer for one text, and how much each token and word counted for it."""

    text: str
    prediction: Prediction
    target: str
    """The label that is explained."""
    against: str | None
    """The label it is explained against; None: all others."""
    method: str
    tokens: list[str]
    offsets: list[tuple[int, int]]
    """Characters of `text`, half-open, for each token."""
    weights: list[float]
    """For each token. Attention: shares that sum to 1; else for the target (positive) or against it (negative)."""
    attention_weights: list[float]
    """For each token its share of the attention, whatever the method; they sum to 1."""
    words: list[Word]
    """Words of the text, each with the sum of its tokens' weights."""
    word_attention: list[float]
    """For each of `words` its share of the attention."""
    truncated: bool
    """Whether part of the text was not read."""
    completeness_error: float | None = None
    """Integrated gradients: how far the sum of the weights is from the change they stand for, as a share of it."""
    contributions: dict[str, list[float]] | None = None
    """Only of the method `contributions`: for each label what each token adds to its logit."""
    total: Sum | None = None
    """Only of the method `contributions`: what the weights add up to, with the bias."""
    windows: list[Window] | None = None
    """Only of models that read window by window (`model.document: windows`): their windows, in order."""

    @property
    def signed(self) -> bool:
        """Whether weights are for the target or against it."""
        return is_signed(self.method)

    @property
    def shows_attention(self) -> bool:
        """Whether the attention to each word is shown beside its contribution. Not where the attention counts for
        nothing: the model is linear alone (`model.linear: only`), or its network adds nothing to the linear part."""
        return self.total is not None and (self.total.ngrams is None or self.total.words != 0)

    def _repr_html_(self) -> str:
        from textattn.explain.notebook import explanation_html

        return explanation_html(self)


@dataclass(frozen=True)
class Question:
    """What to explain about the answers to some texts."""

    method: str | None = None
    """A name of `textattn.explain.methods`; None: the default of the model."""
    target: str | None = None
    """The label to explain; None: the predicted one, of each text."""
    against: str | None = None
    """Explain the target rather than this label; None: rather than all others."""
    seed: int = 0
    """Of methods that draw random numbers."""

    def of(self, classifier: Classifier) -> Question:
        """The same question with the method that is used for this model."""
        return self if self.method is not None else replace(self, method=default_method(classifier))

    def check_method(self) -> None:
        """Raises ConfigError for an unknown method, or for a label that the method does not depend on."""
        if self.method is not None and not find_method(self.method).signed and (self.target or self.against):
            raise ConfigError(
                f"{self.method} is the same for every label, so it cannot explain one",
                Option("method", "contributions"),
                setting=Option("contrast" if self.against else "target"),
            )

    def check(self, labels: Sequence[str]) -> None:
        """Raises ConfigError as `check_method`, and for an unknown label or a label explained against itself."""
        self.check_method()
        if self.against is not None and len(labels) == 1:
            raise ConfigError(
                f"the model predicts a number, {labels[0]}, which has nothing to be explained against",
                "leave it out",
                setting=Option("contrast"),
            )
        for name in (self.target, self.against):
            if name is not None and name not in labels:
                raise ConfigError(f"unknown label {name!r}; labels are: {', '.join(labels)}")
        if self.against is not None and self.target == self.against:
            raise ConfigError(f"a label cannot be explained against itself: {self.target!r}")


@dataclass(frozen=True)
class AnsweredTexts:
    """Texts that were tokenised and answered once, for all that is then asked about them."""

    texts: Sequence[str]
    tokenized: Sequence[TokenizedText]
    spans: Sequence[WordSpans]
    forward: ForwardPass
    predictions: Sequence[Prediction]

    @classmethod
    def of(cls, classifier: Classifier, texts: Text | Iterable[Text]) -> AnsweredTexts:
        """Tokenises texts and runs the model on them.

        Raises:
            ConfigError: a text has the wrong number of segments.
        """
        texts = classifier.normalise(texts)
        tokenized = classifier.tokenizer.encode_with_offsets(texts)
        spans = [find_words(text, row) for text, row in zip(texts, tokenized, strict=True)]
        tokens = pack([np.array(row.input_ids, np.int32) for row in tokenized])
        forward = ForwardPass.run(classifier, tokens, [span.word_of for span in spans])
        probs = classifier.logits_to_probabilities(forward.logits)
        return cls(texts, tokenized, spans, forward, [classifier.prediction(row) for row in probs])

    def explain(self, question: Question) -> list[Explanation]:
        """An explanation for each text.

        Raises:
            ConfigError: unknown method or label, the method does not apply to this model, or the label explained,
                which may be the predicted one, is `question.against`.
            InputError: the method needs PyTorch weights and the model has none, or they are damaged.
        """
        classifier, labels = self.forward.classifier, self.forward.classifier.labels
        question = question.of(classifier)
        question.check(labels)
        assert question.method is not None
        against = question.against
        explained = [question.target or prediction.label for prediction in self.predictions]
        if against in explained:
            raise ConfigError(
                f"the answer is {against!r} itself, which cannot be explained against {against!r}",
                shell_command("--contrast {} {}", next(label for label in labels if label != against), against),
            )
        targets = Targets(
            np.array([labels.index(name) for name in explained], np.int64),
            classifier.task,
            None if against is None else labels.index(against),
        )
        method = find_method(question.method)
        method.check_model(classifier)
        given = method.attribute(self.forward, targets, seed=question.seed)
        if not all(np.isfinite(scores).all() for scores in given.scores):
            file = WEIGHTS if classifier.files.has(WEIGHTS) else RUNTIMES[classifier.runtime]
            raise InputError(
                f"damaged (its scores by {question.method} are not finite numbers)", place=classifier.files.where(file)
            )
        errors = given.completeness_error
        size = classifier.config.architecture.get("window_size", 0)
        by_label, sums = self._divided(targets) if question.method == "contributions" else (None, None)
        return [
            Explanation(
                text=text,
                prediction=prediction,
                target=name,
                against=against,
                method=question.method,
                tokens=row.tokens,
                offsets=row.offsets,
                weights=[float(weight) for weight in scores],
                attention_weights=[float(weight) for weight in attention],
                words=span.words(text, scores.tolist()),
                word_attention=[word.weight for word in span.words(text, attention.tolist())],
                truncated=row.truncated,
                completeness_error=None if errors is None else float(errors[number]),
                contributions=None if by_label is None else by_label[number],
                total=None if sums is None else sums[number],
                windows=windows_of(size, row.offsets, scores.tolist(), attention.tolist()) if size else None,
            )
            for number, (text, prediction, name, row, span, scores, attention) in enumerate(
                zip(
                    self.texts, self.predictions, explained, self.tokenized, self.spans, given.scores,
                    self.forward.attention_weights, strict=True,
                )
            )
        ]  # fmt: skip

    def _divided(self, targets: Targets) -> tuple[list[dict[str, list[float]]], list[Sum]]:
        """The contributions of each text to every label, and the sums of those to the target."""
        classifier, logits = self.forward.classifier, self.forward.logits.astype(np.float64)
        num_outputs = logits.shape[1]
        parts = self.forward.contributions
        # One output is the logit of the second of two labels; those of grades are questions between them.
        each = targets.task.directions(np.arange(len(classifier.labels)), None)
        is_log_odds = num_outputs <= 2 or targets.against is not None or targets.task.output == "sigmoid"
        if targets.task.output == "number":
            is_log_odds = False
        by_label, sums = [], []
        for row, direction in enumerate(targets.directions()):
            total = parts.total[row].astype(np.float64)  # (tokens, num_outputs)
            ngrams = None if parts.ngrams is None else float((parts.ngrams[row].astype(np.float64) @ direction).sum())
            everything, answer = float((total @ direction).sum()), float(logits[row] @ direction) + targets.task.offset
            words = everything - (ngrams or 0.0)
            temperature = classifier.config.temperature
            steps = None
            if isinstance(targets.task, Ordinal):
                steps = targets.task.steps(int(targets.labels[row]), targets.against)
                is_log_odds = steps is None
            sums.append(Sum(answer - everything, words, ngrams, answer, temperature, is_log_odds, steps))
            # The output of a number is in standard deviations, and its contributions are in the unit of the data.
            is_own = num_outputs == len(classifier.labels) and targets.task.target is None
            columns = total if is_own else total @ each.T
            by_label.append(dict(zip(classifier.labels, columns.T.tolist(), strict=True)))
        return by_label, sums


def explain_texts(
    classifier: Classifier,
    texts: Text | Iterable[Text],
    method: str | None = None,
    target: str | None = None,
    against: str | None = None,
    seed: int = 0,
) -> list[Explanation]:
    """Explanations of texts by one method, see `Question` and `AnsweredTexts.explain`."""
    question = Question(method, target, against, seed)
    question.check(classifier.labels)
    return AnsweredTexts.of(classifier, texts).explain(question)
