"""LIME and KernelSHAP, by Captum: a linear model fitted to the answers on random subsets of the words.

For comparison: they are slow, and know nothing of the model but its answers. They run through the session of the
classifier, and twice the same on the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textattn.explain.erasure import rows_of
from textattn.explain.targets import Targets
from textattn.inference.classifier import Classifier
from textattn.tokens.token_arrays import TokenArrays

if TYPE_CHECKING:
    from torch import Tensor

# Subsets tried: some for each word, and in all no more than MOST_SAMPLES.
SAMPLES_PER_WORD = 4
LEAST_SAMPLES = 256
MOST_SAMPLES = 2048
SUBSETS_AT_ONCE = 64
# LIME: how fast the weight of a subset falls with its cosine distance from the whole text (lime_text's 25 of 100).
KERNEL_WIDTH = 0.25


def lime(
    classifier: Classifier,
    tokens: TokenArrays,
    targets: Targets,
    words: Sequence[NDArray[np.int64]],
    seed: int = 0,
    on_row: Callable[[int], None] | None = None,
) -> list[NDArray[np.float64]]:
    """LIME (Ribeiro et al. 2016): ridge regression on subsets of words, near ones weigh more; (words,) a text."""
    import torch
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr import Lime

    def similarity(_: Tensor, __: Tensor, subset: Tensor, **___: Any) -> Tensor:
        cosine = subset.float().mean().sqrt()  # of the subset with the vector of ones
        return torch.exp(-((1 - cosine) ** 2) / KERNEL_WIDTH**2)

    def build(forward: Callable[[Tensor], Tensor]) -> Any:
        return Lime(forward, interpretable_model=SkLearnRidge(alpha=1.0), similarity_func=similarity)

    return _fit(build, classifier, tokens, targets, words, seed, on_row)


def kernel_shap(
    classifier: Classifier,
    tokens: TokenArrays,
    targets: Targets,
    words: Sequence[NDArray[np.int64]],
    seed: int = 0,
    on_row: Callable[[int], None] | None = None,
) -> list[NDArray[np.float64]]:
    """KernelSHAP (Lundberg & Lee 2017): Shapley values of the words, estimated; (words,) a text."""
    from captum.attr import KernelShap

    return _fit(KernelShap, classifier, tokens, targets, words, seed, on_row)


def num_samples(num_words: int) -> int:
    """Subsets tried for a text of so many words."""
    return min(max(SAMPLES_PER_WORD * num_words, LEAST_SAMPLES), MOST_SAMPLES)


def _fit(
    build: Callable[[Callable[[Tensor], Tensor]], Any],
    classifier: Classifier,
    tokens: TokenArrays,
    targets: Targets,
    words: Sequence[NDArray[np.int64]],
    seed: int,
    on_row: Callable[[int], None] | None,
) -> list[NDArray[np.float64]]:
    import torch

    scores = []
    for row, (ids, word_of) in enumerate(zip(rows_of(tokens), words, strict=True)):
        target = targets.take([row])
        num_words = int(word_of.max()) + 1

        def forward(subsets: Tensor, target: Targets = target) -> Tensor:
            input_ids = subsets.numpy().astype(np.int64)
            logits = classifier.session.run(input_ids, np.ones_like(input_ids)).logits
            return torch.from_numpy(target.take([0] * len(logits)).log_odds(logits))

        if num_words == 1:
            # Nothing to regress on: the word is what the text says more than an unknown word.
            unknown = np.full((1, len(ids)), classifier.tokenizer.unk_id)
            both = torch.from_numpy(np.concatenate([ids[None, :].astype(np.int64), unknown]))
            whole, without = forward(both).tolist()
            scores.append(np.array([whole - without]))
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                given = build(forward).attribute(
                    torch.from_numpy(ids[None, :].astype(np.int64)),
                    baselines=classifier.tokenizer.unk_id,
                    feature_mask=torch.from_numpy(word_of[None, :]),
                    n_samples=num_samples(num_words),
                    perturbations_per_eval=SUBSETS_AT_ONCE,
                    return_input_shape=False,
                )
            scores.append(given[0].double().numpy())
        if on_row is not None:
            on_row(row + 1)
    return scores
