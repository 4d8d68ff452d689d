"""textattn: train text classifiers you can read.

run = textattn.train("quickstart")
model = textattn.load(run)
model.predict(["Delicious food, friendly staff."])[0].label
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textattn.runtime.classifier import Classifier

__version__ = "0.1.0"
__all__ = ["__version__", "load", "train"]

# Large tensors of torch on large pages (Linux): a training step then waits less for memory. Read when torch loads.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# ONNX Runtime writes an identifier to disk and tells its maker that it was started, before anybody can ask it not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Everything heavy is imported inside the functions: `import textattn` costs nothing.


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
    from textattn.pipeline import train as run_training

    if isinstance(config, Mapping):
        return run_training(config_from_mapping(config, overrides), overwrite=overwrite, resume=resume)
    source = os.fspath(config)
    return run_training(load_config(source, overrides), name=Path(source).stem, overwrite=overwrite, resume=resume)


def load(model: str | os.PathLike[str] | None = None, device: str = "cpu", runtime: str | None = None) -> Classifier:
    """A trained model, ready to answer, from several threads at once if need be.

    Args:
        model: a run directory, a bundle or a Hub id; default $TEXTATTN_MODEL or the newest finished run under runs/.
        device: other than cpu: with torch.
        runtime: `onnx` (ONNX Runtime), `int8` (the same, quantised) or `torch`; default: the first one there is.

    Raises:
        textattn.errors.InputError: there is no such model, or it is damaged.
        textattn.errors.ConfigError: there is no such device or runtime.
    """
    from textattn.model_files import find_model
    from textattn.runtime.classifier import Classifier

    return Classifier.load(find_model(None if model is None else os.fspath(model)), device, runtime)
