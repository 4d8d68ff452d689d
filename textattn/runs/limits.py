"""Find settings of the model and of training that do not fit together or do not fit the data."""

from __future__ import annotations

from textattn.errors import ConfigError
from textattn.model.attention import attention_class
from textattn.model.passages import LARGEST_WINDOW
from textattn.runs.linear import is_fitted
from textattn.runs.training_data import TrainingData

# Bytes. No ONNX file is larger than two gigabytes.
LARGEST_TABLE = 2**31


def check_limits(data: TrainingData) -> None:
    """Check the settings against each other and against the data, before training starts.

    Raises:
        ConfigError: a setting does not fit; the hint is a setting that does.
    """
    _check_task(data)
    _check_cross_validation(data)
    _ = data.metric  # raises an error if the metric is not defined
    _check_ngrams(data)
    _check_linear(data)
    if data.config.model.linear != "only":
        _check_attention(data)


def _check_task(data: TrainingData) -> None:
    if data.task.multi_label and data.config.training.sampling == "balanced":
        raise ConfigError(
            "balanced sampling needs one label per text, but the data are multi-label",
            "training.sampling=shuffled training.class_weights=balanced",
            setting="training.sampling",
        )


def _check_cross_validation(data: TrainingData) -> None:
    corpus, number = data.corpus, data.config.training.cross_validation
    if number is None:
        return
    rows = len(corpus.train) - corpus.num_pseudo_labelled
    if corpus.validation is not None:
        raise ConfigError(
            "cross-validation replaces the validation split, but there is one",
            "data.validation_split=null data.validation_fraction=0.0",
            setting="training.cross_validation",
        )
    if rows < 2 * number:
        raise ConfigError(
            f"{rows} training rows are too few for {number} folds",
            f"training.cross_validation={rows // 2 if rows >= 4 else 'null'}",
            setting="training.cross_validation",
        )


def _check_ngrams(data: TrainingData) -> None:
    m = data.config.model
    size = 4 * m.ngram_buckets * data.task.num_outputs
    if m.ngrams and m.linear == "together" and size >= LARGEST_TABLE:
        raise ConfigError(
            f"{m.ngram_buckets:,} buckets with a weight for each of {data.task.num_outputs:,} labels are "
            f"{size / 1e9:.1f} GB, but a model file holds less than {LARGEST_TABLE / 1e9:.1f} GB",
            "model.ngrams=0",
            setting="model.ngrams",
        )


def _check_linear(data: TrainingData) -> None:
    m = data.config.model
    if m.linear == "together":
        return
    if not m.ngrams:
        raise ConfigError(f"{m.linear} needs n-grams", "model.ngrams=2", setting="model.linear")
    if data.start is not None and m.linear == "only" and not is_fitted(data):
        raise ConfigError(
            f"the linear model is fitted to all rows at once, but those that {data.start.name} was trained on cannot "
            "be read again, or are not replayed",
            "train on the old and the new rows together, without --from",
            setting="start.model",
        )


def _check_attention(data: TrainingData) -> None:
    config = data.config
    m, t = config.model, config.training
    attention = attention_class(m.attention)
    if m.anchor != "none" and m.encoder == "none":
        raise ConfigError(
            f"{m.anchor} needs an encoder; without one the states are the embeddings",
            "model.anchor=none",
            setting="model.anchor",
        )
    if m.anchor == "values" and not attention.learns_weights:
        raise ConfigError(
            f"values needs an attention mechanism that learns weights, but {m.attention} does not",
            "model.anchor=none training.attention_alignment=0.0",
            setting="model.anchor",
        )
    for key, off in (("attention_window", 1), ("attention_position", False)):
        if getattr(m, key) != off and not attention.has_weights:
            raise ConfigError(
                f"model.attention={m.attention} has no weights that depend on positions",
                f"model.{key}={str(off).lower()}",
                setting=f"model.{key}",
            )
    if m.attention_position and not attention.normalized:
        raise ConfigError(
            f"model.attention={m.attention} has no weights that sum to 1 and could be shifted between positions",
            "model.attention=additive",
            setting="model.attention_position",
        )
    if m.attention_window % 2 == 0 or m.attention_window > LARGEST_WINDOW:
        odd = min(m.attention_window + 1, LARGEST_WINDOW)
        raise ConfigError(
            f"must be an odd number of tokens up to {LARGEST_WINDOW}, got {m.attention_window}",
            f"model.attention_window={odd}",
            setting="model.attention_window",
        )
    for key in ("attention_alignment", "attention_supervision"):
        if getattr(t, key) and not attention.learns_weights:
            raise ConfigError(
                f"model.attention={m.attention} has no weights to learn",
                f"training.{key}=0.0",
                setting=f"training.{key}",
            )
    if t.attention_supervision and config.data.evidence is None:
        raise ConfigError("needs data.evidence", "data.evidence=COLUMN", setting="training.attention_supervision")
    if t.state_tying and m.encoder == "none":
        raise ConfigError(
            "model.encoder=none has no states to tie", "training.state_tying=0.0", setting="training.state_tying"
        )
    if t.state_tying and m.hidden_size != m.embedding_dim:
        raise ConfigError(
            f"model.hidden_size ({m.hidden_size}) and model.embedding_dim ({m.embedding_dim}) must be equal",
            f"model.hidden_size={m.embedding_dim}",
            setting="training.state_tying",
        )
