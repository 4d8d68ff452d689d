"""Find the data that a model was trained on, from whatever directory a command is started in."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textattn.config.data_section import DataConfig, DataFiles
from textattn.data.sources import BUNDLED
from textattn.errors import InputError
from textattn.storage.hub import PREFIX


@dataclass(frozen=True)
class Origin:
    """What environment.json says about the data of a run."""

    run: Path
    directory: str | None = None
    """The working directory of the training. None in runs of earlier versions, which did not record it."""
    is_local: bool = False
    """Whether the data were files or a folder: data sets of the Hub have a commit."""

    @classmethod
    def of(cls, run: Path, environment: Any) -> Origin:
        """Read the content of environment.json, whatever it is."""
        if not isinstance(environment, dict) or not isinstance(environment.get("dataset"), dict):
            return cls(run)
        directory = environment.get("directory")
        return cls(
            run,
            directory if isinstance(directory, str) and "\0" not in directory else None,
            environment["dataset"].get("revision") is None,
        )

    def locate(self, config: DataConfig) -> DataConfig:
        """The config with the paths at which the data are now: those of the config, or from where it was trained.

        Raises:
            InputError: files that the model was trained on are in neither place. The Hub is not asked for them.
        """
        if not self.is_local or not any(map(_is_path, _paths(config))):
            return config
        missing = [path for path in _paths(config) if not _exists(path)]
        # A folder that is called . is everywhere.
        may_be_another = self.directory != os.getcwd() and any(map(_is_unnamed, _paths(config)))  # noqa: PTH109 (a str)
        if not missing and not may_be_another:
            return config
        if self.directory is not None and all(_exists(self._there(path)) for path in _paths(config)):
            return self._moved(config)
        if not missing:
            return config
        trained = "" if self.directory is None else f"; it was trained in {self.directory}"
        raise InputError(f"{missing[0]}, where the training data of {self.run} were: no such file here{trained}")

    def _there(self, path: str) -> str:
        return path if not _is_path(path) else os.path.join(self.directory or "", path)  # noqa: PTH118 (may be a glob)

    def _moved(self, config: DataConfig) -> DataConfig:
        if config.files is None:
            return config.model_copy(update={"path": self._there(str(config.path))})
        moved = {
            split: self._there(files) if isinstance(files, str) else files and [self._there(file) for file in files]
            for split, files in config.files.model_dump().items()
        }
        return config.model_copy(update={"files": DataFiles(**moved)})


def _paths(config: DataConfig) -> Iterator[str]:
    if config.files is None:
        yield str(config.path)
        return
    for files in config.files.model_dump().values():
        yield from [files] if isinstance(files, str) else files or []


def _is_path(path: str) -> bool:
    return not path.startswith((BUNDLED, PREFIX))


def _is_unnamed(path: str) -> bool:
    """Whether a path is ., .. or the like."""
    return set(Path(path).parts) <= {".."}


def _exists(path: str) -> bool:
    if not _is_path(path):
        return True
    return Path(path).exists() or next(glob.iglob(path, recursive=True), None) is not None  # noqa: PTH207 (absolute)
