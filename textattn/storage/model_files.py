"""Finding a model and reading its files, from a run directory or from a bundle. Light to import."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textattn.errors import Hint, InputError, Option
from textattn.storage.run_dir import CONFIG, METRICS, ONNX, ONNX_INT8, OWN_FILES, RUNS, STUDY, TOKENIZER, WEIGHTS

FORMAT_VERSION = 1
MODEL = Option("model")
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification")
# What a member of a bundle may unpack to: weights, which hardly shrink, and the limit of ONNX's own format; the rest.
LARGEST_GRAPH = 2**31
LARGEST_GRAPH_RATIO = 20
LARGEST_TEXT = 2**26


class ModelFiles:
    """The files of a model, whether they lie in a directory or in a zip file, which is read without unpacking it.

    Raises:
        InputError: `path` is neither.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_bundle = path.is_file()
        self._names: frozenset[str] | None = None
        if self.is_bundle:
            self._names = frozenset(self._open_bundle().namelist())

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).is_file() if self._names is None else name in self._names

    def size(self, name: str) -> int:
        """Bytes of a file that is there."""
        if self._names is None:
            return (self.path / name).stat().st_size
        size: int = self._open_bundle().getinfo(name).file_size
        return size

    def where(self, name: str) -> str:
        """How a message calls it."""
        return str(self.path / name)

    def read(self, name: str) -> bytes:
        """Its content.

        Raises:
            InputError: missing or damaged.
        """
        try:
            return (self.path / name).read_bytes() if self._names is None else self._read_member(name)
        except (FileNotFoundError, KeyError):
            raise InputError(f"{self.where(name)}: no such file") from None
        except OSError as error:
            raise InputError(f"{self.where(name)}: {error.strerror or error}") from None

    def read_json(self, name: str) -> Any:
        """The value in it.

        Raises:
            InputError: missing or damaged.
        """
        try:
            return json.loads(self.read(name).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.where(name)}: damaged ({error})") from None

    def _open_bundle(self) -> Any:
        import zipfile

        try:
            return zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise InputError(f"{self.path}: damaged, or no bundle of textattn ({error})") from None

    def _read_member(self, name: str) -> bytes:
        import zipfile

        try:
            with self._open_bundle() as bundle:
                info = bundle.getinfo(name)
                is_graph = name in (ONNX, ONNX_INT8)
                limit = min(LARGEST_GRAPH, LARGEST_GRAPH_RATIO * info.compress_size) if is_graph else LARGEST_TEXT
                # Neither what the file says of itself is believed nor more unpacked than that.
                if info.file_size > limit or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise InputError(f"{self.where(name)}: damaged ({info.file_size:,} bytes are not believable)")
                with bundle.open(info) as member:
                    content: bytes = member.read(info.file_size + 1)
                if len(content) != info.file_size:
                    raise InputError(f"{self.where(name)}: damaged (cut short)")
                return content
        # What zipfile and its decompressors raise for damage is not one class.
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
            raise InputError(f"{self.where(name)}: damaged ({error})") from None


@dataclass(frozen=True)
class ModelConfig:
    """What config.json holds."""

    architecture: dict[str, Any]
    """Arguments of `textattn.model.classifier.Architecture`."""
    labels: list[str]
    """In the order of the outputs."""
    multi_label: bool
    output: str
    """softmax or sigmoid."""
    text_columns: list[str]
    """Columns the text stood in."""
    thresholds: list[float] | None = None
    """Multi-label: a label is given from this probability on."""
    temperature: float = 1.0
    """Logits are divided by it before they become probabilities."""

    def summary(self) -> str:
        """The parts of the model in a line."""
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
        """With Hugging Face's names where it has one."""
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


