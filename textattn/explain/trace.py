"""One text on its way through the network: every array from token ids to probabilities, for those who want to look.

The arrays are those of the forward pass in PyTorch, without dropout, so that each step can be computed again from the
ones before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textattn.errors import InputError
from textattn.inference.classifier import Classifier, Text
from textattn.inference.session import Floats
from textattn.storage.run_dir import WEIGHTS

# Mechanisms whose tokens attend to one another. They are named here, because asking their classes would import torch.
MAPPED = ("self_attention",)
# Tokens of a text whose map is drawn; nobody reads a larger one.
MOST_MAPPED = 25


@dataclass(frozen=True, eq=False)
class Trace:
    """What the network computes for one text, in the order of the computation. All arrays are numpy's.

    In the shapes, `seq` is the number of tokens, and `heads` is 1 for mechanisms with a single head.

    The pooled vector of a head is `head_weights[h] @ values[h]` (or `values[0]`, if all heads pool the same values),
    and the heads stand side by side in the context. The logits are then

        classifier_weight @ context + classifier_bias + ngram_contributions.sum(0)

    and also `classifier_bias + contributions.sum(0)`. The attention mechanism `mlp` has a further layer between pooling
    and logits, and `max` and `last` pool without weights: for these only the second holds, and not for `mlp`.
    """

    text: str
    tokens: list[str]
    """(seq,)"""
    input_ids: NDArray[np.int64]
    """(seq,) rows of the embedding matrix"""
    embeddings: Floats
    """(seq, embedding_dim)"""
    states: Floats
    """(seq, state_dim) the output of the encoder; without an encoder, the embeddings"""
    scores: Floats | None
    """(heads, seq) the numbers of which softmax (`sigmoid`: the logistic function) makes weights. Computed from
    `states`, or with `model.anchor` from their sum with the projected embeddings. None for mechanisms that do not score
    single tokens: `mean`, `max`, `last`, and `self_attention`, which has `attention_map`."""
    attention_map: Floats | None
    """(heads, seq, seq) only of `self_attention`: how much each token (row) attends to each token (column). Rows sum to
    1, and the mean over the rows is `head_weights`."""
    head_weights: Floats | None
    """(heads, seq) the weights with which each head pools, after `model.attention_window` and
    `model.attention_position`. They sum to 1 for each head, except for `sigmoid`. None for `max` and `last`."""
    values: Floats
    """(heads or 1, seq, dim) what is pooled; 1 if all heads pool the same"""
    classifier_weight: Floats
    """(num_outputs, context_dim) of the last layer"""
    classifier_bias: Floats
    """(num_outputs,) of the last layer"""
    contributions: Floats | None
    """(seq, num_outputs) what each token adds to the logits, with its share in the n-grams; None for `mlp`"""
    ngram_contributions: Floats | None
    """(seq, num_outputs) the part of the n-grams in `contributions`; None without `model.ngrams`"""
    logits: Floats
    """(num_outputs,) before calibration"""
    probabilities: NDArray[np.float64]
    """(labels,) after calibration, in the order of `Model.labels`"""


def has_map(classifier: Classifier) -> bool:
    """Whether traces of this model have an `attention_map`, and can be made."""
    return classifier.config.architecture["attention"] in MAPPED and classifier.files.has(WEIGHTS)


def trace(classifier: Classifier, text: Text) -> Trace:
    """Follows one text through the network.

    Raises:
        InputError: the model has no model.safetensors.
        ConfigError: the text has the wrong number of segments.
    """
    (given,) = classifier.normalise([text])
    if classifier.runtime != "torch" and not classifier.files.has(WEIGHTS):
        raise InputError(
            f"{classifier.files.where(WEIGHTS)}: no such file, and a trace needs it; a bundle has none",
            "load the run directory that the bundle was exported from",
        )
    import torch
    from torch import Tensor

    from textattn.model.attention import WeightedPooling

    session = classifier.torch_session
    model, attention = session.model, session.model.attention
    (row,) = classifier.tokenizer.encode_with_offsets([given])
    input_ids = torch.tensor([row.input_ids], device=session.device)
    mask = torch.ones_like(input_ids)

    def array(tensor: Tensor) -> Floats:
        found: Floats = tensor.float().cpu().numpy()
        return found

    def first(tensor: Tensor | None) -> Floats | None:
        """Without the dimension of the batch, which has one text."""
        return None if tensor is None else array(tensor[0])

    with torch.inference_mode():
        output = model(input_ids, mask)
        states = model.states(output.embeddings, mask)
        scores = token_map = None
        values = states.pooled.unsqueeze(1)
        if isinstance(attention, WeightedPooling):
            scores = attention.scores(states.scored)
            token_map = attention.token_map(states.scored, mask.bool())
            values = attention.head_values(states.pooled)
        parts = model.contributions(output, input_ids, mask) if attention.additive else None
        ngrams = None if model.ngrams is None else model.ngram_contributions(input_ids, mask)
        logits = array(output.logits)
        return Trace(
            text=given,
            tokens=row.tokens,
            input_ids=np.array(row.input_ids, np.int64),
            embeddings=array(output.embeddings[0]),
            states=array(output.encoder_states[0]),
            scores=first(scores),
            attention_map=first(token_map),
            head_weights=first(output.head_weights),
            values=array(values[0]),
            classifier_weight=array(model.classifier.weight),
            classifier_bias=array(model.classifier.bias),
            contributions=None if parts is None else first(parts.total),
            ngram_contributions=first(ngrams),
            logits=logits[0],
            probabilities=classifier.logits_to_probabilities(logits)[0],
        )
