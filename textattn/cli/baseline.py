"""`textattn baseline`."""

from __future__ import annotations

from textattn.cli.check import load
from textattn.cli.console import note, out, out_json
from textattn.cli.options import ConfigName, Json, Overrides, Quiet


def baseline(config: ConfigName, overrides: Overrides = None, json: Json = False, quiet: Quiet = False) -> None:
    """Train a linear model on the same data and splits.

    \b
    textattn baseline imdb
    textattn baseline my.yaml data.path=reviews.csv

    TF-IDF of words and pairs (of characters where the tokenizer is by characters) with logistic regression, on exactly
    the splits that `train` uses: what any other model has to beat. `train … training.baseline=true` puts it beside the
    model and tells whether that is better.
    """
    resolved = load(config, overrides)
    note("Loading torch …")
    from textattn.cli.progress import ConsoleReport, headline
    from textattn.runs.baseline import train_baseline
    from textattn.runs.prepare import prepare
    from textattn.training.processors import limited_blas

    report = ConsoleReport()
    data = prepare(resolved, report)
    with limited_blas():
        facts, _ = train_baseline(data, report)
    if json:
        out_json(facts, indent=True)
        return
    out(f"{facts['model']}: {facts['num_features']:,} features, C = {facts['C']:g}, {facts['seconds']:.1f} s")
    for split in ("validation", "test"):
        if split in facts:
            out(f"{split}: {headline(facts[split])}")
