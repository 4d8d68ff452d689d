"""The model in ONNX Runtime: starts in a tenth of the time of PyTorch, on processors only."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textattn.errors import InputError
from textattn.inference.graph_check import Content, Refused, check_graph
from textattn.inference.session import BatchOutput, check_finite
from textattn.storage.model_files import ModelFiles, SavedConfig
from textattn.training.processors import available_processors

if TYPE_CHECKING:
    from concurrent.futures import Executor

INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("logits", "attention_weights", "context")
# Graphs of earlier versions and of models that are not additive have none of these, those without n-grams the first.
CONTRIBUTIONS = ("contributions", "ngram_contributions")
TELEMETRY = "ORT_DISABLE_TELEMETRY"
# ONNX Runtime's levels; below this it speaks on stderr about what it could have optimised.
FATAL = 4


class OnnxSession:
    """A model.onnx, run batch by batch: one thread each, as many batches at a time as there are processors.

    That is faster than several threads for one batch: an LSTM is a chain of small steps, and waiting for one another
    after each of them costs more than it brings.
    """

    # What the gates of so many tokens take stays in the caches of a processor.
    max_tokens = 4096
    threads: Callable[[int], AbstractContextManager[Executor]] | None = None

    def __init__(self, model: bytes | Path, where: str) -> None:
        """Read a graph that `check_graph` has accepted.

        Args:
            model: the file, or its content.
            where: its name, for messages.

        Raises:
            InputError: it is damaged or no model of textattn.
        """
        onnxruntime = _without_telemetry()
        onnxruntime.set_default_logger_severity(FATAL)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = FATAL
        # Not its own format, whatever the file is called.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            self._session = onnxruntime.InferenceSession(
                str(model) if isinstance(model, Path) else model,
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,
            )
            meta = self._session.get_modelmeta().custom_metadata_map
            shapes = {value.name: value.shape for value in self._session.get_outputs()}
            self.num_outputs: Any = shapes["logits"][1] if "logits" in shapes else None
            names = tuple(value.name for value in self._session.get_inputs())
        # Its exceptions share no base class but Exception.
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"{where}: damaged, or no ONNX model ({reason})") from None
        self._contributions = tuple(shapes)[len(OUTPUTS) :]
        known = tuple(shapes) == OUTPUTS + CONTRIBUTIONS[: len(self._contributions)]
        if names != INPUTS or not known or "textattn" not in meta:
            raise InputError(f"{where}: not written by textattn")
        self.gives_contributions = len(self._contributions) > 0
        # Otherwise outputs that nobody asks for would be computed as well.
        self._run_options = onnxruntime.RunOptions()
        self._run_options.only_execute_path_to_fetches = True
        self.where = where
        self.metadata: Mapping[str, str] = meta
        self.workers = available_processors()

    @classmethod
    def load(cls, files: ModelFiles, name: str, config: SavedConfig) -> OnnxSession:
        """The graph in the file `name` of a model.

        Raises:
            InputError: it is missing or damaged, was not written by textattn, or has another number of outputs.
        """
        with files.view(name) as content:
            # A file is read by the library itself, without a copy in between.
            model = content if isinstance(content, bytes) else files.path / name
            session = cls.checked(content, files.where(name), config, model)
        if session.num_outputs != config.architecture["num_outputs"]:
            raise InputError(
                f"{session.where}: {session.num_outputs} outputs, "
                f"but config.json says {config.architecture['num_outputs']}"
            )
        return session

    @classmethod
    def checked(
        cls, content: Content, where: str, config: SavedConfig, model: bytes | Path | None = None
    ) -> OnnxSession:
        """Read a graph after checking it.

        Args:
            content: the content of the file.
            where: its name, for messages.
            config: the config of the model, which bounds the size of the graph.
            model: where ONNX Runtime reads it from; by default `content`.

        Raises:
            InputError: it is damaged or was not written by textattn.
        """
        try:
            check_graph(content, config.architecture["num_layers"])
        except Refused as error:
            raise InputError(f"{where}: damaged, or not written by textattn ({error})") from None
        return cls(bytes(content) if model is None else model, where)

    def run(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], *, with_contributions: bool = False
    ) -> BatchOutput:
        """See `Session.run`; the real tokens of each row come first.

        Raises:
            InputError: the graph cannot be run, so it is damaged.
        """
        wanted = OUTPUTS + self._contributions if with_contributions else OUTPUTS
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        try:
            output = BatchOutput(*self._session.run(wanted, inputs, self._run_options))
        except Exception as error:
            raise InputError(f"{self.where}: damaged ({str(error).strip().splitlines()[0]})") from None
        if not all(isinstance(array, np.ndarray) for array in output if array is not None):
            raise InputError(f"{self.where}: damaged (outputs that are no tensors)")
        batch, seq = input_ids.shape
        shapes = ((batch, self.num_outputs), (batch, seq), (batch, *output.context.shape[1:2]))
        expected = shapes + (len(wanted) - len(shapes)) * ((batch, seq, self.num_outputs),)
        found = [array for array in output if array is not None]
        if tuple(array.shape for array in found) != expected or any(array.dtype != np.float32 for array in found):
            raise InputError(f"{self.where}: damaged (outputs of the wrong shape)")
        check_finite(output, self.where)
        return output


def _without_telemetry() -> Any:
    """ONNX Runtime, which does not report to its maker.

    While it is imported it writes an identifier to disk and reports its start, unless a variable says otherwise.
    """
    before = os.environ.get(TELEMETRY)
    os.environ[TELEMETRY] = "1"
    try:
        import onnxruntime
    finally:
        if before is None:
            del os.environ[TELEMETRY]
        else:
            os.environ[TELEMETRY] = before
    onnxruntime.disable_telemetry_events()
    return onnxruntime
