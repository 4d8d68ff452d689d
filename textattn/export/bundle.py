"""A bundle: a zip file with all files that prediction needs. `--model` accepts it."""

from __future__ import annotations

import zipfile
from pathlib import Path

from textattn.errors import ConfigError, Option
from textattn.storage.checksums import CHECKSUMS, checksum, to_bytes
from textattn.storage.files import atomic_path, check_new
from textattn.storage.model_files import ModelFiles
from textattn.storage.run_dir import (
    CONFIG,
    METRICS,
    MODEL_CARD,
    ONNX,
    ONNX_INT8,
    PLOTS,
    REFERENCE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    TRAINING_CONFIG,
)

# All entries have the oldest time that a zip file allows, so that equal contents give equal bytes.
TIME = (1980, 1, 1, 0, 0, 0)
BUNDLE = Option("bundle")


def check_bundle(file: Path, overwrite: bool) -> None:
    """Check that a bundle may be written to a file. Nothing is changed.

    Raises:
        ConfigError: the file is a folder, or it exists and `overwrite` is not set.
    """
    if file.is_dir():
        raise ConfigError(f"{file} is a folder", Option("bundle", str(file / "model.zip")), setting=BUNDLE)
    check_new(file, overwrite, BUNDLE)


def write_bundle(run: Path, file: Path, *, int8: bool, overwrite: bool) -> int:
    """Write a bundle and return its size in bytes.

    Args:
        run: the run directory.
        file: the bundle.
        int8: include model.int8.onnx instead of model.onnx.
        overwrite: replace an existing file.

    Raises:
        ConfigError: see `check_bundle`; or the file cannot be written.
        InputError: a file of the run is missing.
    """
    check_bundle(file, overwrite)
    files = ModelFiles(run)
    needed = [CONFIG, TOKENIZER, TOKENIZER_CONFIG, ONNX_INT8 if int8 else ONNX]
    # The model card shows the plots.
    pictures = sorted(path.relative_to(run).as_posix() for path in (run / PLOTS).glob("*.png"))
    optional = [name for name in (TRAINING_CONFIG, METRICS, REFERENCE, MODEL_CARD, *pictures) if files.has(name)]
    contents = {name: files.read(name) for name in (*needed, *optional)}
    contents[CHECKSUMS] = to_bytes({name: checksum(contents[name]) for name in needed})
    try:
        with atomic_path(file) as temporary:
            with zipfile.ZipFile(temporary, "w") as bundle:
                for name, content in contents.items():
                    info = zipfile.ZipInfo(name, TIME)
                    # Floats hardly shrink, and decompressing them would dominate the start of a prediction.
                    info.compress_type = zipfile.ZIP_STORED if name == ONNX else zipfile.ZIP_DEFLATED
                    bundle.writestr(info, content, compresslevel=9)
            size = temporary.stat().st_size
        return size
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror or error}",
            Option("bundle", "/some/other/file.zip"),
            setting=BUNDLE,
        ) from None
