"""Settings of earlier versions that no longer exist.

A config in which such a setting has its old default is still accepted, because the training_config.yaml of every
finished run contains it. A config that sets it to anything else is refused with the reason.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from textattn.config.yaml12 import KeyPath


class Removed(NamedTuple):
    """A setting that no longer exists."""

    default: Any
    """The value that turned it off."""
    reason: str


PRETRAINING = "language-model pretraining improved no data set that it was measured on"
UNSUPERVISED = "it improved no data set that it was measured on; use data.teacher to learn from texts without labels"
FINE_TUNING = "it served fine-tuning after language-model pretraining, which was removed"

REMOVED: dict[KeyPath, Removed] = {
    ("model", "pretraining", "epochs"): Removed(0, PRETRAINING),
    ("model", "pretraining", "path"): Removed(None, PRETRAINING),
    ("model", "pretraining"): Removed({}, PRETRAINING),
    ("training", "layer_decay"): Removed(1.0, FINE_TUNING),
    ("training", "unfreezing"): Removed(0.0, FINE_TUNING),
    ("training", "focal_gamma"): Removed(
        0.0, "it found no more texts with rare labels than plain training; use class_weights"
    ),
    ("training", "state_diversity"): Removed(0.0, "it did not make explanations more faithful; use state_tying"),
    ("training", "virtual_adversarial"): Removed(0.0, UNSUPERVISED),
    ("training", "entropy_minimisation"): Removed(0.0, UNSUPERVISED),
}


def drop_removed(values: dict[str, Any], *, used_too: bool = False) -> dict[KeyPath, str]:
    """Delete removed settings from a config, in place.

    Args:
        values: the config as a mapping of plain values.
        used_too: also accept those that were in use. This is for the config of a finished run, whose model no longer
            needs them.

    Returns:
        A message for each setting that was in use and is not accepted, by its path.
    """
    problems: dict[KeyPath, str] = {}
    for path, removed in REMOVED.items():
        *sections, key = path
        section: Any = values
        for name in sections:
            section = section.get(name) if isinstance(section, dict) else None
        if not isinstance(section, dict) or key not in section:
            continue
        value = section.pop(key)
        off = value == removed.default or (path == ("model", "pretraining") and isinstance(value, dict))
        if not off and not used_too:
            problems[path] = f"this setting was removed: {removed.reason}"
    return problems
