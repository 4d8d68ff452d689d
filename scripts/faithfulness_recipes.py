"""How well each explanation method explains the shipped recipes; `scripts/faithfulness.py recipes` runs it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recipes import RECIPES, settings_of
from scipy.stats import kendalltau, spearmanr

import textattn
from textattn.api import Model
from textattn.data.read import Split
from textattn.explain.audit import audit
from textattn.explain.forward_pass import ForwardPass
from textattn.explain.methods import find_method
from textattn.explain.targets import Targets
from textattn.inference.evaluation import load_split
from textattn.storage.files import read_json, write_json
from textattn.storage.run_dir import METRICS

NAMES = ("quickstart", "sst2", "trec", "chnsenticorp", "goemotions", "imdb")
ANCHORS = ("none", "values")
METHODS = ("contributions", "attention", "gradient_x_input", "integrated_gradients", "occlusion")
SILENT = ["output.audit_examples=0", "output.attention_examples=0", "output.plots=false"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `measure_recipes`."""
    parser.add_argument("names", nargs="*", metavar="recipe", help=f"default: {', '.join(NAMES)}")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the data sets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="SEED")
    parser.add_argument("--anchors", nargs="+", default=list(ANCHORS), choices=(*ANCHORS, "states", "shipped"))
    parser.add_argument("--examples", type=int, default=500, help="test texts")
    parser.add_argument("--slow-tokens", type=int, default=4_000_000, help="budget of each slow method, in tokens")
    parser.add_argument("--output", type=Path, default=Path("runs/faithfulness.json"), help="where results are kept")
    parser.add_argument("--runs", type=Path, default=Path("runs/faithfulness"), help="where the runs are kept")


def measure_recipes(arguments: argparse.Namespace) -> None:
    """Train every recipe with every anchor and seed, and print the figures of every method."""
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = read_json(arguments.output) if arguments.output.exists() else {}
    for name in arguments.names or NAMES:
        folder, _, metric = RECIPES[name]
        data = [] if folder is None else [f"data.path={arguments.data / folder}", *settings_of(name, arguments.data)]
        for anchor in arguments.anchors:
            for seed in arguments.seeds:
                key = f"{name}/{anchor}/{seed}"
                if key in kept:
                    continue
                run = arguments.runs / key.replace("/", "-")
                settings = [*data, *SILENT, f"seed={seed}", f"output.dir={run}"]
                settings += [] if anchor == "shipped" else [f"model.anchor={anchor}"]
                if not (run / METRICS).exists():
                    textattn.train(name, settings, resume=True)
                kept[key] = measure(textattn.load(run), json.loads((run / METRICS).read_text()), metric, arguments)
                write_json(arguments.output, kept)
                print(key, {name: round(figure, 4) for name, figure in flat(kept[key]).items()}, flush=True)
    print_table(kept, arguments)


def measure(model: Model, metrics: dict[str, Any], metric: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of one run."""
    split = load_split(model, None, "test", {})
    found = audit(model, split, examples=arguments.examples, methods=METHODS, slow_tokens=arguments.slow_tokens)
    figures = {
        name: {
            "comp": result["comprehensiveness"]["deletion"]["mean"],
            "until_flip": result["erased_until_flip"],
            "texts": result["num_examples"],
        }
        for name, result in found["methods"].items()
    }
    return {"metric": metrics["test"][metric], "methods": figures, **agreement(model, split, arguments)}


def agreement(model: Model, split: Split, arguments: argparse.Namespace) -> dict[str, float]:
    """The signed agreement of contributions with leave-one-out, as mean rank correlations over texts; the error of the
    sum of the contributions.
    """
    rows = np.random.default_rng(0).permutation(len(split))[: arguments.examples]
    tokenized = model.tokenizer.encode(split.take(np.sort(rows)))
    forward = ForwardPass.run(model, tokenized)
    cost = np.cumsum(tokenized.lengths.astype(np.int64) ** 2)
    part = forward.first(max(int((cost <= arguments.slow_tokens).sum()), 2))
    logits = part.logits
    answers = model.logits_to_probabilities(logits).argmax(axis=1)
    targets = Targets(answers, model.task)
    ours, theirs = (find_method(name).attribute(part, targets).scores for name in ("contributions", "occlusion"))
    bias = model.torch_session.model.classifier.bias.detach().numpy()
    sums = np.array([total.sum(axis=0) for total in forward.contributions.total]) + bias
    return {
        "kendall": mean_correlation(kendalltau, ours, theirs),
        "spearman": mean_correlation(spearmanr, ours, theirs),
        "agreement_texts": len(part),
        "sum_error": float(np.abs(sums - forward.logits).max()),
    }


def mean_correlation(measure: Any, first: Sequence[Any], second: Sequence[Any]) -> float:
    """Over the texts of at least two tokens whose scores are not all equal."""
    found = [
        measure(a, b).statistic
        for a, b in zip(first, second, strict=True)
        if len(a) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0
    ]
    return float(np.mean(found)) if found else float("nan")


def flat(result: dict[str, Any]) -> dict[str, float]:
    """The figures of the table."""
    comp = {name: figures["comp"] for name, figures in result["methods"].items()}
    return {
        "metric": result["metric"],
        **{f"comp {name}": value for name, value in comp.items()},
        "until flip": result["methods"]["contributions"]["until_flip"],
        "until flip attention": result["methods"]["attention"]["until_flip"],
        "kendall": result["kendall"],
        "spearman": result["spearman"],
        "sum error": result["sum_error"],
    }


def print_table(kept: dict[str, Any], arguments: argparse.Namespace) -> None:
    """A row for each recipe and anchor: means over the seeds, and for the metric its standard deviation."""
    columns = [
        "metric", *(f"comp {name}" for name in (*METHODS, "random")), "until flip", "until flip attention", "kendall",
        "spearman", "sum error",
    ]  # fmt: skip
    print(f"| recipe | anchor | seeds | {' | '.join(columns)} |\n|---|---|---{'|---' * len(columns)}|")
    for name in arguments.names or NAMES:
        for anchor in arguments.anchors:
            found = [flat(kept[key]) for seed in arguments.seeds if (key := f"{name}/{anchor}/{seed}") in kept]
            if not found:
                continue
            values = {column: np.array([result[column] for result in found]) for column in columns}
            cells = [
                f"{v.max():.1e}" if column == "sum error" else f"{v.mean():.4f} ± {v.std():.4f}"
                if column == "metric" else f"{v.mean():.3f}"
                for column, v in values.items()
            ]  # fmt: skip
            print(f"| {name} | {anchor} | {len(found)} | {' | '.join(cells)} |")
