"""Collect the content of environment.json: versions, command, seed and the fingerprints of the data."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from textattn import __version__
from textattn.config import Config, given_settings
from textattn.data.read import Corpus
from textattn.runs.setup import Setup
from textattn.storage.records import DatasetRecord, Environment, SplitRecord
from textattn.training.processes import number_of_processes

PACKAGES = (
    "torch", "tokenizers", "datasets", "numpy", "pyarrow", "scikit-learn", "gensim", "onnx", "onnxruntime",
    "safetensors", "pydantic",
)  # fmt: skip


def environment_of(setup: Setup, command: str | None, given: Config) -> Environment:
    """Describe the environment of a run that starts now.

    Args:
        setup: the data and the model of the run.
        command: the command line; the default is that of this process.
        given: the config before the recipe was applied.
    """
    return Environment(
        textattn=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        processors=os.cpu_count(),
        threads=torch.get_num_threads(),
        processes=number_of_processes(),
        packages=dict(_versions()),
        command=command or " ".join(sys.argv),
        seed=setup.data.config.seed,
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        dataset=_dataset(setup.data.corpus),
        word_vectors=setup.vector_facts,
        directory=str(Path.cwd()),
        settings=given_settings(given),
        start=None if setup.data.start is None else setup.data.start.record(setup.data),
    )


def _dataset(corpus: Corpus) -> DatasetRecord:
    return DatasetRecord(
        source=corpus.source,
        revision=corpus.revision,
        notes=corpus.notes,
        num_pseudo_labelled=corpus.num_pseudo_labelled,
        num_unlabelled=sum(map(len, corpus.unlabelled)),
        unlabelled_sha256=[texts.fingerprint() for texts in corpus.unlabelled],
        splits={name: SplitRecord(len(split), split.fingerprint()) for name, split in corpus.splits().items()},
    )


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue
