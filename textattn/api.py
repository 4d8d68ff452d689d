"""The Python interface: `train`, `load`, the `Model` that `load` returns, and `predict_udf` for other engines."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textattn.errors import ConfigError
from textattn.inference.classifier import Classifier, Text
from textattn.inference.udf import PredictUdf, predict_udf

if TYPE_CHECKING:
    from textattn.explain.explanations import Explanation
    from textattn.explain.flips import Flip
    from textattn.explain.trace import Trace
    from textattn.inference.most_useful import UsefulText


__all__ = ["Model", "PredictUdf", "load", "predict_udf", "train"]


def train(
    config: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    start: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Path:
    """Train a model and return its run directory. Notes and progress go to the logger `textattn`.

    Args:
        config: a YAML file, the name of a shipped config, a data file or a folder of them, or the settings as a
            mapping.
        overrides: settings to override, as on the command line: `["training.epochs=2"]`.
        start: a finished model to go on from, as `--from` on the command line.
        overwrite: replace the files of an earlier run in `output.dir`.
        resume: resume the run in `output.dir`, or the newest run of this config.

    Raises:
        textattn.errors.TextattnError: there is an error in the config, the data or the training; the message says
            where.
    """
    from textattn.config import config_from_mapping, load_config, name_of
    from textattn.report import LoggedReport
    from textattn.runs.train import train as run_training

    if start is not None:
        overrides = [*overrides, f"start.model={os.fspath(start)}"]
    report = LoggedReport()
    if isinstance(config, Mapping):
        loaded = config_from_mapping(config, overrides)
        return run_training(loaded, overwrite=overwrite, resume=resume, report=report)
    source = os.fspath(config)
    loaded, name = load_config(source, overrides), name_of(source)
    return run_training(loaded, name=name, overwrite=overwrite, resume=resume, report=report)


def load(model: str | os.PathLike[str] | None = None, device: str = "cpu", runtime: str | None = None) -> Model:
    """Load a trained model. Several threads may use it at the same time.

    Args:
        model: a run directory, a bundle or a model on the Hub (`hf://user/name`, `hf://user/name@revision`); the
            default is $TEXTATTN_MODEL or else the newest finished run under runs/.
        device: the device to compute on; every device except `cpu` needs torch.
        runtime: `onnx` (ONNX Runtime), `int8` (ONNX Runtime with the quantised model) or `torch`; the default is the
            first of these that is available.

    Raises:
        textattn.errors.InputError: the model does not exist or is damaged.
        textattn.errors.ConfigError: the device or the runtime does not exist.
    """
    from textattn.storage.find_model import find_model

    return Model.load(find_model(None if model is None else os.fspath(model)), device, runtime)


class Model(Classifier):
    """A trained model, which turns texts into labels, probabilities, vectors and explanations."""

    def explain(
        self,
        texts: Text | Iterable[Text],
        target: str | None = None,
        method: str | None = None,
        against: str | None = None,
    ) -> list[Explanation]:
        """Explain how much each token and word contributed to the predictions, in a list that a notebook shows.

        Args:
            texts: the texts to explain.
            target: the label to explain; the default is the predicted label.
            method: the name of a file in `textattn/explain/methods`, as for `textattn explain`. The default is
                `contributions`, or `attention` for a model whose logits cannot be divided among words.
            against: the label that the target is contrasted with; the default is all other labels.

        Raises:
            ConfigError: the label or method does not exist, or it does not apply to this model.
            InputError: the method needs PyTorch, but the model has no model.safetensors.
        """
        from textattn.explain.explanations import explain_texts
        from textattn.inference.notebook import Answers

        return Answers(explain_texts(self, texts, method, target, against))

    def flip(self, text: Text) -> Flip | None:
        """Find a smallest set of words whose removal changes the prediction; None if there is no such set.

        Raises:
            ConfigError: the text has the wrong number of segments.
        """
        from textattn.explain.flips import find_flip

        return find_flip(self, text)

    def trace(self, text: Text) -> Trace:
        """Follow one text through the network: the arrays from token ids to probabilities, with their shapes.

        Raises:
            InputError: the model has no model.safetensors; a bundle has none.
            ConfigError: the text has the wrong number of segments.
        """
        from textattn.explain.trace import trace

        return trace(self, text)

    def audit(
        self,
        data: str | Path | None = None,
        split: str = "test",
        examples: int = 500,
        methods: Sequence[str] | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """Measure on a split how far the explanations of this model can be trusted; see `textattn.explain.audit`.

        Args:
            data, split, settings: as for `evaluate`; labels are needed only for evidence and accuracy.
            examples: the maximum number of texts, which are drawn at random (seeded).
            methods: the explanation methods; the default is all except those that take minutes, such as `lime`.

        Raises:
            ConfigError, InputError: as for `evaluate` and `explain`.
        """
        from textattn.explain.audit import AUDITED, audit
        from textattn.inference.evaluation import load_split
        from textattn.report import logger

        rows = load_split(self, data, split, settings, logger().warning)
        return audit(self, rows, examples=examples, methods=methods or AUDITED)

    def most_useful(
        self, texts: Text | Iterable[Text], number: int = 100, labelled: Iterable[Text] | None = None
    ) -> list[UsefulText]:
        """Choose the texts of a pool that are most worth a label, the most useful first, each with its `index` in the
        pool. They are uncertain, unlike one another and unlike the texts that are labelled. Equal texts are chosen
        once, and a text that is labelled is not chosen.

        Args:
            texts: the pool.
            number: how many texts to choose; there may be fewer in the pool.
            labelled: the texts that are labelled; the default is all splits of the model's own data. A warning says so
                if they cannot be read.

        Raises:
            InputError, ConfigError: a text is none, see `predict`; or `number` is less than 1.
        """
        from textattn.inference.most_useful import Labelled, labelled_or_note, most_useful

        if number < 1:
            raise ConfigError(f"number: must be at least 1, got {number}", "number=100")
        if labelled is not None:
            known = Labelled(self.normalise(labelled))
        else:
            known, note = labelled_or_note(self)
            if note is not None:
                warnings.warn(note, stacklevel=2)
        return most_useful(self, self.normalise(texts), number, known)

    def evaluate(self, data: str | Path | None = None, split: str = "test", **settings: Any) -> dict[str, Any]:
        """Compute metrics on a split of labelled data; labels are matched by name.

        Args:
            data: a file, folder or Hub id; the default is the data set that the model was trained on.
            split: `test`, `validation`, `train` or the name of another split. A single file is one split.
            settings: keys of the data section (`text`, `label`, `label_names`, …) that differ from training.

        Raises:
            InputError: the data cannot be read, or contain a label that the model does not know.
        """
        from textattn.inference.evaluation import load_split, measure
        from textattn.report import logger

        return measure(self, load_split(self, data, split, settings, logger().warning), split)
