"""Whether explanations stay the same when the embeddings move a little (Hu et al. 2023, "SEAT: Stable and Explainable
Attention"). In PyTorch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textattn.explain.gradients import MAX_TOKENS
from textattn.inference.classifier import Classifier
from textattn.model.attention import WeightedPooling
from textattn.tokens.batches import collate, sorted_batches
from textattn.tokens.token_arrays import TokenArrays

# Standard deviation of the noise in each number of an embedding, as a share of the root mean square of the text's.
RELATIVE_SIZE = 0.1
DRAWS = 3

Scores = list[NDArray[np.float64]]


class Noisy(NamedTuple):
    """Texts with and without noise: the texts as they are, then once for each draw."""

    probs: list[NDArray[np.float64]]
    """(rows, labels) for each of them"""
    scores: dict[str, list[Scores]]
    """By method, for each of them (tokens,) scores of each text; methods that the model does not have are missing."""


def run_with_noise(classifier: Classifier, tokens: TokenArrays, directions: NDArray[np.float64], seed: int) -> Noisy:
    """Runs texts as they are and with Gaussian noise in their embeddings, `DRAWS` times.

    Args:
        directions: (rows, num_outputs) what contributions are multiplied with; see `Task.directions`.
        seed: of the noise, which depends on nothing else but the number of the text and of the draw.
    """
    session = classifier.torch_session
    model = session.model
    names = ["attention"] if isinstance(model.attention, WeightedPooling) else []
    names += ["contributions"] if model.attention.additive else []
    logits: list[dict[int, NDArray[np.float32]]] = [{} for _ in range(1 + DRAWS)]
    scores: dict[str, list[dict[int, NDArray[np.float64]]]] = {name: [{} for _ in logits] for name in names}
    for rows in sorted_batches(tokens.lengths, MAX_TOKENS):
        input_ids, mask = (
            torch.from_numpy(array).to(session.device) for array in collate(tokens, rows, classifier.tokenizer.pad_id)
        )
        wanted = torch.from_numpy(directions[rows]).to(session.device)
        with torch.inference_mode():
            embeddings = model.embedding(input_ids)
            ngram_logits = model.ngram_contributions(input_ids, mask).sum(1)
        for draw in range(1 + DRAWS):
            moved = embeddings if draw == 0 else embeddings + _noise(embeddings, mask, rows, [seed, draw])
            found = {}
            with torch.inference_mode():
                output = model.forward_from_embeddings(moved, mask, ngram_logits)
                if "contributions" in names:
                    parts = model.contributions(output, input_ids, mask).total.double()
                    found["contributions"] = torch.einsum("bso,bo->bs", parts, wanted)
            if "attention" in names:
                found["attention"] = output.attention_weights.double()
            for place, (row, length) in enumerate(zip(rows.tolist(), tokens.lengths[rows].tolist(), strict=True)):
                logits[draw][row] = output.logits[place].float().cpu().numpy()
                for name, values in found.items():
                    scores[name][draw][row] = values[place, :length].cpu().numpy()
    order = range(len(tokens))
    return Noisy(
        [classifier.logits_to_probabilities(np.stack([of[row] for row in order])) for of in logits],
        {name: [[of[row] for row in order] for of in draws] for name, draws in scores.items()},
    )


def _noise(embeddings: Tensor, mask: Tensor, rows: NDArray[np.int64], seed: list[int]) -> Tensor:
    """(batch, seq, embedding_dim); 0 on padding."""
    noise = torch.zeros_like(embeddings)
    lengths = mask.sum(1).tolist()
    for place, (row, length) in enumerate(zip(rows.tolist(), lengths, strict=True)):
        drawn = np.random.default_rng([*seed, row]).standard_normal((length, embeddings.shape[2]))
        size = embeddings[place, :length].square().mean().sqrt()
        noise[place, :length] = RELATIVE_SIZE * size * torch.from_numpy(drawn).to(noise)
    return noise
