"""One way into all methods: from tokens and a target to a score for every token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from textattn.errors import ConfigError
from textattn.explain.erasure import occlusion
from textattn.explain.targets import Targets
from textattn.inference.classifier import Classifier
from textattn.inference.session import run_in_batches
from textattn.tokens.token_arrays import TokenArrays

# Name -> what its scores say.
METHODS = {
    "attention": "share of the attention",
    "attention_x_gradient": "attention times the gradient of the log-odds",
    "gradient_x_input": "embedding times the gradient of the log-odds",
    "integrated_gradients": "share in the log-odds (integrated gradients)",
    "occlusion": "fall of the log-odds without the word",
    "lime": "weight in a linear model of nearby texts (LIME)",
    "kernel_shap": "Shapley value of the log-odds, estimated (KernelSHAP)",
}
# For models with `model.ngrams` only.
NGRAMS = {"ngrams": "what the n-grams it is part of add to the logit (exact)"}
# Scores without a sign that sum to 1 and are the same for every label.
UNSIGNED = ("attention",)
# Those that need PyTorch and model.safetensors.
GRADIENTS = ("attention_x_gradient", "gradient_x_input", "integrated_gradients")


class Attributions(NamedTuple):
    """Scores of many texts."""

    scores: list[NDArray[np.float64]]
    """(tokens,) for each text; a word's score is the sum over its tokens"""
    completeness_error: NDArray[np.float64] | None = None
    """(rows,) integrated gradients only, see `textattn.explain.gradients`"""


def check_method(method: str) -> None:
    """Raises ConfigError where there is no such method."""
    if method not in METHODS | NGRAMS:
        from difflib import get_close_matches

        near = get_close_matches(method, METHODS, n=1)
        raise ConfigError(
            f"unknown method {method!r}; methods are: {', '.join(METHODS)}",
            f"--method {near[0] if near else 'occlusion'}",
        )


def attribute(
    classifier: Classifier,
    tokens: TokenArrays,
    targets: Targets,
    method: str,
    words: Sequence[NDArray[np.int64]] | None = None,
    *,
    seed: int = 0,
    on_row: Callable[[int], None] | None = None,
) -> Attributions:
    """How much each token counted for the target, by one of METHODS.

    Args:
        words: for each text the word of each token, for methods that take away whole words; default: each token is one.
        seed: of LIME and KernelSHAP.
        on_row: called with the number of texts done, by methods that take long.

    Raises:
        ConfigError: there is no such method, or it does not apply to this model.
        InputError: the model has no weights that PyTorch could load.
    """
    check_method(method)
    pad_id, unk_id = classifier.tokenizer.pad_id, classifier.tokenizer.unk_id
    if method == "attention":
        outputs = run_in_batches(classifier.session, tokens, pad_id, with_attention=True)
        return Attributions([weights.astype(np.float64) for weights in outputs.attention_weights])
    if method in GRADIENTS or method in NGRAMS:
        from textattn.explain import gradients

        session = classifier.torch_session
        if method == "integrated_gradients":
            return Attributions(*gradients.integrated_gradients(session, tokens, targets, pad_id, unk_id))
        compute = {
            "gradient_x_input": gradients.gradient_x_input,
            "attention_x_gradient": gradients.attention_x_gradient,
            "ngrams": gradients.ngrams,
        }[method]
        return Attributions(*compute(session, tokens, targets, pad_id))
    words = words or [np.arange(length) for length in tokens.lengths]
    if method == "occlusion":
        by_word = occlusion(classifier, tokens, targets, words, on_row)
    else:
        from textattn.explain import surrogates

        fit = surrogates.lime if method == "lime" else surrogates.kernel_shap
        by_word = fit(classifier, tokens, targets, words, seed, on_row)
    return Attributions([_shared(score, word_of) for score, word_of in zip(by_word, words, strict=True)])


def _shared(scores: NDArray[np.float64], word_of: NDArray[np.int64]) -> NDArray[np.float64]:
    """(words,) -> (tokens,): a word's score in equal parts."""
    return np.asarray((scores / np.bincount(word_of))[word_of])
