"""`textattn info`."""

from __future__ import annotations

from typing import Any

from textattn.cli.console import out, out_json, table
from textattn.cli.options import Json, Model


def info(model: Model = None, json: Json = False) -> None:
    """Show what a model is and what it reached.

    \b
    textattn info
    textattn info --model runs/imdb --json
    """
    from textattn.model_files import ModelFiles, find_model, read_model_config
    from textattn.run import ENVIRONMENT, METRICS, ONNX, ONNX_INT8, WEIGHTS

    files = ModelFiles(find_model(model))
    config = read_model_config(files)
    facts: dict[str, Any] = {
        "path": str(files.path),
        "finished": files.has(METRICS),
        "labels": config.labels,
        "problem_type": config.to_json()["problem_type"],
        "architecture": config.architecture,
        "size_bytes": {name: files.size(name) for name in (WEIGHTS, ONNX, ONNX_INT8) if files.has(name)},
    }
    if files.has(ENVIRONMENT):
        environment = files.read_json(ENVIRONMENT)
        facts |= {key: environment.get(key) for key in ("dataset", "command", "started", "textattn")}
    if facts["finished"]:
        facts["metrics"] = files.read_json(METRICS)
    if json:
        out_json(facts, indent=True)
        return
    rows = [
        ("path", facts["path"]),
        ("finished", "yes" if facts["finished"] else "no (training goes on, or will with train … --resume)"),
        ("labels", ", ".join(config.labels)),
        ("model", config.summary()),
        ("vocabulary", f"{config.architecture['vocab_size']:,} tokens"),
        ("size", ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in facts["size_bytes"].items())),
    ]
    if facts.get("dataset"):
        splits = facts["dataset"]["splits"].items()
        rows.append(
            ("data", facts["dataset"]["source"] + ", " + ", ".join(f"{v['num_examples']:,} {k}" for k, v in splits))
        )
        rows.append(("command", facts["command"]))
    for split in ("validation", "test"):
        measured = facts.get("metrics", {}).get(split)
        if measured:
            name, interval = measured["headline"], measured["interval_95"]
            rows.append((split, f"{name} {measured[name]:.4f} ({interval['low']:.4f} to {interval['high']:.4f})"))
    audit = facts.get("metrics", {}).get("audit")
    if isinstance(audit, dict) and "verdict" in audit:
        rows.append(("trust", str(audit["verdict"])))
    for line in table(rows):
        out(line)
