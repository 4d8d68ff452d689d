"""Data sets of `datasets`: from the Hugging Face Hub, downloaded or read as they come, or saved to a folder."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from textattn.data.table import Row, RowProblem, Table, class_names_of, separator_advice
from textattn.errors import InputError, Setting
from textattn.storage.hub import PREFIX, first_line, looks_like_a_path, offline_variable, tell

COMMIT = re.compile(r"[0-9a-f]{40}")
# Rows held in memory of which one is drawn at a time.
SHUFFLE_BUFFER = 10_000


def load_saved(path: str) -> dict[str, Table]:
    """The splits of a folder that `datasets.save_to_disk` wrote; a data set without splits is the training split.

    Raises:
        InputError: it is damaged.
    """
    import datasets

    with _explained(path):
        try:
            loaded = datasets.load_from_disk(path)
        except (KeyError, TypeError, AttributeError, RecursionError, ArithmeticError) as error:
            raise InputError(f"{path}: damaged ({type(error).__name__}: {error})", setting="data.path") from None
        splits = loaded if isinstance(loaded, dict) else {"train": loaded}
        return {str(split): _table(path, str(split), rows, None, rows._fingerprint) for split, rows in splits.items()}


def load_splits(path: str, name: str | None, revision: str | None) -> dict[str, Table]:
    """The splits of a Hub data set, memory-mapped by `datasets`.

    Raises:
        InputError: not found, not readable, no network, or only available as a loading script.
    """
    import datasets

    with _explained(path):
        source = path.removeprefix(PREFIX)
        loaded = datasets.load_dataset(source, name=name, revision=revision)
        tables = {
            str(split): _table(path, str(split), rows, _commit(rows), rows._fingerprint)
            for split, rows in loaded.items()
        }
    for commit in {table.revision for table in tables.values() if table.revision is not None}:
        tell("dataset", "data set", source, commit)
    return tables


def stream_splits(
    path: str, name: str | None, revision: str | None, at_most: dict[str, int | None], seed: int
) -> dict[str, Table]:
    """The same of a Hub data set, read over the network each time; nothing is kept on disk.

    Args:
        at_most: how many rows of a split are drawn; what comes after them, and after a buffer, is not read. Not named,
            or None: all, in their order.
        seed: decides which.

    Raises:
        InputError: as `load_splits`; so do the rows, where the network fails on the way.
    """
    import datasets
    from huggingface_hub import HfApi

    with _explained(path):
        repo_id = path.removeprefix(PREFIX)
        # What is read, and goes by that name in the cache, must not change on the way.
        commit = HfApi().dataset_info(repo_id, revision=revision).sha
        loaded = datasets.load_dataset(repo_id, name=name, revision=commit, streaming=True)
        if commit is not None:
            tell("dataset", "data set", repo_id, commit)
        tables = {}
        for split, rows in loaded.items():
            limit = at_most.get(str(split))
            if limit is not None:
                rows = rows.shuffle(seed=seed, buffer_size=max(SHUFFLE_BUFFER, limit)).take(limit)
            tables[str(split)] = _table(path, str(split), rows, commit, commit)
        return tables


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """What goes wrong with a data set is said as an InputError."""
    if not _is_local(path):
        _check_repo_id(path)
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    if not os.isatty(2):
        datasets.disable_progress_bars()
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise _unreachable(path, error) from None
    except (DatasetNotFoundError, RepositoryNotFoundError) as error:
        if offline_variable():
            raise _unreachable(path, error) from None
        raise InputError(
            f"{path!r} is neither a file nor a folder here, nor a data set on the Hub "
            f"(private and gated ones need `hf auth login`)",
            f"https://huggingface.co/datasets?search={quote(path.split('/')[-1])}",
            setting="data.path",
        ) from None
    except (HfHubHTTPError, ConnectionError) as error:
        raise _unreachable(path, error) from None
    except datasets.exceptions.DatasetGenerationError as error:
        raise InputError(f"{path}: could not be read: {error.__cause__ or error}", setting="data.path") from None
    except (KeyError, TypeError, AttributeError) as error:
        # Of a feature type, such as a label without names, that somebody wrote by hand.
        raise InputError(
            f"{path}: damaged description of its columns ({type(error).__name__}: {error})", setting="data.path"
        ) from None
    except (ValueError, RuntimeError, OSError) as error:
        # `datasets` raises these for an unknown subset or revision, a folder without data, a loading script.
        message = " ".join(str(error).split("\nExample of usage")[0].split("\n"))
        raise InputError(
            f"{path}: {message}", Setting("data.name", "SUBSET") if "onfig" in message else None, setting="data.path"
        ) from None


def _is_local(path: str) -> bool:
    return Path(path).is_dir()


def _table(path: str, split: str, dataset: Any, commit: str | None, fingerprint: str | None) -> Table:
    """
    Args:
        dataset: of `datasets`, with random access or without.
    """
    arrow = dataset.with_format("arrow")
    # Of files without a schema it is known when they are read.
    names = dataset.column_names or list(next(iter(dataset), {}))

    def rows(columns: list[str]) -> Iterator[Row | RowProblem]:
        number = 0
        with _explained(path):
            for batch in arrow.select_columns(columns).iter(batch_size=1000):
                values = [batch.column(column).to_pylist() for column in columns]
                for row in zip(*values, strict=True):
                    number += 1
                    yield number, list(row)

    class_names = {} if dataset.features is None else class_names_of(dataset.features.arrow_schema)
    return Table(
        f"{path}[{split}]",
        list(names),
        rows,
        class_names,
        advice=separator_advice(names),
        revision=commit,
        fingerprint=fingerprint,
    )


def _commit(dataset: Any) -> str | None:
    """The commit that names the folder of a Hub data set in the cache; None for a local one."""
    folders = {Path(file["filename"]).parent.name for file in dataset.cache_files}
    return next((name for name in folders if COMMIT.fullmatch(name)), None)


def _check_repo_id(path: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    repo_id = path.removeprefix(PREFIX)
    try:
        validate_repo_id(repo_id)
        is_valid = True
    except HFValidationError:
        is_valid = False
    if is_valid and repo_id != path:
        return
    name, at, revision = repo_id.partition("@")
    if at and repo_id != path:
        raise InputError(
            f"the revision of a data set on the Hub stands in data.revision, got {path}",
            (Setting("data.path", PREFIX + name), " ", Setting("data.revision", revision)),
            setting="data.path",
        )
    if not is_valid or looks_like_a_path(path):
        on_hub = is_valid and path.count("/") == 1
        raise InputError(
            f"no such file or folder: {path}",
            (Setting("data.path", PREFIX + path), " asks the Hub") if on_hub else None,
            setting="data.path",
        )


def _unreachable(path: str, error: Exception) -> InputError:
    variable = offline_variable()
    reason = f"{variable} is set" if variable else f"no connection ({first_line(error)})"
    return InputError(
        f"{path!r} is no file or folder here, and the Hugging Face Hub was not reached: {reason}",
        (
            f"unset {variable}, or " if variable else "connect, or ",
            "give a local copy: ",
            Setting("data.path", "FOLDER_OR_FILE"),
            "; offline at once: textattn train quickstart",
        ),
        setting="data.path",
    )
