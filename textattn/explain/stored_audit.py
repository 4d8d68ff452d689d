"""Reads the audit that a run keeps in its metrics.json. Light to import."""

from __future__ import annotations

from typing import Any

from textattn.errors import InputError
from textattn.explain.verdict import verdict
from textattn.inference.classifier import Classifier
from textattn.storage.run_dir import METRICS


def stored_audit(classifier: Classifier) -> dict[str, Any] | None:
    """The audit in metrics.json, of this version or an older one.

    None where there is none, or it cannot be read: a damaged audit must not keep anybody from explaining.
    """
    if not classifier.files.has(METRICS):
        return None
    try:
        found = classifier.files.read_json(METRICS)["audit"]
        for method in found["methods"]:
            verdict(found, method)
        if not found["methods"]:
            return None
    except (InputError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return dict(found)


def trust(classifier: Classifier, method: str) -> str | None:
    """The verdict on a method for this model, in one sentence; None where the model has not been audited."""
    audit = stored_audit(classifier)
    return None if audit is None else verdict(audit, method)
