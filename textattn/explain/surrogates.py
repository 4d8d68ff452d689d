"""What LIME and KernelSHAP share: a linear model fitted, by Captum, to the answers on random subsets of the words.

Both are here for comparison: they are slow, and know nothing of the model but its answers. They run the classifier's
own session, and give the same scores for the same text and seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textattn.explain.forward_pass import ForwardPass
from textattn.explain.targets import Targets

if TYPE_CHECKING:
    from torch import Tensor

# Subsets drawn for a text: this many for each word, but at least and at most so many in all.
SAMPLES_PER_WORD = 4
LEAST_SAMPLES = 256
MOST_SAMPLES = 2048
# Subsets in one batch.
SUBSETS_AT_ONCE = 64


def num_samples(num_words: int) -> int:
    """The number of subsets drawn for a text of `num_words` words."""
    return min(max(SAMPLES_PER_WORD * num_words, LEAST_SAMPLES), MOST_SAMPLES)


def sampling_cost(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of tokens that run through the model for each text, (rows,), as if each token were a word."""
    return np.array([num_samples(int(length)) * int(length) for length in lengths], np.int64)


def fit(
    build: Callable[[Callable[[Tensor], Tensor]], Any],
    forward: ForwardPass,
    targets: Targets,
    seed: int,
    on_row: Callable[[int], None] | None,
) -> list[NDArray[np.float64]]:
    """Fits a linear model to each text and returns its coefficients, (words,) for each text.

    Args:
        build: makes Captum's method from a function that gives the log-odds, (subsets,), of token ids, (subsets, seq).
        seed: of the subsets.
        on_row: called with the number of texts done.
    """
    import torch

    unk_id, session = forward.classifier.tokenizer.unk_id, forward.classifier.session
    scores = []
    for row, (ids, word_of) in enumerate(zip(forward.ids, forward.words, strict=True)):
        target = targets.take([row])
        num_words = int(word_of.max()) + 1

        def answers(subsets: Tensor, target: Targets = target) -> Tensor:
            input_ids = subsets.numpy().astype(np.int64)
            logits = session.run(input_ids, np.ones_like(input_ids)).logits
            return torch.from_numpy(target.take([0] * len(logits)).log_odds(logits))

        if num_words == 1:
            # One word leaves nothing to regress on: its score is the change when unknown tokens stand in its place.
            unknown = np.full((1, len(ids)), unk_id)
            both = torch.from_numpy(np.concatenate([ids[None, :].astype(np.int64), unknown]))
            whole, without = answers(both).tolist()
            scores.append(np.array([whole - without]))
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                given = build(answers).attribute(
                    torch.from_numpy(ids[None, :].astype(np.int64)),
                    baselines=unk_id,
                    feature_mask=torch.from_numpy(word_of[None, :]),
                    n_samples=num_samples(num_words),
                    perturbations_per_eval=SUBSETS_AT_ONCE,
                    return_input_shape=False,
                )
            scores.append(given[0].double().numpy())
        if on_row is not None:
            on_row(row + 1)
    return scores
