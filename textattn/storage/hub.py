"""Common functions for reading data sets, tokenizers and models from the Hugging Face Hub."""

from __future__ import annotations

import os


def offline_variable() -> str | None:
    """The environment variable that stops the Hub client from using the network, or None if none is set."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE"):
            return variable
    return None


def first_line(error: Exception) -> str:
    """The first line of an error of the Hub client; further lines are advice for programmers."""
    return str(error).strip().split("\n")[0] or type(error).__name__
