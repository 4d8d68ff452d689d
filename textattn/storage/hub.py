"""Names on the Hugging Face Hub: which names may be asked there, and what is said when something was read from it.

A name without `hf://` may also be the path of a file that is missing here. Whoever owns the repository of that name on
the Hub would then answer, so names that look like paths are never asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

PREFIX = "hf://"
FILES = (
    ".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".zip", ".gz", ".bz2",
    ".xz", ".zst", ".tar", ".tgz", ".yaml", ".yml", ".xls", ".xlsx", ".ods", ".html", ".xml", ".tab", ".dat", ".data",
    ".log", ".db", ".sqlite", ".npy", ".npz", ".pkl", ".pt", ".bin", ".vec", ".onnx", ".safetensors", ".md", ".py",
)  # fmt: skip


def looks_like_a_path(name: str) -> bool:
    """Whether a name that no file or folder here has still means one, and not a repository on the Hub."""
    first = name.split("/")[0]
    return (
        name.startswith((".", "~"))
        or first.lower() in ("", "runs")
        or name.count("/") > 1
        or name.endswith("/")
        or "\\" in name
        or "\0" in name
        or Path(name).suffix.lower() in FILES
        or ("/" in name and Path(first).exists())
    )


def offline_variable() -> str | None:
    """The environment variable that stops the Hub client from using the network, or None if none is set."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE"):
            return variable
    return None


def first_line(error: Exception) -> str:
    """The first line of an error of the Hub client; further lines are advice for programmers."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def client_errors() -> tuple[type[Exception], ...]:
    """What the Hub client raises where the Hub cannot be reached or refuses something."""
    from huggingface_hub.errors import HfHubHTTPError

    # Its first base is the error of the library for HTTP, which another version of the client exchanges for another. A
    # failed upload is a RuntimeError, an answer that makes no sense a ValueError.
    return (HfHubHTTPError, *HfHubHTTPError.__bases__[:1], OSError, RuntimeError, ValueError)


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status that an error of the Hub client is about, None if it is about none."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


def _log(text: str) -> None:
    from textattn.report import logger

    logger().info(text)


_listener: Callable[[str], None] = _log
_told: set[tuple[str, str]] = set()


def on_read(listener: Callable[[str], None]) -> None:
    """Have a function called with a line about everything that is read from the Hub; the default is to log it."""
    global _listener
    _listener = listener


def tell(kind: Literal["model", "dataset"], what: str, repo_id: str, commit: str) -> None:
    """Tell the listener, once in a process, from which repository and commit something was read, and from when it is.

    Args:
        kind: the kind of the repository.
        what: a word for the message, such as "model".
    """
    if (repo_id, commit) in _told:
        return
    _told.add((repo_id, commit))
    date = _date(kind, repo_id, commit)
    _listener(f"The {what} is {repo_id} from the Hugging Face Hub, commit {commit}" + (f" of {date}" if date else ""))


def _date(kind: str, repo_id: str, commit: str) -> str | None:
    """The day of a commit; None if the Hub cannot be asked."""
    if offline_variable():
        return None
    from huggingface_hub import HfApi

    try:
        changed = HfApi().repo_info(repo_id, repo_type=kind, revision=commit, timeout=10).last_modified
    except Exception:  # whatever the client raises: the date is a courtesy
        return None
    return None if changed is None else f"{changed:%Y-%m-%d}"
