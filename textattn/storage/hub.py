"""What reading from the Hugging Face Hub has in common for data sets, tokenizers and models."""

from __future__ import annotations

import os


def offline_variable() -> str | None:
    """The environment variable that forbids the client to use the network, if one is set."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE"):
            return variable
    return None


def first_line(error: Exception) -> str:
    """What the client says, without its advice for programmers."""
    return str(error).strip().split("\n")[0] or type(error).__name__
