"""The checkpoints of a run on disk, and whether another start may go on from them."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from textattn.storage import run_dir
from textattn.config import Config, flat_settings, given_settings, load_config
from textattn.data.read import Corpus
from textattn.tokens.tokenizer import TextTokenizer
from textattn.errors import ConfigError, InputError
from textattn.training.processes import number_of_processes
from textattn.report import Report
from textattn.training.state import Checkpoint
from textattn.report import Evaluation

# The newest may be damaged by what ended the run; then there is one more.
KEPT = 2
STEP, BEST = "step-", "best-"
SUFFIX = ".safetensors"
MAY_DIFFER = ("output.dir", "output.plots", "output.tracking", "training.checkpoint_steps")


def save_checkpoint(run: Path, checkpoint: Checkpoint, best: Evaluation | None, log: list[dict[str, Any]]) -> None:
    """Writes it with the weights that are the best so far, and removes what is older than the two newest.

    Args:
        best: the evaluation whose weights lie in the run's model.safetensors.
        log: what log.jsonl holds.
    """
    folder = run / run_dir.CHECKPOINTS
    folder.mkdir(exist_ok=True)
    run_state: dict[str, Any] = {"log": log, "best": None}
    if best is not None:
        # Beside the checkpoint, because model.safetensors may be a later one's by the time this is gone on from.
        path = folder / f"{BEST}{best.global_step:09d}{SUFFIX}"
        if not path.exists():
            _link(run / run_dir.WEIGHTS, path)
        run_state["best"] = {"evaluation": asdict(best), "weights": path.name, "sha256": _digest(path)}
    step = checkpoint.state["progress"]["global_step"]
    content = Checkpoint(checkpoint.tensors, checkpoint.state | {"run": run_state}).to_bytes()
    run_dir.write_bytes(folder / f"{STEP}{step:09d}{SUFFIX}", content)
    # Between two checkpoints is one evaluation at most, so two of them need no more than the two newest weights.
    for path in [*_named(run, STEP)[KEPT:], *_named(run, BEST)[KEPT:]]:
        path.unlink(missing_ok=True)


def has_checkpoint(run: Path) -> bool:
    """Whether there is one, whole or damaged."""
    return bool(_named(run, STEP))


def load_checkpoint(run: Path, report: Report) -> Checkpoint | None:
    """The newest whole checkpoint, with its best weights back in model.safetensors; None where there is none.

    What a killed process left half written is removed, and so is what is damaged, or newer than what is taken.
    """
    run_dir.remove_leftovers(run)
    damaged = []
    for path in _named(run, STEP):
        try:
            checkpoint = Checkpoint.from_bytes(path.read_bytes())
            best, log = checkpoint.state["run"]["best"], best_and_log(checkpoint)[1]
            if best:
                weights = path.with_name(best["weights"])
                if _digest(weights) != best["sha256"]:
                    raise ValueError(f"{weights.name} is damaged")
                run_dir.write_bytes(run / run_dir.WEIGHTS, weights.read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:  # the last two: of another version
            report.note(f"{path}: damaged ({error}); going back to what was before it")
            damaged.append(path)
            continue
        newer = [weights for weights in _named(run, BEST) if _step_of(weights) > _step_of(path)]
        for path in [*damaged, *newer]:
            path.unlink(missing_ok=True)
        run_dir.write_log(run, log)
        return checkpoint
    return None


def best_and_log(checkpoint: Checkpoint) -> tuple[Evaluation | None, list[dict[str, Any]]]:
    """The best evaluation up to it, and what log.jsonl held."""
    state = checkpoint.state["run"]
    best = state["best"]
    return Evaluation(**best["evaluation"]) if best else None, list(state["log"])


def remove_checkpoints(run: Path) -> None:
    """Once nothing needs them."""
    shutil.rmtree(run / run_dir.CHECKPOINTS, ignore_errors=True)


def check_same_config(run: Path, config: Config) -> None:
    """Where the run writes to may differ, how often it keeps checkpoints, and who else is told; nothing else.

    Raises:
        ConfigError: with the list of what differs.
        InputError: the run's own config is damaged.
    """
    path = run / run_dir.TRAINING_CONFIG
    try:
        before = load_config(str(path))
    except ConfigError as error:
        raise InputError(f"{path}: damaged ({error.message})", "--overwrite begins again") from None
    _refuse(run, differences(before, config))


def differences(before: Config, now: Config) -> list[str]:
    """What two configs set otherwise, but for what changes no result: where it is written, and how often."""
    there = flat_settings(before)
    # What a recipe will set is not known before the texts are.
    here = there | given_settings(now) if now.recipe == "auto" else flat_settings(now)
    return [
        f"{key}: {there.get(key)} there, {here.get(key)} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key) and key not in MAY_DIFFER
    ]


def check_same_data(run: Path, corpus: Corpus, tokenizer: TextTokenizer, report: Report) -> None:
    """Texts, labels and tokens must be those the run began with; another torch is only reported.

    Raises:
        ConfigError: with the list of what differs.
    """
    try:
        environment = run_dir.read_json(run / run_dir.ENVIRONMENT)
        dataset = environment["dataset"]
        before = {name: split["sha256"] for name, split in dataset["splits"].items()}
        # Runs of older versions do not say.
        unlabelled = dataset.get("unlabelled_sha256")
        versions, begun_with = environment["packages"], (environment["threads"], environment.get("processes", 1))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{run / run_dir.ENVIRONMENT}: damaged ({error!r})", "--overwrite begins again") from None
    now = {name: split.fingerprint() for name, split in corpus.splits().items()}
    differences = [
        f"data: the {name} split is another"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if unlabelled is not None and unlabelled != [texts.fingerprint() for texts in corpus.unlabelled]:
        differences.append("data.unlabelled: other texts")
    if not differences and (run / run_dir.TOKENIZER).read_bytes() != tokenizer.to_files()[run_dir.TOKENIZER].encode():
        differences.append("tokenizer: another vocabulary")
    _refuse(run, differences)
    import torch

    now_with = torch.get_num_threads(), number_of_processes()
    if (versions.get("torch"), *begun_with) != (torch.__version__, *now_with):
        before_and_now = [
            f"torch {version}, {n} process{'es' * (n > 1)} of {threads} thread{'s' * (threads > 1)}"
            for version, (threads, n) in ((versions.get("torch"), begun_with), (torch.__version__, now_with))
        ]
        report.note(
            f"begun with {before_and_now[0]}, now {before_and_now[1]}: the last digits may come out otherwise"
            + (", and so does what dropout leaves out" if begun_with[1] != now_with[1] else "")
        )


def _refuse(run: Path, differences: list[str]) -> None:
    if differences:
        listed = "".join(f"\n  {difference}" for difference in differences)
        raise ConfigError(
            f"--resume: not the same training as in {run}; nothing was changed:{listed}",
            "put these back, or train anew without --resume (with --overwrite in the same directory)",
        )


def _named(run: Path, prefix: str) -> list[Path]:
    """Newest first."""
    return sorted((run / run_dir.CHECKPOINTS).glob(f"{prefix}*{SUFFIX}"), reverse=True)


def _step_of(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _link(source: Path, target: Path) -> None:
    """The same file under a second name; writing is atomic, so the first will be replaced and never changed."""
    try:
        os.link(source, target)
    except OSError:  # a file system without
        run_dir.write_bytes(target, source.read_bytes())