def read_model_config(files: ModelFiles) -> ModelConfig:
    """config.json of a model.

    Raises:
        InputError: missing, damaged, of another kind of model, or written by a newer version.
    """
    path = files.where(CONFIG)
    value = files.read_json(CONFIG)
    if not isinstance(value, dict) or value.get("model_type") != "textattn":
        raise InputError(f"{path}: not a textattn model (model_type must be 'textattn')")
    version = value.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {version!r}, but this textattn reads up to {FORMAT_VERSION}",
            "pip install --upgrade textattn",
        )
    try:
        names = value["id2label"]
        config = ModelConfig(
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
        raise InputError(f"{path}: damaged ({error!r})") from None
    expected = 1 if config.output == "sigmoid" and not config.multi_label else len(config.labels)
    if outputs != expected or (config.thresholds is not None and len(config.thresholds) != len(config.labels)):
        raise InputError(
            f"{path}: damaged ({len(config.labels)} labels, {outputs} outputs"
            + (f", {len(config.thresholds)} thresholds)" if config.thresholds is not None else ")")
        )
    return config


def is_model(path: Path) -> bool:
    """Whether a directory holds a model that can be loaded, finished or not."""
    return (path / CONFIG).is_file() and any((path / name).is_file() for name in (WEIGHTS, ONNX, ONNX_INT8))


def newest_run(root: Path = RUNS) -> Path | None:
    """The run under `root` that finished last."""
    finished = [path.parent for path in root.glob(f"*/{METRICS}")] + [
        path.parent for depth in ("*/*", "*/*/*") for path in root.glob(f"{depth}/{METRICS}")
    ]
    finished = [run for run in finished if is_model(run)]
    if root == RUNS:
        # A search trains many models to be compared, not to be used.
        finished = [run for run in finished if not (run.parent.parent / STUDY).is_file()]
    return max(finished, key=lambda run: (run / METRICS).stat().st_mtime_ns, default=None)


def find_model(name: str | None) -> Path:
    """The run directory or bundle of a model: `name`, else $TEXTATTN_MODEL, else the newest finished run under runs/.

    A name that is no directory here is taken for a Hub repository, `user/name` or `user/name@revision`.

    Raises:
        InputError: there is none.
    """
    name = name or os.environ.get("TEXTATTN_MODEL") or None
    if name is None:
        newest = newest_run()
        if newest is None:
            raise InputError("no model: there is no finished run under runs/", "textattn train quickstart")
        return newest
    path = Path(name)
    if is_model(path):
        return path
    if path.is_file():
        if not _is_bundle(path):
            raise InputError(
                f"{path} is a file, but no bundle of textattn", Option("model", path.parent), setting=MODEL
            )
        return path
    if path.is_dir():
        newest = newest_run(path)
        if newest is not None:
            return newest
        missing = [file for file in (CONFIG, WEIGHTS) if not (path / file).is_file()]
        raise InputError(f"{path}: no model in this folder ({' and '.join(missing)} missing)")
    return _from_hub(name)


def _instead() -> Hint:
    """The model to name instead, if there is one; else how to train one."""
    newest = newest_run()
    return "textattn train quickstart" if newest is None else Option("model", newest)


def _is_bundle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _from_hub(name: str) -> Path:
    repo_id, _, revision = name.removeprefix("hf://").partition("@")
    if repo_id.count("/") != 1 or repo_id.startswith((".", "/", "~")):
        raise InputError(f"no such folder: {name}", _instead(), setting=MODEL)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(repo_id, revision=revision or None, allow_patterns=[*OWN_FILES, "*.zip"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        from textattn.storage.hub import first_line, offline_variable

        variable = offline_variable()
        raise InputError(
            f"{name!r} is neither a folder here nor could it be read from the Hub: "
            + (f"{variable} is set" if variable else first_line(error)),
            _instead(),
            setting=MODEL,
        ) from None
    bundles = list(path.glob("*.zip"))
    if not is_model(path) and len(bundles) == 1:
        return bundles[0]
    if not is_model(path):
        raise InputError(f"{name!r} on the Hub is not a textattn model", setting=MODEL)
    return path


def model_metadata(config: ModelConfig, tokenizer: bytes) -> dict[str, str]:
    """Stored inside the weights: what they were trained with, should files ever be mixed up.

    Args:
        tokenizer: content of tokenizer.json.
    """
    facts = {
        "architecture": config.architecture,
        "labels": config.labels,
        "tokenizer_crc32": zlib.crc32(tokenizer),
    }
    # One entry only: safetensors writes several in an order that changes from process to process, and so the bytes.
    return {"textattn": json.dumps(facts, ensure_ascii=False)}


def check_metadata(
    files: ModelFiles, name: str, found: Mapping[str, str], config: ModelConfig, tokenizer: bytes
) -> None:
    """Refuses weights in the file `name` that were not trained with this config.json and this tokenizer.

    Raises:
        InputError: they differ.
    """
    try:
        stored = json.loads(found.get("textattn", "{}"))
        labels, architecture = stored.get("labels", config.labels), stored.get("architecture", config.architecture)
        crc32 = stored.get("tokenizer_crc32")
        if not isinstance(labels, list):
            raise ValueError(f"labels {labels!r}")
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{files.where(name)}: damaged metadata ({error})") from None
    if labels != config.labels:
        raise InputError(
            f"{files.where(CONFIG)}: the labels are {', '.join(config.labels)}, "
            f"but {name} was trained with {', '.join(map(str, labels))}"
        )
    if architecture != config.architecture:
        raise InputError(f"{files.where(CONFIG)}: not the architecture that {name} was trained with")
    if crc32 not in (None, zlib.crc32(tokenizer)):
        raise InputError(f"{files.where(TOKENIZER)}: not the tokenizer that {name} was trained with")
