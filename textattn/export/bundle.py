"""A model in one file: a zip of what prediction needs, which `--model` takes as it is."""

from __future__ import annotations

import zipfile
from pathlib import Path

from textattn.errors import ConfigError
from textattn.storage.files import atomic_path
from textattn.storage.model_files import ModelFiles
from textattn.storage.run_dir import (
    CONFIG,
    METRICS,
    MODEL_CARD,
    ONNX,
    ONNX_INT8,
    PLOTS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    TRAINING_CONFIG,
)

# The same content gives the same bytes: the oldest time a zip can say.
TIME = (1980, 1, 1, 0, 0, 0)


def check_bundle(file: Path, overwrite: bool) -> None:
    """Refuses a file that a bundle must not be written to; changes nothing.

    Raises:
        ConfigError: it is a folder, or exists and `overwrite` is not given.
    """
    if file.is_dir():
        raise ConfigError(f"--bundle: {file} is a folder", f"--bundle {file / 'model.zip'}")
    if file.exists() and not overwrite:
        raise ConfigError(f"--bundle: {file} exists; nothing was changed", "--overwrite")


def write_bundle(run: Path, file: Path, *, int8: bool, overwrite: bool) -> int:
    """Writes the bundle and returns its size in bytes.

    Args:
        int8: with model.int8.onnx in place of model.onnx.

    Raises:
        ConfigError: see `check_bundle`, or the file cannot be written.
        InputError: the run lacks a file.
    """
    check_bundle(file, overwrite)
    files = ModelFiles(run)
    needed = [CONFIG, TOKENIZER, TOKENIZER_CONFIG, ONNX_INT8 if int8 else ONNX]
    pictures = sorted(path.relative_to(run).as_posix() for path in (run / PLOTS).glob("*.png"))  # of the model card
    optional = [name for name in (TRAINING_CONFIG, METRICS, MODEL_CARD, *pictures) if files.has(name)]
    contents = {name: files.read(name) for name in (*needed, *optional)}
    try:
        with atomic_path(file) as temporary, zipfile.ZipFile(temporary, "w") as bundle:
            for name, content in contents.items():
                info = zipfile.ZipInfo(name, TIME)
                # Floats hardly shrink, and unpacking them takes longer than all else at the start of a prediction.
                info.compress_type = zipfile.ZIP_STORED if name == ONNX else zipfile.ZIP_DEFLATED
                bundle.writestr(info, content, compresslevel=9)
        return file.stat().st_size
    except OSError as error:
        raise ConfigError(
            f"--bundle: {file} cannot be written: {error.strerror or error}", "--bundle /some/other/file.zip"
        ) from None
