"""An audit kept in the finished run it is of: metrics.json and the model card say how far to trust its explanations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from textattn.errors import InputError
from textattn.runs.model_card import model_card
from textattn.storage.model_files import ModelFiles
from textattn.storage.run_dir import ENVIRONMENT, METRICS, MODEL_CARD, read_json, write_json, write_text
from textattn.inference.classifier import Classifier
from textattn.inference.evaluation import training_config


def keep_audit(classifier: Classifier, audit: dict[str, Any]) -> Path | None:
    """Puts an audit into the run; None where the model is no finished run (a bundle, an interrupted one).

    Raises:
        InputError: a file of the run is damaged.
        OSError: it cannot be written.
    """
    run = classifier.path
    files: ModelFiles = classifier.files
    if files.is_bundle or not files.has(METRICS):
        return None
    metrics = read_json(run / METRICS)
    if not isinstance(metrics, dict):
        raise InputError(f"{run / METRICS}: damaged (no object)")
    metrics["audit"] = audit
    config = training_config(classifier)
    if config is not None and files.has(ENVIRONMENT):
        environment = read_json(run / ENVIRONMENT)
        write_text(run / MODEL_CARD, model_card(config, classifier.config, metrics, environment))
    # Last, as at the end of training: what the card says has been written by then.
    json.dumps(audit, allow_nan=False)
    write_json(run / METRICS, metrics)
    return run
