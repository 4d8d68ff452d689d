"""Read the files of a model, from a run directory or from a bundle. Importing this module is fast."""

from __future__ import annotations

import contextlib
import json
import mmap
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from textattn.errors import Hint, InputError, shell_command
from textattn.storage.checksums import CHECKSUMS, checksum, damaged, from_bytes
from textattn.storage.reading import LARGEST_JSON, check_regular, parse_json, read_regular, too_large
from textattn.storage.run_dir import CONFIG, ONNX, ONNX_INT8, TOKENIZER, WEIGHTS
from textattn.storage.target import Target

FORMAT_VERSION = 1
OUTPUTS = ("softmax", "sigmoid", "ordinal", "number")
# The entries of the architecture that every version has written, with their types.
ARCHITECTURE = {
    "vocab_size": int, "num_outputs": int, "embedding_dim": int, "hidden_size": int, "num_layers": int,
    "encoder": str, "attention": str, "bidirectional": bool,
}  # fmt: skip
LARGEST_SIZE = 2**31
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")
# Limits for the size of files, in bytes, against damaged and malicious ones. The ONNX format limits graphs to 2 GiB.
# All files but the weights are small: the largest tokenizers have 34 MB.
LARGEST = {ONNX: 2**31, ONNX_INT8: 2**31, WEIGHTS: 2**33, TOKENIZER: 2**26, CHECKSUMS: 2**16}
LARGEST_OTHER = LARGEST_JSON
# Graphs consist of weights, which hardly compress in a bundle. A linear part also has a table of buckets, mostly zeros
# if it knows few n-grams; 64 MiB of anything harm nobody.
LARGEST_GRAPH_RATIO, HARMLESS_GRAPH = 20, 2**26


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

    def names_in(self, folder: str) -> list[str]:
        """The names of the files in a folder of the model, without that of the folder."""
        if self._names is None:
            place = self.path / folder
            return sorted(item.name for item in place.iterdir() if item.is_file()) if place.is_dir() else []
        return sorted(name.removeprefix(f"{folder}/") for name in self._names if name.startswith(f"{folder}/"))

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
            InputError: the file is missing, is no ordinary file, is too large, or has changed since it was written.
        """
        content = self._read(name)
        self._verify(name, content)
        return content

    @contextlib.contextmanager
    def view(self, name: str) -> Iterator[bytes | mmap.mmap]:
        """Provide the content of a file without reading all of it into memory; only a bundle's must be.

        Raises:
            InputError: as for `read`.
        """
        if self.is_bundle:
            yield self.read(name)
            return
        with self._errors_named(name):
            check_regular(self.path / name, _limit(name))
            file = (self.path / name).open("rb")
        with file:
            try:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:
                raise self._damaged(name, "empty") from None
            except OSError as error:
                raise InputError(error.strerror or str(error), place=self.where(name)) from None
            with content:
                self._verify(name, content)
                yield content

    def read_json(self, name: str) -> Any:
        """Read a JSON file.

        Raises:
            InputError: as for `read`, or the content is not JSON or contains a number that is not finite.
        """
        try:
            return parse_json(self.read(name))
        except ValueError as error:
            raise self._damaged(name, error) from None

    @cached_property
    def _checksums(self) -> Mapping[str, str]:
        """The stored checksums by file name; empty for models of earlier versions."""
        return from_bytes(self._read(CHECKSUMS), self.where(CHECKSUMS)) if self.has(CHECKSUMS) else {}

    def _verify(self, name: str, content: bytes | mmap.mmap) -> None:
        expected = self._checksums.get(name)
        if expected is not None and expected != checksum(content):
            raise damaged(self.where(name), hint=self._remedy(name))

    def _remedy(self, name: str) -> Hint:
        """What helps against a damaged graph: it can be written again. None for other files."""
        if name not in (ONNX, ONNX_INT8) or self.is_bundle or not self.has(WEIGHTS):
            return None
        return shell_command("textattn export --model {}", self.path) + " --int8" * (name == ONNX_INT8)

    def _read(self, name: str) -> bytes:
        with self._errors_named(name):
            return read_regular(self.path / name, _limit(name)) if self._names is None else self._read_member(name)

    @contextlib.contextmanager
    def _errors_named(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, KeyError):
            raise InputError("no such file", place=self.where(name)) from None
        except OSError as error:
            raise InputError(error.strerror or str(error), place=self.where(name)) from None

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
                if info.file_size > _limit(name):
                    raise too_large(info.file_size, _limit(name), self.where(name))
                plausible = max(LARGEST_GRAPH_RATIO * info.compress_size, HARMLESS_GRAPH)
                is_bomb = name in (ONNX, ONNX_INT8) and info.file_size > plausible
                # The size in the header may be wrong: it must be plausible, and no more than that is unpacked.
                if is_bomb or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise self._damaged(name, f"a size of {info.file_size:,} bytes is not plausible")
                with bundle.open(info) as member:
                    content: bytes = member.read(info.file_size + 1)
                if len(content) != info.file_size:
                    raise self._damaged(name, "truncated")
                return content
        # zipfile and its decompressors raise several classes of exceptions for damaged files.
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
            raise self._damaged(name, error) from None


def _limit(name: str) -> int:
    return LARGEST.get(name, LARGEST_OTHER)


@dataclass(frozen=True)
class SavedConfig:
    """The content of config.json."""

    architecture: dict[str, Any]
    """Arguments of `textattn.model.classifier.Architecture`."""
    labels: list[str]
    """The names of the labels, in the order of the outputs."""
    multi_label: bool
    output: str
    """softmax, sigmoid, ordinal or number."""
    text_columns: list[str]
    """The columns of the training data that contained the text."""
    thresholds: list[float] | None = None
    """Multi-label models only: a text gets a label if its probability is at least this high; one value per label."""
    temperature: float = 1.0
    """The logits are divided by this value before they are turned into probabilities."""
    target: Target | None = None
    """The scale of the numbers that the model predicts; None for labels."""

    @property
    def has_network(self) -> bool:
        """Whether there is a network, with attention, and not a linear model alone (`model.linear: only`)."""
        return self.architecture.get("linear") != "only"

    def summary(self) -> str:
        """Describe the parts of the model in one line."""
        a = self.architecture
        if not self.has_network:
            return f"linear model on n-grams of up to {a['ngrams']} token{'s' * (a['ngrams'] > 1)}, {self.output}"
        parts = [f"embedding {a['embedding_dim']}"]
        if a["encoder"] != "none":
            direction = "bidirectional" if a["bidirectional"] else "one direction"
            layers = f"{a['num_layers']} layer{'s' * (a['num_layers'] > 1)}"
            parts.append(f"{a['encoder'].upper()} {a['hidden_size']} ({direction}, {layers})")
        parts.append(f"{a['attention']} attention")
        if window := a.get("window_size", 0):
            parts[-1] += f" in windows of {window} tokens"
        if longest := a.get("ngrams", 0):
            parts.append(f"n-grams of up to {longest} token{'s' * (longest > 1)}")
        return ", ".join([*parts, self.output])

    @property
    def problem_type(self) -> str:
        """Hugging Face's name of the kind of task."""
        if self.target is not None:
            return "regression"
        return "multi_label_classification" if self.multi_label else "single_label_classification"

    def to_json(self) -> dict[str, Any]:
        """The content of config.json, with Hugging Face's names where they exist."""
        value: dict[str, Any] = {
            "model_type": "textattn",
            "architectures": ["TextClassifier"],
            "format_version": FORMAT_VERSION,
            "problem_type": self.problem_type,
            "id2label": {str(i): label for i, label in enumerate(self.labels)},
            "label2id": {label: i for i, label in enumerate(self.labels)},
            "output": self.output,
            "text_columns": self.text_columns,
            "thresholds": self.thresholds,
            "temperature": self.temperature,
            "architecture": self.architecture,
        }
        return value if self.target is None else value | {"target": self.target.to_json()}


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
            target=Target.from_json(value["target"]) if value["problem_type"] == "regression" else None,
        )
        if not 0 < config.temperature < float("inf"):
            raise ValueError(f"temperature {config.temperature}")
        _check_architecture(config.architecture)
        outputs = config.architecture["num_outputs"]
        if value["problem_type"] not in PROBLEM_TYPES or config.output not in OUTPUTS:
            raise ValueError(f"problem_type {value['problem_type']!r}, output {config.output!r}")
        if (config.target is None) == (config.output == "number"):
            raise ValueError(f"problem_type {value['problem_type']!r}, output {config.output!r}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"damaged ({error!r})", place=path) from None
    expected = len(config.labels)
    if not config.multi_label and config.output != "softmax":
        expected = len(config.labels) - 1 if config.output == "ordinal" else 1
    if outputs != expected or (config.thresholds is not None and len(config.thresholds) != len(config.labels)):
        raise InputError(
            f"damaged ({len(config.labels)} labels, {outputs} outputs"
            + (f", {len(config.thresholds)} thresholds)" if config.thresholds is not None else ")"),
            place=path,
        )
    return config


def _check_architecture(architecture: Mapping[str, Any]) -> None:
    """Raises ValueError where a value has another type than `Architecture` gives it."""
    for name, kind in ARCHITECTURE.items():
        value = architecture[name]
        # True is an int to isinstance.
        is_kind = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
        if not is_kind or (isinstance(value, int) and kind is int and not 0 < value < LARGEST_SIZE):
            raise ValueError(f"architecture.{name} {value!r}")
    # Earlier versions had no n-grams.
    longest = architecture.get("ngrams", 0)
    if type(longest) is not int or longest < 0:
        raise ValueError(f"architecture.ngrams {longest!r}")
    # Nor weights that are fitted before the network.
    features = architecture.get("ngram_features", 0)
    if type(features) is not int or not 0 <= features < LARGEST_SIZE:
        raise ValueError(f"architecture.ngram_features {features!r}")
    # Nor windows.
    window = architecture.get("window_size", 0)
    if type(window) is not int or not 0 <= window < LARGEST_SIZE:
        raise ValueError(f"architecture.window_size {window!r}")


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
