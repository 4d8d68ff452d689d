"""`textattn info`."""

from __future__ import annotations

from typing import Any

from textattn.cli.console import Json, Model, out, out_json, table


def info(model: Model = None, json: Json = False) -> None:
    """Show what a model is and what it reached.

    \b
    textattn info
    textattn info --model runs/imdb --json
    """
    from textattn import run as run_dir

    path = run_dir.find_model(model)
    config = run_dir.read_model_config(path)
    facts: dict[str, Any] = {
        "path": str(path),
        "finished": run_dir.is_finished(path),
        "labels": config.labels,
        "problem_type": config.to_json()["problem_type"],
        "architecture": config.architecture,
        "size_bytes": sum((path / name).stat().st_size for name in run_dir.OWN_FILES[:4] if (path / name).is_file()),
    }
    if (path / run_dir.ENVIRONMENT).is_file():
        environment = run_dir.read_json(path / run_dir.ENVIRONMENT)
        facts |= {key: environment.get(key) for key in ("dataset", "command", "started", "textattn")}
    if facts["finished"]:
        facts["metrics"] = run_dir.read_json(path / run_dir.METRICS)
    if json:
        out_json(facts, indent=True)
        return
    rows = [
        ("path", facts["path"]),
        ("finished", "yes" if facts["finished"] else "no (training was interrupted or is going on)"),
        ("labels", ", ".join(config.labels)),
        ("model", config.summary()),
        ("vocabulary", f"{config.architecture['vocab_size']:,} tokens"),
        ("size", f"{facts['size_bytes'] / 1e6:.1f} MB"),
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
    for line in table(rows):
        out(line)
