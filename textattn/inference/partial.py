"""The folder OUTPUT.partial of a job that is going on: the parts of the answer, and the state that says what they are.

A part is one file with the answers of a chunk. The state has a digest of every part and of the rows that it answers, so
that no part is joined that is not as it was written. One process at a time owns the folder. When all is answered, the
parts are joined, the whole gets its name, and the folder is removed: the state last, so that a job that is killed
meanwhile can still be finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from textattn.data.formats import AnsweredRows, Format
from textattn.errors import ConfigError, InputError, Option
from textattn.storage import locks
from textattn.storage.files import atomic_path, read_json, replace_file, target_of, write_json

STATE = "state.json"
JOINED = "joined"
RESUME, OVERWRITE = Option("resume", flag=True), Option("overwrite", flag=True)
OUTPUT = Option("output")
# What lies in the folder, half-written files included.
OURS = re.compile(r"state\.json|joined|owner\.(lock|json)|\d{6,}\.\w+|\..*\.tmp")
# Bytes read at a time for a digest.
BLOCK = 1 << 20
DIGEST = re.compile("[0-9a-f]{64}")


@dataclass
class Summary:
    """Counts of a job."""

    rows: int = 0
    """Rows answered."""
    skipped: int = 0
    tokens: int = 0
    """Tokens read by the model."""
    truncated: int = 0
    """Texts longer than the model reads."""
    unsure: int = 0
    """Rows whose most probable label is less probable than `min_score`."""
    unreadable: int = 0
    """Rows whose text is not of the kind that the model reads."""
    unknown: int = 0
    """Rows whose text consists mostly of tokens that the model has never seen."""
    resumed: int = 0
    """Rows, of those answered, that an earlier job answered."""
    problems: list[str] = field(default_factory=list)
    """The first of the rows skipped."""

    def add(self, other: Summary) -> None:
        """Add the counts and the problems of another part of the job."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class Part:
    """What is known about a part."""

    rows: int
    """The rows in it."""
    read: str
    """The digest of all rows of the input up to the last one of this part, see `bulk`."""
    written: str
    """The digest of the file."""


@dataclass
class State:
    """How far a job has come."""

    summary: Summary = field(default_factory=Summary)
    parts: list[Part] = field(default_factory=list)
    joined: str | None = None
    """The digest of the whole output, once it is complete."""

    @property
    def read(self) -> str:
        """The digest of all rows that are answered or skipped."""
        return self.parts[-1].read if self.parts else ""


