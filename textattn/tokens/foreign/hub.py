"""Vectors on the Hugging Face Hub: of a repository only the files are downloaded that hold its vectors."""

from __future__ import annotations

import fnmatch
import functools
import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from textattn.errors import InputError, Setting
from textattn.storage.hub import PREFIX, client_errors, first_line, offline_variable, tell
from textattn.tokens.foreign.spacy_model import KEYS, MODE, STRINGS, VECTORS
from textattn.tokens.foreign.static import TOKENIZER
from textattn.tokens.foreign.stream import SETTING

NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([^/\s]+))?(?:/(.+))?")
# Names that vectors in one file have. What such a file really is, is found by its content.
SINGLE = ("*.vec", "*.bin", "*.txt", "*.vec.gz", "*.bin.gz", "*.txt.gz", "*.zip")
# Pickles of torch, and text about the repository.
NEVER = (
    "pytorch_model*",
    "training_args*",
    "optimizer*",
    "requirements*.txt",
    "license*.txt",
    "vocab.txt",
    "merges.txt",
)


@dataclass(frozen=True)
class OnHub:
    """Downloaded vectors."""

    path: Path
    """The file or folder in the cache of the Hub's client."""
    repo_id: str
    commit: str


@functools.cache
def from_hub(name: str) -> OnHub:
    """Download vectors, or find them in the cache of the Hub's client.

    Args:
        name: `user/name`, `user/name@revision`, or one of these with `/` and a file; with or without `hf://`.

    Raises:
        InputError: there is no such repository, it holds no vectors, or it cannot be reached.
    """
    found = NAME.fullmatch(name.removeprefix(PREFIX))
    if found is None:
        raise InputError(
            f"vectors on the Hub are named user/name, user/name@revision or user/name/file, got {name}", setting=SETTING
        )
    repo_id, revision, file = found.groups()
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        if offline_variable():
            # By patterns that match nothing, the folder is found whichever files are in it.
            folder = Path(snapshot_download(repo_id, revision=revision, local_files_only=True, allow_patterns=["/"]))
            files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
            place, _ = _vectors_in(files, repo_id, file)
        else:
            info = HfApi().model_info(repo_id, revision=revision)
            place, wanted = _vectors_in([each.rfilename for each in info.siblings or []], repo_id, file)
            patterns = [glob.escape(path) for path in wanted]
            folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=patterns))
    except client_errors() as error:
        variable = offline_variable()
        why, hint = first_line(error), "connect, or give the path of a local copy with model.vectors.source=file"
        if variable:
            why, hint = f"{variable} is set, and it is not in the cache", f"unset {variable}"
        elif isinstance(error, RepositoryNotFoundError):
            why, hint = "there is no such repository, or it is private and you are not logged in", "hf auth login"
        elif isinstance(error, RevisionNotFoundError):
            why, hint = f"it has no revision {revision}", f"{SETTING}={repo_id}"
        raise InputError(f"{repo_id} could not be read from the Hub: {why}", hint, setting=SETTING) from None
    tell("model", "source of the word vectors", repo_id, folder.name)
    return OnHub(folder / place, repo_id, folder.name)


def _vectors_in(files: Sequence[str], repo_id: str, file: str | None) -> tuple[str, list[str]]:
    """The file or folder of the vectors in a repository, and the files to download."""
    there = set(files)
    if file is not None:
        if file not in there:
            raise InputError(f"{repo_id} on the Hub has no file {file}", f"{SETTING}={repo_id}", setting=SETTING)
        tokenizer = str(PurePosixPath(file).with_name(TOKENIZER))
        return file, [file, *([tokenizer] if tokenizer in there else [])]
    for path in sorted(there):
        folder = PurePosixPath(path).parent
        if PurePosixPath(path).name == VECTORS and {str(folder / KEYS), str(folder / STRINGS)} <= there:
            names = [str(folder / name) for name in (VECTORS, KEYS, STRINGS, MODE)]
            return str(folder), [name for name in names if name in there]
    # The top comes before the folders in it.
    for path in sorted(there, key=lambda path: (path.count("/"), path)):
        tokenizer = str(PurePosixPath(path).with_name(TOKENIZER))
        if path.endswith(".safetensors") and path.count("/") <= 1 and tokenizer in there:
            return path, [path, tokenizer]
    found = sorted(path for path in there if _is_single(PurePosixPath(path).name.lower()))
    if len(found) == 1:
        return found[0], found
    if found:
        listed = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        raise InputError(
            f"{repo_id} on the Hub has {len(found)} files that may be vectors ({listed})",
            Setting(SETTING, f"{repo_id}/{found[0]}"),
            setting=SETTING,
        )
    raise InputError(
        f"{repo_id} on the Hub has no word vectors: expected those of a spaCy model, a safetensors file with "
        f"{TOKENIZER}, or a file such as *.vec and *.bin; pickles, such as pytorch_model.bin, are never read",
        setting=SETTING,
    )


def _is_single(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in SINGLE) and not any(
        fnmatch.fnmatch(name, pattern) for pattern in NEVER
    )
