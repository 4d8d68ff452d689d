"""Keeps an audit in the finished run that it is of: metrics.json and the model card say how far to trust it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from textattn.inference.classifier import Classifier
from textattn.inference.evaluation import training_config
from textattn.runs.model_card import model_card
from textattn.storage.run_dir import ENVIRONMENT, RunDir


def keep_audit(classifier: Classifier, audit: dict[str, Any]) -> Path | None:
    """Puts an audit into the run; None where the model is no finished run (a bundle, an interrupted one).

    Raises:
        InputError: a file of the run is damaged.
        OSError: it cannot be written.
    """
    run = RunDir(classifier.path)
    if classifier.files.is_bundle or not run.is_finished():
        return None
    metrics = run.metrics()
    metrics["audit"] = audit
    config = training_config(classifier)
    if config is not None and classifier.files.has(ENVIRONMENT):
        run.write_card(model_card(config, classifier.config, metrics, run.environment()))
    # Last, as at the end of training: what the card says has been written by then.
    json.dumps(audit, allow_nan=False)
    run.write_metrics(metrics)
    return run.path
