"""The weights of a trained model with more words and more outputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textattn.model.classifier import TextClassifier


def load_grown(
    model: TextClassifier,
    trained: Mapping[str, Tensor],
    outputs: NDArray[np.float64],
    bias: NDArray[np.float64],
    *,
    with_ngrams: bool = True,
) -> None:
    """Load the weights of a trained model into one with more words or other outputs.

    A new word starts as the unknown token, as which the trained model saw it: its answers do not change. An output
    starts as a weighted sum of the outputs of the trained model.

    Args:
        model: has the same architecture, except for `vocab_size` and `num_outputs`. It is changed.
        trained: the state of the trained model.
        outputs: (num_outputs, trained num_outputs) the weights of the sums.
        bias: (num_outputs,) is added to the logits.
        with_ngrams: False leaves the linear part of the model as it is.
    """
    weights = dict(trained)
    words = weights["embedding.weight"]
    new = model.architecture.vocab_size - len(words)
    weights["embedding.weight"] = torch.cat([words, words[model.architecture.unk_id].repeat(new, 1)])
    mix = torch.from_numpy(outputs)

    def mixed(rows: Tensor) -> Tensor:
        """(trained num_outputs, …) -> (num_outputs, …)."""
        return (mix @ rows.double()).to(rows.dtype)

    weights["classifier.weight"] = mixed(weights["classifier.weight"])
    weights["classifier.bias"] = mixed(weights["classifier.bias"]) + torch.from_numpy(bias).float()
    if not with_ngrams:
        weights |= {name: tensor for name, tensor in model.state_dict().items() if name.startswith("ngrams.")}
    elif "ngrams.weights.weight" in weights:
        weights["ngrams.weights.weight"] = mixed(weights["ngrams.weights.weight"].T).T.contiguous()
    model.load_state_dict(weights)
