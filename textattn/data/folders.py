"""A local folder of data files: which of them are which split, told by names as `datasets` tells it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from textattn.data.formats import COMPRESSED, format_of, input_format_of
from textattn.errors import InputError, Setting

WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
# What stands around such a word in the name of a file or a folder.
BESIDE = "[-._ 0-9]"
SPLIT = {
    split: re.compile(f"(?:.*{BESIDE})?(?:{'|'.join(words)})(?:{BESIDE}.*)?", re.DOTALL)
    for split, words in WORDS.items()
}
# data/train-00000-of-00002.parquet; the name of the split may be any.
SHARD = re.compile(r"(\w+)-\d{5}-of-\d{5}.*\..*")
# Files about the data.
ABOUT = ("README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
CARD = "README.md"
# What `textattn.storage` writes into the directory of a run.
RUN = "RUNDIR.TAG"
# What `datasets.save_to_disk` leaves in a folder.
SAVED = (("dataset_dict.json",), ("state.json", "dataset_info.json"))
SHOWN = 3

Splits = dict[str, list[Path]]


def is_saved(folder: Path) -> bool:
    """Whether `datasets.save_to_disk` wrote a folder."""
    return any(all((folder / name).is_file() for name in names) for names in SAVED)


def has_data(folder: Path) -> bool:
    """Whether there is a data file below a folder, or `datasets.save_to_disk` wrote it.

    Raises:
        InputError: a folder cannot be read.
    """
    return is_saved(folder) or any(map(_is_data, map(Path, _walk(str(folder), []))))


def split_files(folder: Path, name: str | None = None) -> tuple[Splits, str | None]:
    """The data files of each split, sorted, and a note if no name tells a split.

    Args:
        name: the subset, where a data card in the folder lists several.

    Raises:
        InputError: there are no data files, those of a split are of several formats, or the card names no such subset.
    """
    files = data_files(folder)
    if not files:
        raise InputError(f"{folder}: no data files in this folder", "a csv, jsonl or parquet file", setting="data.path")
    names = {path: path.relative_to(folder).parts for path in files}
    note = None
    splits = _of_card(folder, names, name) or _of_shards(names) or _of_names(names, 0) or _of_names(names, 1)
    if not splits:
        splits = {"train": files}
        if len(files) > 1:
            some = ", ".join("/".join(names[path]) for path in files[:SHOWN])
            more = f" and {len(files) - SHOWN:,} more" if len(files) > SHOWN else ""
            note = f"{folder}: no name tells a split, so all files are the training split: {some}{more}"
    for split, members in splits.items():
        formats = sorted({kind.name for path in members if (kind := input_format_of(path)) is not None})
        if len(formats) > 1 and not _same_columns_of_text(formats):
            raise InputError(
                f"{folder}: the files of the split {split!r} are of several formats ({', '.join(formats)}), "
                "so they may hold the same rows",
                Setting(f"data.files.{split if split in WORDS else 'train'}", str(members[0])),
            )
    return splits, note


def _same_columns_of_text(formats: list[str]) -> bool:
    """Whether the formats are spellings of one."""
    return set(formats) <= {"json", "jsonl"}


def data_files(folder: Path) -> list[Path]:
    """All data files below a folder, sorted; hidden ones, and files about the data, are none."""
    known = list(filter(_is_data, map(Path, _walk(str(folder), []))))
    labelled = [path for path in known if (kind := input_format_of(path)) is not None and kind.labelled]
    # LICENSE.txt beside csv files is no data.
    return sorted(labelled or known)


def _is_data(file: Path) -> bool:
    return file.name not in ABOUT and input_format_of(file) is not None


def _walk(folder: str, above: list[tuple[int, int]]) -> Iterator[str]:
    try:
        status = os.stat(folder)  # noqa: PTH116 (strings are much faster for many files)
        place = (status.st_dev, status.st_ino)
        if place in above:  # a link that leads back
            return
        with os.scandir(folder) as found:
            entries = list(found)
            if any(entry.name == RUN for entry in entries):
                return  # predictions and attention of a model are no data
            for entry in entries:
                if entry.name.startswith((".", "__")):
                    continue
                if entry.is_dir():
                    yield from _walk(entry.path, [*above, place])
                elif entry.is_file():
                    yield entry.path
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}", setting="data.path") from None


def _of_shards(names: dict[Path, tuple[str, ...]]) -> Splits:
    found: Splits = {}
    for path, parts in names.items():
        match = SHARD.fullmatch(parts[-1])
        if match and len(parts) == 2 and parts[0] == "data":
            found.setdefault(match[1], []).append(path)
    return found


def _of_names(names: dict[Path, tuple[str, ...]], part: int) -> Splits:
    """By the names of folders (part 0) or of files (part 1); a name with two such words is in no split twice."""
    found: Splits = {split: [] for split in WORDS}
    for path, parts in names.items():
        stems = parts[:-1] if part == 0 else (_stem(parts[-1]),)
        splits = [split for split, pattern in SPLIT.items() if any(pattern.fullmatch(stem) for stem in stems)]
        if len(splits) > 1:
            raise InputError(
                f"{path}: the name means several splits ({', '.join(splits)})", Setting("data.files.train", str(path))
            )
        for split in splits:
            found[split].append(path)
    return {split: files for split, files in found.items() if files}


def _stem(name: str) -> str:
    """The name of a file without what tells its format."""
    path = Path(name)
    while path.suffix.lower() in COMPRESSED or format_of(path) is not None:
        path = path.with_suffix("")
    return path.name


def _of_card(folder: Path, names: dict[Path, tuple[str, ...]], name: str | None) -> Splits:
    """The splits that the data card of a folder lists, as one that was copied from the Hub has it."""
    configs = _configs(folder / CARD)
    if not configs:
        if name is not None and (folder / name).is_dir():
            inner = {path: parts[1:] for path, parts in names.items() if parts[0] == name}
            return _of_names(inner, 0) or _of_names(inner, 1) or {"train": sorted(inner)}
        return {}
    known = {str(config.get("config_name", "default")): config for config in configs}
    default = next((key for key, config in known.items() if config.get("default") is True or key == "default"), None)
    wanted = name or (default if default is not None else next(iter(known)) if len(known) == 1 else None)
    if wanted not in known:
        problem = f"no subset {name!r}" if name else "several subsets"
        raise InputError(
            f"{folder}: {problem}; subsets are: {', '.join(known)}", Setting("data.name", next(iter(known)))
        )
    beneath = str(known[wanted].get("data_dir") or "").strip("/")
    found: Splits = {}
    for split, patterns in _patterns(known[wanted].get("data_files")):
        files = found.setdefault(split, [])
        for pattern in patterns:
            full = "/".join(part for part in (beneath, pattern.removeprefix("./")) if part)
            files += [path for path, parts in names.items() if path not in files and _matches("/".join(parts), full)]
    missing = [split for split, files in found.items() if not files]
    if missing:
        raise InputError(f"{folder / CARD}: no file of the split {missing[0]!r} is there")
    return found


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern) or name.startswith(pattern.rstrip("/") + "/")


def _configs(card: Path) -> list[dict[str, Any]]:
    """The subsets in the head of a data card; none if it has no such head, or a damaged one."""
    import yaml

    try:
        text = card.read_text(encoding="utf-8")
        head = text.split("---", 2)[1] if text.startswith("---") else ""
        values = yaml.safe_load(head)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, IndexError, RecursionError, ValueError):
        return []
    configs = values.get("configs") if isinstance(values, dict) else None
    return [c for c in configs if isinstance(c, dict) and c.get("data_files")] if isinstance(configs, list) else []


def _patterns(data_files: Any) -> Iterator[tuple[str, list[str]]]:
    """Split and patterns, in any of the forms that a data card may have."""
    if isinstance(data_files, dict):
        for split, patterns in data_files.items():
            yield str(split), _texts(patterns)
    elif isinstance(data_files, list) and any(isinstance(item, dict) for item in data_files):
        for item in data_files:
            if isinstance(item, dict):
                yield str(item.get("split", "train")), _texts(item.get("path"))
    else:
        yield "train", _texts(data_files)


def _texts(value: Any) -> list[str]:
    values: Iterable[Any] = value if isinstance(value, list) else [value]
    return [str(item) for item in values if isinstance(item, str)]
