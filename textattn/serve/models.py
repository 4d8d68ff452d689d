"""The models of a server, by name. They are loaded again while the server answers."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from textattn.api import Model
from textattn.errors import ConfigError, InputError, Option, shell_command
from textattn.explain.methods import find_method
from textattn.explain.stored_audit import trust
from textattn.inference.given_texts import given_texts
from textattn.serve.drift import DriftWindow
from textattn.serve.examples import examples_of
from textattn.serve.refusal import Refusal
from textattn.storage.aliases import find_alias
from textattn.storage.find_model import find_model
from textattn.storage.hub import PREFIX
from textattn.storage.run_dir import ONNX, REPORT

# The methods that need no second pass through the model and no PyTorch.
METHODS = ("contributions", "attention")
RUNTIMES = ("onnx", "int8")
# `--model name=RUN`
NAMED = re.compile(r"([\w.-]+)=(.+)", re.DOTALL)
# Folders of a run that do not say what it is about: runs/reviews/2026-01-31T12-00-00/seed-1
NOT_A_NAME = re.compile(r"\d{4}-\d\d-\d\dT[\d-]+|seed-\d+")
WARM_UP = "warm-up"


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A loaded model. A reload replaces it as a whole; requests that have it keep it."""

    name: str
    model: Model
    examples: Sequence[str]
    """Texts to try it with."""
    verdicts: dict[str, str | None]
    """For each method how far it can be trusted; the first is the default."""
    fingerprint: str
    drift: DriftWindow | None
    """Compares what it answers with its reference; None if it has none."""
    loaded: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))

    @classmethod
    def load(cls, name: str, path: Path, runtime: str | None) -> ServedModel:
        """Loads a model and lets it answer once.

        Raises:
            InputError: it is damaged, or has no graph for ONNX Runtime.
            ConfigError: there is no such runtime.
        """
        if runtime is not None and runtime not in RUNTIMES:
            raise ConfigError(f"must be {' or '.join(RUNTIMES)}, got {runtime!r}", setting=Option("runtime"))
        model = Model.load(path, "cpu", runtime)
        if model.runtime not in RUNTIMES:
            raise InputError(
                f"no {ONNX}, and a server runs without PyTorch",
                shell_command("textattn export --model {}", path),
                place=str(path),
            )
        model.predict([[WARM_UP] * len(model.config.text_columns)])
        methods = METHODS if model.session.gives_contributions else METHODS[1:]
        fitting = [method for method in methods if find_method(method).has_network_for(model)]
        verdicts = {method: trust(model, method) for method in fitting}
        return cls(name, model, examples_of(model), verdicts, model.fingerprint(), DriftWindow.of(model))

    @property
    def default_method(self) -> str:
        """The explanation that is given where none is named."""
        return next(iter(self.verdicts))

    @property
    def multi_label(self) -> bool:
        """Whether a text may have several labels."""
        return self.model.config.multi_label

    @property
    def has_report(self) -> bool:
        """Whether there is a report.html."""
        return self.model.files.has(REPORT)

    def texts(self, given: Sequence[Any], *, single: bool) -> list[str]:
        """One string for each text of a request.

        Args:
            given: the texts as they came.
            single: whether the request has one `text`, which messages then name so.

        Raises:
            Refusal: one is empty, or has the wrong segments (422).
        """
        columns = self.model.config.text_columns
        try:
            return given_texts(given, columns)
        except InputError as error:
            message = error.message.replace("texts[0]", "text") if single else error.message
        except ConfigError as error:
            message = error.message
        hint = None if len(columns) == 1 else json.dumps({"text": dict.fromkeys(columns, "…")}, ensure_ascii=False)
        raise Refusal(422, message, hint)

    def as_json(self) -> dict[str, Any]:
        """What /models says about it."""
        config = self.model.config
        return {
            "name": self.name,
            "path": str(self.model.path),
            "labels": config.labels,
            "multi_label": config.multi_label,
            "decimals": None if config.target is None else config.target.decimals,
            "text_columns": config.text_columns,
            "summary": config.summary(),
            "runtime": self.model.runtime,
            "methods": list(self.verdicts),
            "verdict": self.verdicts[self.default_method],
            "examples": list(self.examples),
            "report": self.has_report,
            "fingerprint": self.fingerprint,
            "loaded": self.loaded,
        }


class Models:
    """The models of a server; the first is the default."""

    def __init__(self, given: Sequence[str], runtime: str | None = None) -> None:
        """Loads them.

        Args:
            given: what the user named, each a model or `name=model`; none: $TEXTATTN_MODEL or the newest run, which a
                reload looks for again.
            runtime: onnx or int8; default: the first that the model has.

        Raises:
            InputError: a model does not exist or is damaged.
            ConfigError: two models have the same name.
        """
        self._given: list[str | None] = [*given] or [None]
        self._runtime = runtime
        self._loading = threading.Lock()
        self._by_name = self._load()

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._by_name.values())

    def find(self, name: str | None) -> ServedModel:
        """The model of this name, or the default one.

        Raises:
            Refusal: there is none of this name (404).
        """
        if name is None:
            return next(iter(self._by_name.values()))
        found = self._by_name.get(name)
        if found is None:
            names = ", ".join(self._by_name)
            raise Refusal(404, f"no model is called {name!r}; the models are: {names}")
        return found

    def reload(self) -> list[str]:
        """Loads all models again; if one cannot be loaded, all stay as they are.

        Returns:
            The names of those that have changed.

        Raises:
            TextattnError: as for the constructor.
        """
        with self._loading:
            new = self._load()
            before = {served.name: served.fingerprint for served in self}
            self._by_name = new
        return [name for name, served in new.items() if before.get(name) != served.fingerprint]

    def _load(self) -> dict[str, ServedModel]:
        paths: dict[str, Path] = {}
        for given in self._given:
            name, path = _named(given)
            if name in paths:
                raise ConfigError(
                    f"two models are called {name!r}; give them names",
                    [Option("model", f"{name}-1={paths[name]}"), " ", Option("model", f"{name}-2={path}")],
                    setting=Option("model"),
                )
            paths[name] = path
        return {name: ServedModel.load(name, path, self._runtime) for name, path in paths.items()}


def _named(given: str | None) -> tuple[str, Path]:
    """The name and the place of a model."""
    if given is not None and not Path(given).exists() and (named := NAMED.fullmatch(given)):
        return named[1], find_model(named[2])
    path = find_model(given)
    if given is not None and not Path(given).exists() and find_alias(given) is not None:
        return given, path
    if given is not None and given.startswith(PREFIX):
        return given.removeprefix(PREFIX).partition("@")[0].rpartition("/")[2], path
    whole = path.resolve()
    folder = whole.with_suffix("") if whole.is_file() else whole
    while NOT_A_NAME.fullmatch(folder.name) and folder.parent.name:
        folder = folder.parent
    return folder.name or "model", path
