"""Settings of the model and of training that do not go together, or not with these data."""

from __future__ import annotations

from textattn.errors import ConfigError
from textattn.model.attention import attention_class
from textattn.model.passages import LARGEST_WINDOW
from textattn.runs.training_data import TrainingData


def check_limits(data: TrainingData) -> None:
    """Refuses what cannot be trained, before anything is.

    Raises:
        ConfigError: names the setting and one that would do.
    """
    _check_task(data)
    _check_cross_validation(data)
    _ = data.metric  # raises where the metric is not defined
    _check_attention(data)


def _check_task(data: TrainingData) -> None:
    if data.task.multi_label and data.config.training.sampling == "balanced":
        raise ConfigError(
            "training.sampling: balanced needs one label a text, but the data have several",
            "training.sampling=shuffled training.class_weights=balanced",
        )


def _check_cross_validation(data: TrainingData) -> None:
    corpus, number = data.corpus, data.config.training.cross_validation
    if number is None:
        return
    rows = len(corpus.train) - corpus.num_pseudo_labelled
    if corpus.validation is not None:
        raise ConfigError(
            "training.cross_validation: there is a validation split to stop by; cross-validation is for data without",
            "data.validation_split=null data.validation_fraction=0.0",
        )
    if rows < 2 * number:
        raise ConfigError(
            f"training.cross_validation: {rows} training rows are too few for {number} folds",
            f"training.cross_validation={rows // 2 if rows >= 4 else 'null'}",
        )


def _check_attention(data: TrainingData) -> None:
    config = data.config
    m, t = config.model, config.training
    attention = attention_class(m.attention)
    if m.anchor != "none" and m.encoder == "none":
        raise ConfigError(
            f"model.anchor: {m.anchor} needs an encoder; without one the states are the embeddings", "model.anchor=none"
        )
    if m.anchor == "values" and not attention.learns_weights:
        raise ConfigError(
            f"model.anchor: values needs an attention that learns weights, not {m.attention}",
            "model.anchor=none training.attention_alignment=0.0",
        )
    for key, off in (("attention_window", 1), ("attention_position", False)):
        if getattr(m, key) != off and not attention.has_weights:
            raise ConfigError(
                f"model.{key}: model.attention={m.attention} has no weights to place",
                f"model.{key}={str(off).lower()}",
            )
    if m.attention_position and not attention.normalized:
        raise ConfigError(
            f"model.attention_position: model.attention={m.attention} shares out no weight that could move",
            "model.attention=additive",
        )
    if m.attention_window % 2 == 0 or m.attention_window > LARGEST_WINDOW:
        odd = min(m.attention_window + 1, LARGEST_WINDOW)
        raise ConfigError(
            f"model.attention_window: must be an odd number of tokens up to {LARGEST_WINDOW}, got {m.attention_window}",
            f"model.attention_window={odd}",
        )
    for key in ("attention_alignment", "attention_supervision"):
        if getattr(t, key) and not attention.learns_weights:
            raise ConfigError(
                f"training.{key}: model.attention={m.attention} has no weights to learn",
                f"training.{key}=0.0",
            )
    if t.attention_supervision and config.data.evidence is None:
        raise ConfigError("training.attention_supervision: needs data.evidence", "data.evidence=COLUMN")
    if t.state_tying and m.encoder == "none":
        raise ConfigError("training.state_tying: model.encoder=none has no states to tie", "training.state_tying=0.0")
    if t.state_tying and m.hidden_size != m.embedding_dim:
        raise ConfigError(
            f"training.state_tying: model.hidden_size is {m.hidden_size}, model.embedding_dim {m.embedding_dim}; "
            "they must be equal",
            f"model.hidden_size={m.embedding_dim}",
        )