class Partial:
    """The folder of one job."""

    def __init__(self, output: Path, form: Format, columns: list[str], settings: dict[str, Any]) -> None:
        """Create the object only; the folder is made when it is owned.

        Args:
            output: the file that the answers are for.
            form: the format of the answers.
            columns: of the answers.
            settings: what must be the same for a job to be resumed.
        """
        self.output, self.format, self.columns, self.settings = output, form, columns, settings
        self.folder = partial_folder(output)

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Own the folder during the block. It is made, and removed at the end if nothing is left in it.

        Raises:
            ConfigError: it contains other files, another job owns it, or it cannot be written to.
        """
        if strange := self._strangers():
            raise ConfigError(
                f"{self.folder}: holds {strange[0]!r}, which no prediction left there; nothing was changed",
                Option("output", "another-name"),
            )
        hint = ("wait until that process has ended, or use ", Option("output", "another-name"))
        with contextlib.ExitStack() as stack:
            stack.callback(locks.remove_empty, [self.folder])
            try:
                stack.enter_context(locks.owned(self.folder, "written", hint, setting=OUTPUT))
            except OSError as error:
                raise ConfigError(
                    f"{self.folder} cannot be written: {error.strerror or error}",
                    Option("output", "/some/other/file"),
                    setting=OUTPUT,
                ) from None
            yield

    def exists(self) -> bool:
        """Whether a job has left answers in the folder."""
        return (self.folder / STATE).is_file()

    def clear(self, overwrite: bool) -> None:
        """Remove what an interrupted job has left, but only with `overwrite`.

        Raises:
            ConfigError: a job was interrupted, and `overwrite` is not set.
        """
        if self.exists() and not overwrite:
            raise ConfigError(
                f"{self.folder}: an interrupted run is there; nothing was changed",
                (RESUME, " continues it, ", OVERWRITE, " begins again"),
            )
        self.remove()

    def remove(self) -> None:
        """Remove all files of the job, the state last."""
        for path in sorted(self.folder.iterdir(), key=lambda path: path.name == STATE):
            if path.name not in locks.NAMES:
                path.unlink(missing_ok=True)

    def state(self) -> State:
        """The state of the job that left the folder, or that of a job which has not begun.

        Raises:
            InputError: the state is damaged.
            ConfigError: the job was another one.
        """
        if not self.exists():
            return State()
        value = read_json(self.folder / STATE)
        try:
            before = dict(value["settings"])
            state = _checked(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{self.folder / STATE}: damaged ({error!r})", (OVERWRITE, " begins again")) from None
        for name, default in (("min_score", 0.0), ("escape_formulas", False)):
            before.setdefault(name, default)  # from before this setting existed
        if changed := [name for name, setting in self.settings.items() if before.get(name) != setting]:
            found = "; ".join(f"{name} was {before.get(name)!r}" for name in changed)
            raise ConfigError(
                f"not the same job as in {self.folder}: {found}; nothing was changed",
                (OVERWRITE, " begins again"),
                setting=RESUME,
            )
        state.summary.resumed = state.summary.rows
        return state

    def write(self, number: int, rows: AnsweredRows) -> str:
        """Write a part and return its digest."""
        with atomic_path(self._path(number)) as temporary:
            with temporary.open("wb") as file:
                self.format.write(rows, file)
            return digest_of(temporary)

    def write_content(self, number: int, content: bytes) -> str:
        """Write a part whose bytes are known, and return its digest."""
        with atomic_path(self._path(number)) as temporary:
            temporary.write_bytes(content)
            return digest_of(temporary)

    def is_whole(self, number: int, part: Part) -> bool:
        """Whether the file of a part is as it was written."""
        try:
            return digest_of(self._path(number)) == part.written
        except FileNotFoundError:
            return False

    def where(self, number: int) -> str:
        """The file of a part, for messages."""
        return str(self._path(number))

    def save(self, state: State) -> None:
        """Write the state."""
        write_json(self.folder / STATE, {"settings": self.settings, **asdict(state)})

    def join(self, state: State) -> None:
        """Join the parts to the output, and remove them.

        Raises:
            InputError: a part is not as it was written, or rows are missing.
        """
        for number, part in enumerate(state.parts):
            if not self.is_whole(number, part):
                raise InputError(
                    "damaged since it was written; the answers were not put together",
                    ("the same command with ", RESUME, " answers its rows again"),
                    place=self.where(number),
                )
        # In the folder, so that a job that is killed now leaves nothing beside the output.
        joined = self.folder / JOINED
        self.format.join([self._path(number) for number in range(len(state.parts))], self.columns, joined)
        rows = self.format.count(joined, self.columns)
        if rows is not None and rows != state.summary.rows:
            raise InputError(
                f"{rows:,} rows were put together, but {state.summary.rows:,} were answered",
                (OVERWRITE, " begins again"),
                place=str(joined),
            )
        state.joined = digest_of(joined)
        self.save(state)
        replace_file(joined, self.output)
        self.remove()

    def is_joined(self, state: State) -> bool:
        """Whether the output is complete already, because the job was killed while it tidied up."""
        return state.joined is not None and self.output.is_file() and digest_of(self.output) == state.joined

    def _strangers(self) -> list[str]:
        """Files in the folder that are not ours."""
        if self.folder.is_file():
            return [self.folder.name]
        paths = self.folder.iterdir() if self.folder.is_dir() else ()
        return [path.name for path in paths if not OURS.fullmatch(path.name) or path.is_dir()]

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.{self.format.name}"


def partial_folder(output: Path) -> Path:
    """Where the answers of a job lie until it is done: beside the file that a link leads to, on the same disk."""
    file = target_of(output) if output.is_symlink() else output
    return file.with_name(f"{file.name}.partial")


def digest_of(path: Path) -> str:
    """The digest of a file."""
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def _checked(value: dict[str, Any]) -> State:
    """The state in a state.json.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """
    summary = Summary(**value["summary"])
    counts = [
        getattr(summary, name)
        for name in ("rows", "skipped", "tokens", "truncated", "unsure", "unreadable", "unknown", "resumed")
    ]
    if isinstance(value["parts"], int):  # of a version that knew no digests of parts, so that all are answered again
        return State()
    parts = [Part(**part) for part in value["parts"]]
    joined = value["joined"]
    if not all(_is_count(count) for count in counts + [part.rows for part in parts]):
        raise ValueError("a count that is not a whole number")
    if not all(DIGEST.fullmatch(digest) for part in parts for digest in (part.read, part.written)):
        raise ValueError("a digest that is none")
    if not (joined is None or DIGEST.fullmatch(joined)):
        raise ValueError("a digest that is none")
    if not (isinstance(summary.problems, list) and all(isinstance(problem, str) for problem in summary.problems)):
        raise ValueError("problems that are not texts")
    if sum(part.rows for part in parts) != summary.rows:
        raise ValueError(f"{summary.rows} rows, but other numbers of rows in the parts")
    return State(summary, parts, joined)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
