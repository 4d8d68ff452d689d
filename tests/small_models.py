"""Small models whose weights are as large as after training, so that errors would show, and texts for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from textattn.model import attention as mechanisms
from textattn.model import encoders
from textattn.model.attention import attention_class
from textattn.model.classifier import Architecture, TextClassifier

# Every part that has a file in its folder, so that a new one is tested too.
MECHANISMS = mechanisms.NAMES
WEIGHTED = tuple(name for name in MECHANISMS if attention_class(name).learns_weights)
ENCODERS = encoders.NAMES
VOCABULARY, PAD, UNK = 50, 0, 1
TEXTS = [[2, 3, 4], [5], [6, 7, 8, 9, 10, 11, 12], [13, 2, 14, 2, 5], [15, 16]]


def build(
    attention: str = "additive",
    encoder: str = "lstm",
    num_layers: int = 1,
    bidirectional: bool = True,
    *,
    seed: int = 0,
    spread: float = 0.5,
    **settings: Any,
) -> TextClassifier:
    """In eval mode, without dropout; `spread` is that of all weights but the word vectors, which are of size 1."""
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": VOCABULARY,
        "num_outputs": 3,
        "embedding_dim": 8,
        "hidden_size": 6,
        "attention_size": 16,  # enough that some of mlp's units are on for some states and off for others
        "num_heads": 2,
    }
    architecture = Architecture(
        encoder=encoder,
        num_layers=num_layers,
        bidirectional=bidirectional,
        attention=attention,
        **(sizes | settings),
    )
    model = TextClassifier(architecture)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=1.0 if name.startswith("embedding") else spread)
    return model.eval()


def padded(texts: list[list[int]], seq: int | None = None) -> tuple[Tensor, Tensor]:
    """(batch, seq) ids and mask."""
    seq = seq or max(map(len, texts))
    input_ids = torch.tensor([text + [PAD] * (seq - len(text)) for text in texts])
    attention_mask = torch.tensor([[1] * len(text) + [0] * (seq - len(text)) for text in texts])
    return input_ids, attention_mask


def every_parameter_gets_a_gradient_and_padding_none(model: TextClassifier) -> None:
    """Asserted for a model in float64."""
    input_ids, attention_mask = padded(TEXTS, seq=9)
    embeddings = model.embed(input_ids)
    embeddings.retain_grad()
    logits = model.forward_from_embeddings(embeddings, attention_mask).logits
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0, 1])).backward()
    for name, parameter in model.named_parameters():
        # In float64 what should be 0 is below 1e-15; a parameter the softmax cancels would be found here.
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-8, name
    assert embeddings.grad is not None
    assert torch.count_nonzero(embeddings.grad[attention_mask == 0]) == 0
    assert model.embedding.weight.grad is not None
    assert torch.count_nonzero(model.embedding.weight.grad[PAD]) == 0
