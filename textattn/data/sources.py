"""Where a config says the texts are: files, folders, bundled corpora, data sets of the Hub; opened, not yet read."""

from __future__ import annotations

import contextlib
import glob
import itertools
import shlex
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from textattn.config.data_section import DataConfig, DataFiles
from textattn.data.files import open_file, refuse_special
from textattn.data.folders import CARD, data_files, is_saved, split_files
from textattn.data.formats import ReadOptions, is_table
from textattn.data.table import Table
from textattn.errors import InputError
from textattn.storage.hub import PREFIX

CORPUS = Path(__file__).parent.parent / "corpus"
BUNDLED = "bundled:"
# Of a folder, as many names are compared with a misspelt one.
MOST_NAMES = 1000
# Split name -> its tables.
Tables = dict[str, list[Table]]


def sources(config: DataConfig) -> list[DataConfig]:
    """The labelled data, and after them the texts without labels where those come from elsewhere."""
    unlabelled = config.unlabelled
    if unlabelled is None or unlabelled.path is None:
        return [config]
    place: dict[str, Any] = {"path": unlabelled.path, "files": None}
    if not isinstance(unlabelled.path, str):
        place = {"path": None, "files": DataFiles(train=unlabelled.path)}
    return [
        config,
        config.model_copy(
            update={
                **place,
                "name": unlabelled.name,
                "revision": unlabelled.revision,
                "text": unlabelled.text or config.text,
                "unlabelled": None,
                "max_train_examples": None,
            }
        ),
    ]


def open_hub(config: DataConfig, seed: int) -> list[Tables | None]:
    """Of each of `sources` its tables where it is on the Hub: what they hold has a name only once they are opened."""
    return [_open(source, seed, i > 0) if is_on_hub(source) else None for i, source in enumerate(sources(config))]


def open_others(config: DataConfig, opened: list[Tables | None]) -> list[Tables]:
    """The tables of each of `sources`: those that `open_hub` opened, and local ones."""
    found = zip(sources(config), opened, strict=True)
    return [_open(source, 0, i > 0) if tables is None else tables for i, (source, tables) in enumerate(found)]


def _open(source: DataConfig, seed: int, elsewhere: bool) -> Tables:
    try:
        return open_tables(source, seed)
    except InputError as error:
        if not elsewhere:
            raise
        # The same settings stand in another section.
        raise InputError(*error.in_section("data", "data.unlabelled")) from None


def open_tables(config: DataConfig, seed: int = 0) -> Tables:
    """Split name -> its tables. A single file is the training split.

    Args:
        seed: of the rows drawn where `streaming` reads a part.
    """
    options = read_options(config)
    if config.files is not None:
        listed = config.files.model_dump()
        renamed = {"train": config.train_split, "validation": config.validation_split, "test": config.test_split}
        return {
            renamed.get(split) or split: [open_file(path, options) for path in _expand(files)]
            for split, files in listed.items()
            if files is not None
        }
    assert config.path is not None
    path = config.path
    if path.startswith(BUNDLED):
        folder = CORPUS / path.removeprefix(BUNDLED)
        found = {file.stem: [open_file(file)] for file in sorted(folder.glob("*.jsonl"))}
        if not found:
            raise InputError(f"no bundled corpus {path!r}; there is bundled:reviews", setting="data.path")
        return {split: [replace(t, origin=f"{path}[{split}]") for t in tables] for split, tables in found.items()}
    if is_file(path):
        return {config.train_split: [open_file(file, options) for file in _expand(path)]}
    if Path(path).is_dir() and not is_saved(Path(path)):
        return _open_folder(Path(path), config.name, options)
    from textattn.data.hub import load_saved, load_splits, stream_splits

    if Path(path).is_dir():
        return {split: [table] for split, table in load_saved(path).items()}
    if config.streaming and is_on_hub(config):
        at_most = {config.train_split: config.max_train_examples}
        splits = stream_splits(path, config.name, config.revision, at_most, seed)
    else:
        splits = load_splits(path, config.name, config.revision)
    return {split: [table] for split, table in splits.items()}


def _open_folder(folder: Path, name: str | None, options: ReadOptions) -> Tables:
    splits, note = split_files(folder, name)
    tables = {split: [open_file(file, options) for file in files] for split, files in splits.items()}
    if note is not None:
        first, *others = tables["train"]
        tables["train"] = [replace(first, notes=(*first.notes, note)), *others]
    return tables


def read_options(config: DataConfig) -> ReadOptions:
    """How the files of a config are written, as far as the config says."""
    delimiter = "\t" if config.delimiter == "tab" else config.delimiter
    return ReadOptions(config.encoding, delimiter, config.quoting, config.escape, config.header)


def is_named(file: Path, config: DataConfig) -> bool:
    """Whether a file is one of those that a config names."""
    if config.path is not None and not is_file(config.path):
        return False
    with contextlib.suppress(InputError, OSError):
        return any(file.samefile(named) for named in source_files(config))
    return False


def is_on_hub(config: DataConfig) -> bool:
    """Whether `data.path` names a data set that `datasets` has to look for."""
    path = config.path
    return not (path is None or path.startswith(BUNDLED) or is_file(path) or Path(path).is_dir())


def source_files(config: DataConfig) -> list[Path]:
    """The local files that the data are read from; of a folder all there are.

    Raises:
        InputError: a file is missing.
    """
    if config.files is not None:
        return [file for files in config.files.model_dump().values() if files is not None for file in _expand(files)]
    assert config.path is not None
    if config.path.startswith(BUNDLED):
        return sorted((CORPUS / config.path.removeprefix(BUNDLED)).glob("*.jsonl"))
    if is_file(config.path):
        return _expand(config.path)
    folder = Path(config.path)
    if is_saved(folder):
        return sorted(file for file in folder.rglob("*") if file.is_file())
    card = folder / CARD
    return [*data_files(folder), *([card] if card.is_file() else [])]


def is_file(path: str) -> bool:
    """Whether `data.path` means a file (or a pattern of files), not a folder or a Hub data set."""
    if path.startswith(PREFIX):
        return False
    return Path(path).is_file() or (is_table(path) and not Path(path).is_dir())


def _expand(files: str | Sequence[str]) -> list[Path]:
    paths: list[Path] = []
    for pattern in [files] if isinstance(files, str) else files:
        found = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (absolute patterns)
        if not found:
            near = [shlex.quote(str(Path(pattern).with_name(name))) for name in _similar_files(Path(pattern))]
            raise InputError(f"{pattern}: no such file", f"there is {' and '.join(near)}" if near else None)
        paths += map(Path, found)
    for path in paths:
        with contextlib.suppress(OSError):  # said where the file is opened
            refuse_special(path)
    return paths


def _similar_files(path: Path) -> list[str]:
    if not path.parent.is_dir():
        return []
    # In a folder of very many files nobody waits until all have been compared.
    names = sorted(file.name for file in itertools.islice(path.parent.iterdir(), MOST_NAMES))
    return get_close_matches(path.name, names, n=3)
