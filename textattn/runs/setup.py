"""Build everything that training needs in addition to the data: the model, its placement and the training loop."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from textattn.config.model_section import ModelConfig
from textattn.config.schema import TrainingConfig
from textattn.data.cells import text_columns
from textattn.errors import ConfigError
from textattn.measure.metrics import GREATER_IS_BETTER
from textattn.model.classifier import Architecture, TextClassifier
from textattn.report import Report
from textattn.runs.limits import check_limits
from textattn.runs.linear import LinearPart, fit_linear_part, is_fitted
from textattn.runs.training_data import TrainingData
from textattn.runs.vectors import report_on, with_missing, word_vectors
from textattn.storage.model_files import SavedConfig, model_metadata
from textattn.storage.run_dir import TOKENIZER
from textattn.training.examples import Examples
from textattn.training.loop import Evaluate, Selection, TrainingLoop
from textattn.training.loss import Losses, class_weights
from textattn.training.placement import Placement
from textattn.training.schedule import Plan


@dataclass(frozen=True)
class Setup:
    """A model that is ready to be trained on its data. All training loops are created here."""

    data: TrainingData
    model: TextClassifier
    """On the device of the placement."""
    model_config: SavedConfig
    """The content of config.json."""
    placement: Placement
    vector_facts: dict[str, Any]
    """For environment.json: the source of the word vectors, and the share of the vocabulary that has one."""
    class_weights: Tensor | None
    """(num_labels,) on the device of the placement."""
    linear: LinearPart | None = None
    """The linear part that was fitted before, for `model.linear: first` and `only`."""

    @property
    def num_parameters(self) -> int:
        """The number of parameters of the model."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def loop(
        self,
        *,
        evaluate: Evaluate | None = None,
        stop_after: float | None = None,
        examples: Examples | None = None,
        config: TrainingConfig | None = None,
    ) -> TrainingLoop:
        """Create a training loop.

        Args:
            evaluate: computes the metric by which checkpoints are selected; without it the last checkpoint is kept.
            stop_after: the number of epochs after which to stop, if fewer than in the config.
            examples: the examples to train on; the default is the training split.
            config: the settings of the loop; the default are those of the config.
        """
        data = self.data
        if examples is None:
            examples = data.examples
            if self.linear is not None:
                examples = replace(examples, ngram_logits=self.linear.out_of_fold)
        settings = config or data.config.training
        selection = None if evaluate is None else Selection(evaluate, GREATER_IS_BETTER[data.metric])
        losses = Losses.from_config(settings, data.task, self.class_weights)
        plan = Plan(settings, data.config.seed, stop_after)
        return TrainingLoop(self.model, examples, losses, plan, self.placement, selection)

    def with_model(self, model: TextClassifier) -> Setup:
        """This setup with a different model of the same architecture."""
        return replace(self, model=model)

    def weights_file(self) -> bytes:
        """The content of model.safetensors: the weights, and metadata about the config and the tokenizer."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        metadata = model_metadata(self.model_config, self.data.tokenizer.to_files()[TOKENIZER].encode())
        return safetensors.torch.save(tensors, metadata)


def build(
    data: TrainingData,
    placement: Placement,
    report: Report,
    *,
    vectors: bool = True,
    linear: LinearPart | None = None,
) -> Setup:
    """Build the model of a config, with its word vectors.

    Args:
        data: the data that the model will be trained on.
        placement: the device and the precision.
        report: receives notes and progress.
        vectors: False leaves the weights random, because those of a checkpoint will replace them.
        linear: the linear part, if it is fitted already.

    Raises:
        ConfigError: settings do not fit together or do not fit the data.
        InputError: word vectors cannot be read.
    """
    check_limits(data)
    config, task = data.config, data.task
    if linear is None and is_fitted(data):
        linear = fit_linear_part(data, report)
    kept = 0 if data.start is None else data.start.architecture.ngram_features
    architecture = _architecture(data, kept if linear is None else linear.rows)
    model = _new_model(architecture)
    has_network = config.model.linear != "only"
    facts: dict[str, Any] = {"source": config.model.vectors.source if has_network else "random"}
    if data.start is not None and vectors:
        data.start.load_weights(model, data, with_ngrams=linear is None)
        facts["source"] = "start" if has_network else "random"
    found = word_vectors(data, report) if vectors and has_network and data.start is None else None
    if found is not None:
        facts |= report_on(found, data, report)
        found = with_missing(found, data, report)
        with torch.no_grad():
            known = torch.from_numpy(found.found)
            model.embedding.weight[known] = torch.from_numpy(found.matrix)[known]
    model.embedding.weight.requires_grad_(not config.model.vectors.freeze)
    if linear is not None:
        linear.install(model, begins=data.start is None)
    model_config = SavedConfig(
        architecture.to_dict(),
        task.labels,
        task.multi_label,
        task.output,
        text_columns(config.data),
        target=task.target,
    )
    weights = class_weights(config.training, task, data.corpus.train.labels, placement.device)
    return Setup(data, model.to(placement.device), model_config, placement, facts, weights, linear)


def _architecture(data: TrainingData, ngram_features: int) -> Architecture:
    m, tokenizer = data.config.model, data.tokenizer
    if m.linear == "only":
        # The network is a mean of embeddings of size 1, which are 0, so that everything that reads a model reads this.
        return Architecture(
            tokenizer.vocab_size, data.task.num_outputs, embedding_dim=1, encoder="none", hidden_size=1,
            attention="mean", ngrams=m.ngrams, ngram_buckets=m.ngram_buckets, unk_id=tokenizer.unk_id, linear=m.linear,
            ngram_features=ngram_features,
        )  # fmt: skip
    return Architecture(
        vocab_size=tokenizer.vocab_size,
        num_outputs=data.task.num_outputs,
        embedding_dim=m.embedding_dim,
        encoder=m.encoder,
        hidden_size=m.hidden_size,
        num_layers=m.num_layers,
        bidirectional=m.bidirectional,
        anchor=m.anchor,
        attention=m.attention,
        attention_size=m.attention_size,
        num_heads=m.num_heads,
        attention_window=m.attention_window,
        attention_position=m.attention_position,
        window_size=m.window_size if m.document == "windows" else 0,
        window_context=m.window_context if m.document == "windows" else 0,
        ngrams=m.ngrams,
        ngram_buckets=m.ngram_buckets if m.ngrams else 1,
        unk_id=tokenizer.unk_id,
        dropout=m.dropout.model_dump(),
        linear=m.linear,
        ngram_features=ngram_features,
    )


TOO_LARGE = re.compile("allocate memory|overflow", re.I)


def _new_model(architecture: Architecture) -> TextClassifier:
    try:
        return TextClassifier(architecture)
    except ValueError as error:
        raise ConfigError(str(error), setting="model") from None
    except (RuntimeError, TypeError, MemoryError, OverflowError) as error:
        # What torch says of sizes that are too large depends on how far they are too large.
        if not isinstance(error, (MemoryError, OverflowError)) and not TOO_LARGE.search(str(error)):
            raise
        default = ModelConfig()
        raise ConfigError(
            "too large for the memory of this machine",
            f"model.embedding_dim={default.embedding_dim} model.hidden_size={default.hidden_size}",
            setting="model",
        ) from None
