"""`model.pretraining`: an encoder that knows the language of the texts before it learns labels; kept for later runs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from textattn.config.schema import Config, TrainingConfig
from textattn.data import cache
from textattn.data.token_arrays import TokenArrays
from textattn.data.tokenizer import TextTokenizer
from textattn.errors import ConfigError, InputError
from textattn.model.classifier import TextClassifier
from textattn.report import Report
from textattn.run import TOKENIZER, TOKENIZER_CONFIG, WEIGHTS
from textattn.training import language_model
from textattn.training.language_model import pretrain
from textattn.training.optimizer import choose_placement

# Their folder in the cache.
ENCODERS = "encoders"
# What is learnt, and all that a later run takes.
PARTS = ("embedding.", "encoder.")


def pretrain_encoder(
    config: Config,
    texts: Iterable[str],
    content: list[str],
    tokenizer: TextTokenizer,
    model: TextClassifier,
    report: Report,
) -> dict[str, Any] | None:
    """Gives the embedding and the encoder of `model` what `model.pretraining` says; None where it says nothing.

    Args:
        texts: with labels or without.
        content: the fingerprints of all of them.

    Returns:
        Facts for environment.json.

    Raises:
        ConfigError: the model has no encoder that could learn it.
        InputError: `path` is no run with the same vocabulary and the same sizes.
        Diverged: the loss is not a finite number.
    """
    settings = config.model.pretraining
    if settings.path is not None:
        _take_over(Path(settings.path), tokenizer, model)
        return {"path": settings.path}
    if not settings.epochs:
        return None
    check(config)
    key = _key(config, content, tokenizer)
    entry = cache.find(ENCODERS, key)
    if entry is not None:
        try:
            with safe_open(entry / WEIGHTS, "pt") as file:
                loss = float(file.metadata()["loss"])
            _set(model, load_file(entry / WEIGHTS))
            return {"epochs": settings.epochs, "loss": loss}
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
            cache.remove(entry)
    tokens = tokenizer.encode(texts)
    loss = _learn(config, tokens, tokenizer.pad_id, model, report)
    with cache.store(ENCODERS, key) as folder:
        if folder is not None:
            save_file(_parts(model), folder / WEIGHTS, {"loss": str(loss)})
    return {"epochs": settings.epochs, "loss": loss}


def kept_encoder(config: Config, content: list[str], tokenizer: TextTokenizer) -> bool:
    """Whether what this pretraining gives is there from an earlier one."""
    return cache.find(ENCODERS, _key(config, content, tokenizer)) is not None


def _key(config: Config, content: list[str], tokenizer: TextTokenizer) -> str:
    vectors, placement = config.model.vectors, choose_placement(config.training)
    of_model = {"embedding_dim", "vectors", "encoder", "hidden_size", "num_layers", "bidirectional"}
    return cache.key_of(
        content,
        tokenizer.to_files()[TOKENIZER],
        config.tokenizer.model_dump(),
        config.model.model_dump(include=of_model),
        # A file may have another content by now.
        cache.content_of([Path(vectors.path)]) if vectors.path is not None else None,
        config.model.pretraining.model_dump(),
        settings_of_training(config).model_dump(),
        # Each process has a GPU of its own, and all take what the first has pretrained.
        (placement.device.type, str(placement.dtype)),
        config.seed,
        torch.__version__,
        cache.content_of([Path(language_model.__file__)]),
    )


def seconds_of_pretraining(
    config: Config, texts: list[str], num_texts: int, tokenizer: TextTokenizer, model: TextClassifier
) -> float:
    """What it would take on `num_texts` texts like these; changes the model."""
    settings = settings_of_training(config).model_copy(update={"epochs": 2})
    ends = [time.perf_counter()]
    tokens = tokenizer.encode(texts)
    ends.append(time.perf_counter())
    steps = pretrain(
        model, tokens, settings, choose_placement(config.training),
        negatives=config.model.pretraining.negatives, pad_id=tokenizer.pad_id, seed=config.seed,
    )  # fmt: skip
    ends += [time.perf_counter() for step in steps if step.global_step in (step.total_steps // 2, step.total_steps)]
    tokenising, _, each = np.diff(ends)
    return float((tokenising + config.model.pretraining.epochs * each) * num_texts / len(texts))


def check(config: Config) -> None:
    """Raises ConfigError where the model has no encoder that could learn from its neighbours alone."""
    m = config.model
    if m.encoder == "none":
        raise ConfigError("model.pretraining: model.encoder=none has nothing to pretrain", "model.pretraining.epochs=0")
    if m.bidirectional and m.num_layers > 1:
        raise ConfigError(
            "model.pretraining: in both directions only one layer, for the second would see what it is to guess",
            "model.num_layers=1",
        )


def settings_of_training(config: Config) -> TrainingConfig:
    """The batches, the schedule and the precision of training, with the rate and the epochs of pretraining."""
    settings = config.model.pretraining
    ours = {"epochs": max(1, settings.epochs), "learning_rate": settings.learning_rate}
    kept = {"batch_size", "max_tokens_per_batch", "schedule", "warmup_ratio", "max_grad_norm"}
    return TrainingConfig(**(config.training.model_dump(include=kept) | ours))


def _learn(config: Config, tokens: TokenArrays, pad_id: int, model: TextClassifier, report: Report) -> float:
    placement, settings = choose_placement(config.training), config.model.pretraining
    # What is drawn here must not change what is drawn later, when another run finds this in the cache.
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        steps = pretrain(
            model.to(placement.device), tokens, settings_of_training(config), placement,
            negatives=settings.negatives, pad_id=pad_id, seed=config.seed,
        )  # fmt: skip
        step = next(steps)
        with report.progress("Pretraining", step.total_steps, "steps") as advance:
            advance(1)
            for step in steps:
                advance(step.global_step)
    model.to("cpu")
    report.note(f"pretraining on {len(tokens.ids):,} tokens: {step.loss:.3f} nats a guess")
    return step.loss


def _parts(model: TextClassifier) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name.startswith(PARTS)}


def _set(model: TextClassifier, tensors: dict[str, torch.Tensor]) -> None:
    own = _parts(model)
    if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in tensors.items()}:
        raise ValueError("of another size")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def _take_over(run: Path, tokenizer: TextTokenizer, model: TextClassifier) -> None:
    where, hint = f"model.pretraining.path: {run}", "model.pretraining.path=RUN"
    try:
        files = [(run / name).read_bytes() for name in (TOKENIZER, TOKENIZER_CONFIG)]
        vocabulary = TextTokenizer.from_files(files[0], files[1], str(run)).backend.get_vocab()
        tensors = {name: t for name, t in load_file(run / WEIGHTS).items() if name.startswith(PARTS)}
    except (OSError, SafetensorError, InputError) as error:
        raise InputError(f"{where}: no finished run ({error})", hint) from None
    if vocabulary != tokenizer.backend.get_vocab():
        raise InputError(
            f"{where}: its vocabulary is another", f"tokenizer.type=pretrained tokenizer.path={run / TOKENIZER}"
        )
    try:
        _set(model, tensors)
    except ValueError:
        raise InputError(
            f"{where}: its embedding and encoder have other sizes; expected those of its training_config.yaml",
            f"textattn info {run}",
        ) from None
