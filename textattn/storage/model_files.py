"""Read the files of a model, from a run directory or from a bundle. Importing this module is fast."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textattn.errors import InputError
from textattn.storage.run_dir import CONFIG, ONNX, ONNX_INT8, TOKENIZER

FORMAT_VERSION = 1
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification")
# Limits for the unpacked size of a bundle's members, against damaged and malicious files. Graphs consist of weights,
# which hardly compress, and the ONNX format limits them to 2 GiB. All other members are small texts.
LARGEST_GRAPH = 2**31
LARGEST_GRAPH_RATIO = 20
LARGEST_TEXT = 2**26


class ModelFiles:
    """The files of a model in a directory or in a bundle, a zip file that is read without unpacking it.

    Raises:
        InputError: `path` is a file but not a bundle.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_bundle = path.is_file()
        self._names: frozenset[str] | None = None
        if self.is_bundle:
            self._names = frozenset(self._open_bundle().namelist())

    def has(self, name: str) -> bool:
        """Whether the model has a file of this name."""
        return (self.path / name).is_file() if self._names is None else name in self._names

    def size(self, name: str) -> int:
        """The size in bytes of an existing file."""
        if self._names is None:
            return (self.path / name).stat().st_size
        size: int = self._open_bundle().getinfo(name).file_size
        return size

    def where(self, name: str) -> str:
        """The place of a file, for messages."""
        return str(self.path / name)

    def read(self, name: str) -> bytes:
        """Read a file.

        Raises:
            InputError: the file is missing or damaged.
        """
        try:
            return (self.path / name).read_bytes() if self._names is None else self._read_member(name)
        except (FileNotFoundError, KeyError):
            raise InputError("no such file", place=self.where(name)) from None
        except OSError as error:
            raise InputError(error.strerror or str(error), place=self.where(name)) from None

    def read_json(self, name: str) -> Any:
        """Read a JSON file.

        Raises:
            InputError: the file is missing or damaged.
        """
        try:
            return json.loads(self.read(name).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise self._damaged(name, error) from None

    def _damaged(self, name: str, why: object) -> InputError:
        return InputError(f"damaged ({why})", place=self.where(name))

    def _open_bundle(self) -> Any:
        import zipfile

        try:
            return zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise InputError(f"damaged, or not a textattn bundle ({error})", place=str(self.path)) from None

    def _read_member(self, name: str) -> bytes:
        import zipfile

        try:
            with self._open_bundle() as bundle:
                info = bundle.getinfo(name)
                is_graph = name in (ONNX, ONNX_INT8)
                limit = min(LARGEST_GRAPH, LARGEST_GRAPH_RATIO * info.compress_size) if is_graph else LARGEST_TEXT
                # The size in the header may be wrong: it must be plausible, and no more than that is unpacked.
                if info.file_size > limit or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise self._damaged(name, f"a size of {info.file_size:,} bytes is not plausible")
                with bundle.open(info) as member:
                    content: bytes = member.read(info.file_size + 1)
                if len(content) != info.file_size:
                    raise self._damaged(name, "truncated")
                return content
        # zipfile and its decompressors raise several classes of exceptions for damaged files.
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
            raise self._damaged(name, error) from None


@dataclass(frozen=True)
class SavedConfig:
    """The content of config.json."""

    architecture: dict[str, Any]
    """Arguments of `textattn.model.classifier.Architecture`."""
    labels: list[str]
    """The names of the labels, in the order of the outputs."""
    multi_label: bool
    output: str
    """softmax or sigmoid."""
    text_columns: list[str]
    """The columns of the training data that contained the text."""
    thresholds: list[float] | None = None
    """Multi-label models only: a text gets a label if its probability is at least this high; one value per label."""
    temperature: float = 1.0
    """The logits are divided by this value before they are turned into probabilities."""

    def summary(self) -> str:
        """Describe the parts of the model in one line."""
        a = self.architecture
        parts = [f"embedding {a['embedding_dim']}"]
        if a["encoder"] != "none":
            direction = "bidirectional" if a["bidirectional"] else "one direction"
            layers = f"{a['num_layers']} layer{'s' * (a['num_layers'] > 1)}"
            parts.append(f"{a['encoder'].upper()} {a['hidden_size']} ({direction}, {layers})")
        parts.append(f"{a['attention']} attention")
        if longest := a.get("ngrams", 0):
            parts.append(f"n-grams of up to {longest} token{'s' * (longest > 1)}")
        return ", ".join([*parts, self.output])

    def to_json(self) -> dict[str, Any]:
        """The content of config.json, with Hugging Face's names where they exist."""
        return {
            "model_type": "textattn",
            "architectures": ["TextClassifier"],
            "format_version": FORMAT_VERSION,
            "problem_type": "multi_label_classification" if self.multi_label else "single_label_classification",
            "id2label": {str(i): label for i, label in enumerate(self.labels)},
            "label2id": {label: i for i, label in enumerate(self.labels)},
            "output": self.output,
            "text_columns": self.text_columns,
            "thresholds": self.thresholds,
            "temperature": self.temperature,
            "architecture": self.architecture,
        }


def read_model_config(files: ModelFiles) -> SavedConfig:
    """Read the config.json of a model.

    Raises:
        InputError: the file is missing, damaged, of a different kind of model, or written by a newer version.
    """
    path = files.where(CONFIG)
    value = files.read_json(CONFIG)
    if not isinstance(value, dict) or value.get("model_type") != "textattn":
        raise InputError("not a textattn model (model_type must be 'textattn')", place=path)
    version = value.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InputError(
            f"has format version {version!r}, but this version of textattn reads formats up to {FORMAT_VERSION}",
            "pip install --upgrade textattn",
            place=path,
        )
    try:
        names = value["id2label"]
        config = SavedConfig(
            architecture=dict(value["architecture"]),
            labels=[str(names[str(i)]) for i in range(len(names))],
            multi_label=value["problem_type"] == "multi_label_classification",
            output=str(value["output"]),
            text_columns=[str(column) for column in value["text_columns"]],
            thresholds=None if value.get("thresholds") is None else [float(t) for t in value["thresholds"]],
            temperature=float(value.get("temperature", 1.0)),
        )
        if not 0 < config.temperature < float("inf"):
            raise ValueError(f"temperature {config.temperature}")
        outputs = config.architecture["num_outputs"]
        if value["problem_type"] not in PROBLEM_TYPES or config.output not in ("softmax", "sigmoid"):
            raise ValueError(f"problem_type {value['problem_type']!r}, output {config.output!r}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"damaged ({error!r})", place=path) from None
    expected = 1 if config.output == "sigmoid" and not config.multi_label else len(config.labels)
    if outputs != expected or (config.thresholds is not None and len(config.thresholds) != len(config.labels)):
        raise InputError(
            f"damaged ({len(config.labels)} labels, {outputs} outputs"
            + (f", {len(config.thresholds)} thresholds)" if config.thresholds is not None else ")"),
            place=path,
        )
    return config


def model_metadata(config: SavedConfig, tokenizer: bytes) -> dict[str, str]:
    """Make the metadata that is stored with the weights, so that files of different models are not mixed up unnoticed.

    Args:
        config: the config that the weights were trained with.
        tokenizer: the content of tokenizer.json.
    """
    facts = {
        "architecture": config.architecture,
        "labels": config.labels,
        "tokenizer_crc32": zlib.crc32(tokenizer),
    }
    # There is only one entry, because safetensors writes several entries in an order that changes between processes,
    # and then the bytes of the file would change as well.
    return {"textattn": json.dumps(facts, ensure_ascii=False)}


def check_metadata(
    files: ModelFiles, name: str, found: Mapping[str, str], config: SavedConfig, tokenizer: bytes
) -> None:
    """Check that the weights were trained with this config and this tokenizer.

    Args:
        files: the files of the model.
        name: the file that contains the weights.
        found: the metadata of that file.
        config: the content of config.json.
        tokenizer: the content of tokenizer.json.

    Raises:
        InputError: they were trained with another config or tokenizer, or the metadata are damaged.
    """
    try:
        stored = json.loads(found.get("textattn", "{}"))
        labels, architecture = stored.get("labels", config.labels), stored.get("architecture", config.architecture)
        crc32 = stored.get("tokenizer_crc32")
        if not isinstance(labels, list):
            raise ValueError(f"labels {labels!r}")
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"damaged metadata ({error})", place=files.where(name)) from None
    if labels != config.labels:
        raise InputError(
            f"the labels are {', '.join(config.labels)}, but {name} was trained with {', '.join(map(str, labels))}",
            place=files.where(CONFIG),
        )
    if architecture != config.architecture:
        raise InputError(f"not the architecture that {name} was trained with", place=files.where(CONFIG))
    if crc32 not in (None, zlib.crc32(tokenizer)):
        raise InputError(f"not the tokenizer that {name} was trained with", place=files.where(TOKENIZER))
