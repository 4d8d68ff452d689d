"""textattn: train text classifiers you can read.

run = textattn.train("quickstart")
model = textattn.load(run)
model.predict(["Delicious food, friendly staff."])[0].label
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textattn.api import Model, load, train

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load", "train"]

# On Linux, torch then puts large tensors on huge pages, and a training step waits less for memory. Torch reads the
# variable when it is loaded.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# ONNX Runtime writes an identifier to disk and reports its start to its maker while it is being imported, so telemetry
# can only be disabled before that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that `import textattn` is fast."""
    if name in __all__:
        from textattn import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
