"""textattn: train text classifiers you can read.

run = textattn.train("quickstart")
model = textattn.load(run)
model.predict(["Delicious food, friendly staff."])[0].label
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textattn.api import Model, PredictUdf, load, predict_udf, train

__version__ = "0.1.0"
__all__ = ["Model", "PredictUdf", "__version__", "load", "predict_udf", "train"]


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that `import textattn` is fast."""
    if name in __all__:
        from textattn import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
