"""Send a model to the Hugging Face Hub in one commit: which files, what its card says there, and what is refused.

Only files of the names below are sent. None of them contains a text of the data: predictions, attention weights,
checkpoints and logs stay here, and so does the report, which shows texts of the test split, unless it is asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from textattn.errors import ConfigError, InputError, Option, TextattnError, shell_command
from textattn.storage.checksums import CHECKSUMS
from textattn.storage.find_model import REPOSITORY
from textattn.storage.hub import PREFIX, client_errors, first_line, offline_variable, status_of
from textattn.storage.locks import holder
from textattn.storage.model_files import ModelFiles, read_model_config
from textattn.storage.reading import parse_json
from textattn.storage.run_dir import (
    CONFIG,
    METRICS,
    MODEL_CARD,
    MODEL_FILES,
    OWN_FOLDERS,
    PLOTS,
    REFERENCE,
    REPORT,
    TRAINING_CONFIG,
    RunDir,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

FILES = (*MODEL_FILES, CHECKSUMS, TRAINING_CONFIG, METRICS, REFERENCE, MODEL_CARD)
# A repository with nothing but these is an empty one.
MADE_BY_THE_HUB = (".gitattributes", MODEL_CARD, "LICENSE")
LINE_ABOUT_THE_REPORT = "[report.html](report.html) tells more: errors, thresholds, slices.\n\n"
MESSAGE = "A model of textattn"
OVERWRITE = Option("overwrite", flag=True)


@dataclass(frozen=True)
class Destination:
    """Where a model is sent."""

    repo_id: str
    revision: str | None = None
    """The branch; None: the main one."""
    private: bool = False
    overwrite: bool = False
    """Whether the repository may contain something else than a model of textattn."""


@dataclass(frozen=True)
class SentFile:
    """A file that is sent: where it is, or what it contains."""

    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass(frozen=True)
class Pushed:
    """What became of it."""

    url: str
    commit: str
    removed: list[str]
    """Files of an earlier model of the repository that this one does not have."""


def check_name(name: str) -> str:
    """The name of a repository, from the argument of a user.

    Raises:
        ConfigError: it is none.
    """
    repo_id, at, revision = name.removeprefix(PREFIX).partition("@")
    if not REPOSITORY.fullmatch(repo_id):
        raise ConfigError(f"a model on the Hub is named user/name, got {name!r}", "textattn push RUN user/name")
    if at:
        raise ConfigError(f"{name}: a branch is given by an option", Option("revision", revision or "main"))
    return repo_id


def files_to_send(model: Path, repo_id: str, *, report: bool = False) -> list[SentFile]:
    """The files of a model that are sent, after their checksums have been compared.

    Args:
        model: a run directory or a bundle.
        repo_id: the repository, for the card.
        report: also send report.html.

    Raises:
        InputError: a file is missing or damaged, or the run is unfinished.
        ConfigError: a process is writing to the run, or a report is asked for that is not there.
    """
    files = ModelFiles(model)
    if not files.is_bundle:
        _check_finished(model)
    read_model_config(files)
    if report and not files.has(REPORT):
        raise ConfigError(f"{model} has no {REPORT}", shell_command("textattn report {}", model))
    names = [name for name in (*FILES, *([REPORT] if report else [])) if files.has(name)] + plots_of(files)
    sent = []
    for name in names:
        if name == MODEL_CARD:
            text = files.read(name).decode("utf-8", errors="replace")
            sent.append(SentFile(name, card_for(text, repo_id, report=report).encode()))
        elif files.is_bundle:
            sent.append(SentFile(name, files.read(name)))
        else:
            if name in MODEL_FILES:
                with files.view(name):
                    pass  # its checksum is right
            sent.append(SentFile(name, model / name))
    return sent


def _check_finished(model: Path) -> None:
    run = RunDir(model)
    if (owner := holder(model)) is not None:
        raise ConfigError(f"{model} is being {owner.doing} by {owner}; nothing was sent", "wait until it has ended")
    if run.is_run() and not run.is_finished():
        hint = shell_command("textattn train {} --resume", run.training_config)
        raise InputError("unfinished; only the model of a finished run is sent", hint, place=str(model))


def plots_of(files: ModelFiles) -> list[str]:
    """The names of the pictures that the card shows."""
    return [f"{PLOTS}/{name}" for name in files.names_in(PLOTS) if OWN_FOLDERS[PLOTS].fullmatch(name)]


def card_for(card: str, repo_id: str, *, report: bool) -> str:
    """The model card as it is read on the Hub: its commands name the repository, its results the model.

    What somebody wrote into the card stays, also metadata of other names.
    """
    if not report:
        card = card.replace(LINE_ABOUT_THE_REPORT, "")
    card = re.sub(r"(?m)^(textattn\s(?:predict|explain) --model) \.(?= )", rf"\1 {PREFIX}{repo_id}", card)
    found = re.match(r"---\n(.*?\n)---\n", card, re.DOTALL)
    if found is None:
        return card
    try:
        metadata = yaml.safe_load(found[1])
        results = metadata["model-index"]
        if [entry["name"] for entry in results] != ["textattn"]:
            return card
    except (yaml.YAMLError, TypeError, KeyError):
        return card
    results[0]["name"] = repo_id.partition("/")[2]
    # What was escaped stays escaped.
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=not found[1].isascii())
    return f"---\n{head}---\n{card[found.end() :]}"


def push(files: list[SentFile], to: Destination) -> Pushed:
    """Send the files in one commit; makes the repository and the branch if they are missing.

    Files of an earlier model in the repository that this model does not have are removed in the same commit, so that
    nobody gets parts of two models.

    Raises:
        ConfigError: nobody is logged in, there is no right to write, or the repository contains something else or is
            public although `private` is set.
        InputError: the Hub cannot be reached, or refuses for another reason.
    """
    if variable := offline_variable():
        raise InputError(f"nothing can be sent, because {variable} is set", f"unset {variable}")
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise ConfigError("nobody is logged in to the Hugging Face Hub", "hf auth login")
    made = False
    try:
        api = HfApi()
        before = _existing(api, to)
        if before is None:
            api.create_repo(to.repo_id, private=to.private)
            made = True
        return _commit(api, files, to, before)
    except client_errors() as error:
        raise _refused(error, to, made) from None


@dataclass(frozen=True)
class _Before:
    """What the repository contains."""

    commit: str
    names: list[str]
    has_branch: bool
    """Whether this is the branch that is sent to; if not, it will begin at this commit."""


def _existing(api: HfApi, to: Destination) -> _Before | None:
    """What is in the repository, None if it does not exist.

    Raises:
        ConfigError: it may not be written to.
    """
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    has_branch = True
    try:
        try:
            info = api.model_info(to.repo_id, revision=to.revision)
        except RevisionNotFoundError:
            info, has_branch = api.model_info(to.repo_id), False
    except RepositoryNotFoundError:
        return None
    if to.private and not info.private:
        raise ConfigError(
            f"{to.repo_id} exists and is public; nothing was sent",
            f"without {Option('private').render(True)}, or make it private on the Hub",
            setting=Option("private"),
        )
    before = _Before(str(info.sha), [str(one.rfilename) for one in info.siblings or []], has_branch)
    others = [name for name in before.names if name not in MADE_BY_THE_HUB]
    if others and not to.overwrite and not _is_model(to.repo_id, before):
        raise ConfigError(
            f"{to.repo_id} contains files that are not a model of textattn, such as {others[0]}; nothing was sent",
            (OVERWRITE, " adds the model to them, or send it to another repository"),
        )
    return before


def _is_model(repo_id: str, before: _Before) -> bool:
    """Whether the repository contains a model of textattn."""
    if CONFIG not in before.names:
        return False
    from huggingface_hub import hf_hub_download

    try:
        value = parse_json(Path(hf_hub_download(repo_id, CONFIG, revision=before.commit)).read_bytes())
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("model_type") == "textattn"


def _commit(api: HfApi, files: list[SentFile], to: Destination, before: _Before | None) -> Pushed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    if to.revision is not None and (before is None or not before.has_branch):
        api.create_branch(to.repo_id, branch=to.revision, revision=before.commit if before else None, exist_ok=True)
    sent = {file.name for file in files}
    removed = sorted(name for name in (before.names if before else []) if _is_ours(name) and name not in sent)
    operations: list[Any] = [CommitOperationDelete(name) for name in removed]
    for file in files:
        content = file.content if isinstance(file.content, bytes) else str(file.content)
        operations.append(CommitOperationAdd(file.name, content))
    done = api.create_commit(
        to.repo_id,
        operations,
        commit_message=MESSAGE,
        revision=to.revision,
        # A commit that somebody else has made in the meantime is not undone unseen.
        parent_commit=before.commit if before else None,
    )
    return Pushed(str(done.commit_url), str(done.oid), removed)


def _is_ours(name: str) -> bool:
    """Whether a file of a repository has a name that an earlier `push` may have given it."""
    folder, _, file = name.rpartition("/")
    return name in (*FILES, REPORT) or (folder == PLOTS and OWN_FOLDERS[PLOTS].fullmatch(file) is not None)


def _refused(error: Exception, to: Destination, made: bool) -> TextattnError:
    """The error for what the Hub's client raised."""
    status = status_of(error)
    empty = f" (the repository {to.repo_id} was made and is empty)" if made else ""
    login = "hf auth login   # with a token that may write"
    if status == 401:
        return ConfigError(f"the Hub does not accept the token{empty}", login)
    if status == 403:
        return ConfigError(f"the token has no right to write to {to.repo_id}{empty}", login)
    if status == 409 and not made:
        return ConfigError(f"{to.repo_id} exists, but the token may not read it; nothing was sent", login)
    if status == 412:
        return InputError(f"{to.repo_id} was changed by somebody else at the same time; nothing was sent", "try again")
    return InputError(f"{to.repo_id} could not be written on the Hub: {first_line(error)}{empty}")
