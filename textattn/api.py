"""What people import: `train`, `load` and the `Model` that it gives."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textattn.inference.classifier import Classifier, Text

if TYPE_CHECKING:
    from textattn.explain.explanations import Explanation
    from textattn.explain.flips import Flip


def train(
    config: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> Path:
    """Trains a model and returns its run directory.

    Args:
        config: a YAML file, the name of a shipped config, or the settings as a mapping.
        overrides: as on the command line, `["training.epochs=2"]`.
        overwrite: replace what an earlier run left in `output.dir`.
        resume: go on with the run in `output.dir`, or with the newest of that config.

    Raises:
        textattn.errors.TextattnError: the config, the data or the training went wrong; the message says where.
    """
    from textattn.config import config_from_mapping, load_config
    from textattn.runs.train import train as run_training

    if isinstance(config, Mapping):
        return run_training(config_from_mapping(config, overrides), overwrite=overwrite, resume=resume)
    source = os.fspath(config)
    return run_training(load_config(source, overrides), name=Path(source).stem, overwrite=overwrite, resume=resume)


def load(model: str | os.PathLike[str] | None = None, device: str = "cpu", runtime: str | None = None) -> Model:
    """A trained model, ready to answer, from several threads at once if need be.

    Args:
        model: a run directory, a bundle or a Hub id; default $TEXTATTN_MODEL or the newest finished run under runs/.
        device: other than cpu: with torch.
        runtime: `onnx` (ONNX Runtime), `int8` (the same, quantised) or `torch`; default: the first one there is.

    Raises:
        textattn.errors.InputError: there is no such model, or it is damaged.
        textattn.errors.ConfigError: there is no such device or runtime.
    """
    from textattn.storage.model_files import find_model

    return Model.load(find_model(None if model is None else os.fspath(model)), device, runtime)


class Model(Classifier):
    """A trained model: texts in, labels, probabilities, vectors and explanations out."""

    def explain(
        self,
        texts: Text | Iterable[Text],
        target: str | None = None,
        method: str = "attention",
        against: str | None = None,
    ) -> list[Explanation]:
        """How much each token and word counted for the answer.

        Args:
            target: the label to explain; default is the predicted one.
            method: the name of a file in `textattn/explain/methods`, as for `textattn explain`.
            against: explain the target rather than this label, instead of rather than all others.

        Raises:
            ConfigError: there is no such label or method, or it does not apply to this model.
            InputError: the method needs PyTorch, and the model has no model.safetensors.
        """
        from textattn.explain.explanations import explain_texts

        return explain_texts(self, texts, method, target, against)

    def flip(self, text: Text) -> Flip | None:
        """A smallest set of words without which the answer to a text is another one; None where there is none.

        Raises:
            ConfigError: the text has the wrong number of segments.
        """
        from textattn.explain.flips import find_flip

        return find_flip(self, text)

    def audit(
        self,
        data: str | Path | None = None,
        split: str = "test",
        examples: int = 500,
        methods: Sequence[str] | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """How far the explanations of this model can be trusted, measured on a split; see `textattn.explain.audit`.

        Args:
            data, split, settings: as for `evaluate`; the labels are needed for evidence and accuracy only.
            examples: most texts, drawn at random (seeded).
            methods: default: all for every model but those that take minutes, such as `lime`.

        Raises:
            ConfigError, InputError: as `evaluate` and `explain`.
        """
        from textattn.explain.audit import AUDITED, audit
        from textattn.inference.evaluation import load_split

        rows = load_split(self, data, split, settings)
        return audit(self, rows, examples=examples, methods=methods or AUDITED)

    def evaluate(self, data: str | Path | None = None, split: str = "test", **settings: Any) -> dict[str, Any]:
        """Metrics on a split of labelled data; labels are matched by name.

        Args:
            data: a file, folder or Hub id; default: the data set the model was trained on.
            split: `test`, `validation`, `train` or a split by its own name. A single file is one split.
            settings: keys of the data section (`text`, `label`, `label_names`, …) that differ from training.

        Raises:
            InputError: the data cannot be read, or hold a label the model does not know.
        """
        from textattn.inference.evaluation import load_split, measure

        return measure(self, load_split(self, data, split, settings), split)
