"""What the tests of explanations share: small models by hand, and the log-odds written a second time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textattn.api import Model
from textattn.config.model_section import TokenizerConfig
from textattn.data.read import Split
from textattn.data.texts import Texts
from textattn.explain.forward_pass import ForwardPass
from textattn.explain.methods import find_method
from textattn.explain.methods._base import Attributions
from textattn.explain.targets import Targets
from textattn.inference.torch_session import TorchSession
from textattn.model.classifier import Architecture, TextClassifier
from textattn.storage.model_files import ModelFiles, SavedConfig
from textattn.tokens.token_arrays import TokenArrays
from textattn.tokens.train_tokenizer import train_tokenizer

TEXTS = [
    "the food was good and the staff were kind",
    "bad",
    "not good at all",
    "kind staff bad food",
    "good food good staff good room but the price was not good at all and the room was bad",
    "the xylophone was kind",  # a word that the vocabulary lacks
]
# Attention, encoder, anchor.
MODELS = [
    ("additive", "lstm", "none"),
    ("additive", "lstm", "states"),
    ("additive", "gru", "values"),
    ("dot", "gru", "none"),
    ("scaled_dot", "none", "none"),
    ("general", "lstm", "none"),
    ("mlp", "lstm", "none"),
    ("multi_head", "lstm", "values"),
    ("self_attention", "gru", "none"),
    ("mean", "lstm", "none"),
    ("sigmoid", "lstm", "values"),
]
# Labels, output, whether a text has several.
OUTPUTS = [(2, "softmax", False), (5, "softmax", False), (2, "sigmoid", False), (3, "sigmoid", True)]


def build(
    attention: str = "additive",
    encoder: str = "lstm",
    anchor: str = "none",
    output: tuple[int, str, bool] = (3, "softmax", False),
    *,
    kind: str = "word",
    corpus: Sequence[str] = TEXTS[:5],
    vocab_size: int = 90,
    max_length: int = 90,
    double: bool = False,
    spread: float = 0.5,
    **sizes: int,
) -> Model:
    """A small model with large weights, so that every word counts; its dropout would show if it were on."""
    num_labels, activation, multi_label = output
    settings = TokenizerConfig.model_validate(
        {"type": kind, "min_frequency": 1, "vocab_size": vocab_size, "max_length": max_length}
    )
    tokenizer = train_tokenizer(settings, iter(corpus), 1)
    architecture = Architecture(
        vocab_size=tokenizer.vocab_size,
        num_outputs=1 if activation == "sigmoid" and not multi_label else num_labels,
        embedding_dim=8,
        encoder=encoder,
        hidden_size=6,
        anchor=anchor,
        attention=attention,
        attention_size=5,
        num_heads=2,
        unk_id=tokenizer.unk_id,
        **sizes,
        dropout={"words": 0.5, "embedding": 0.5, "recurrent": 0.5, "classifier": 0.5},
    )
    config = SavedConfig(
        architecture.to_dict(),
        [f"label {i}" for i in range(num_labels)],
        multi_label,
        activation,
        ["text"],
        [0.5] * num_labels if multi_label else None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = TextClassifier(architecture)
        for name, parameter in model.named_parameters():
            torch.nn.init.normal_(parameter, std=1.0 if name.startswith("embedding") else spread)
    session = TorchSession(model.double() if double else model)
    return Model(session, "torch", tokenizer, config, ModelFiles(Path("no/such/run")))


def model_of(classifier: Model) -> TextClassifier:
    return classifier.torch_session.model


def ids_of(classifier: Model, text: str) -> list[int]:
    (row,) = classifier.tokenizer.encode_with_offsets([text])
    return row.input_ids


def logits(classifier: Model, ids: Sequence[int]) -> list[float]:
    """Of one text, not in a batch."""
    output = classifier.session.run(np.array([ids], np.int64), np.ones((1, len(ids)), np.int64))
    return [float(x) for x in output.logits[0]]


def odds(config: SavedConfig, x: Sequence[Any], label: int, against: int | None = None) -> Any:
    """The log-odds of one text from the probabilities, of floats or of tensors."""
    log, exp = (torch.log, torch.exp) if isinstance(x[0], Tensor) else (math.log, math.exp)
    if config.output == "softmax":
        parts = [exp(value) for value in x]
    elif len(x) == 1:
        parts = [1 / (1 + exp(x[0])), 1 / (1 + exp(-x[0]))]
    else:
        # Labels of their own: each has odds of its own.
        own = [log(1 / (1 + exp(-value))) - log(1 / (1 + exp(value))) for value in x]
        return own[label] - (0 if against is None else own[against])
    others = [part for i, part in enumerate(parts) if i != label and against in (None, i)]
    return log(parts[label]) - log(sum(others))


def targets_of(classifier: Model, labels: Sequence[int], against: int | None = None) -> Targets:
    return Targets(np.array(labels, np.int64), classifier.task, against)


def attribute(classifier: Model, tokens: TokenArrays, targets: Targets, method: str) -> Attributions:
    """Scores of tokens, each of them a word."""
    found = find_method(method)
    found.check_model(classifier)
    return found.attribute(ForwardPass.run(classifier, tokens), targets)


def same(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    np.testing.assert_equal(found.shape, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def split_of(texts: Sequence[str], labels: Any = None, evidence: Any = None) -> Split:
    labels = np.zeros(len(texts), np.int64) if labels is None else labels
    return Split("made up", Texts.of(texts), labels, evidence)
