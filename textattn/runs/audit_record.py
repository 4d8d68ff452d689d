"""Record an audit in the finished run of the audited model, in metrics.json and in the model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from textattn.inference.classifier import Classifier
from textattn.inference.evaluation import training_config
from textattn.runs.model_card import model_card
from textattn.storage.locks import owned
from textattn.storage.run_dir import ENVIRONMENT, RunDir


def keep_audit(classifier: Classifier, audit: dict[str, Any]) -> Path | None:
    """Write an audit into the run of the model.

    Returns:
        The run directory; None if the model is not a finished run: a bundle, an interrupted run, or files that were
        copied into another folder or are links, as in the cache of the Hub. Their README.md is not ours.

    Raises:
        InputError: a file of the run is damaged.
        ConfigError: another process writes to the run.
        OSError: the run directory cannot be written to.
    """
    run = RunDir(classifier.path)
    if classifier.files.is_bundle or not (run.is_run() and run.is_finished()) or run.links():
        return None
    with owned(run.path, "changed", "wait until that process has ended, then run the audit again"):
        metrics = run.metrics()
        metrics["audit"] = audit
        config = training_config(classifier)
        if config is not None and classifier.files.has(ENVIRONMENT):
            run.write_card(model_card(config, classifier.config, metrics, run.environment()))
        # metrics.json is written last, as at the end of training.
        json.dumps(audit, allow_nan=False)
        run.write_metrics(metrics)
    return run.path
