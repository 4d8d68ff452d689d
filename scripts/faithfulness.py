#!/usr/bin/env python
"""Measures how much each method of training for explanations helps: accuracy and audit, over several seeds.

    .venv/bin/python scripts/faithfulness.py sst2 data.path=../shared/data/sst2 --seeds 5

    .venv/bin/python scripts/faithfulness.py recipes sst2 trec --seeds 1 2 3

The second form trains shipped recipes, with `model.anchor` none and values, and compares all explanation methods on
their test texts. The first form is about training attention to explain: it trains the config once for each variant and
seed, with the same word vectors for all, audits the attention of every model on the same texts and prints a table (mean
and standard deviation over the seeds). A recipe that learns from the predictions of a teacher gets a model of the
unchanged config as its teacher, and its own word vectors. After each run, all results are written to --output as JSON.
Started again with the same --output, the script continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import faithfulness_recipes
import numpy as np

import textattn
from textattn.config import load_config, shipped_configs
from textattn.explain.audit import audit
from textattn.inference.evaluation import load_split
from textattn.report import Report
from textattn.runs.prepare import prepare
from textattn.storage.files import atomic_path
from textattn.storage.run_dir import METRICS

VARIANTS: dict[str, list[str]] = {
    "plain": [],
    "uniform": ["model.attention=mean"],
    "anchor_states": ["model.anchor=states"],
    "anchor_values": ["model.anchor=values"],
    "tying": ["training.state_tying=0.01"],
    "masking": ["model.dropout.masking=0.5"],
    "alignment": ["training.attention_alignment=0.5"],
}
# This variant trains the shipped recipe CONFIG_faithful instead of CONFIG.
FAITHFUL = "faithful"
SILENT = ["output.audit_examples=0", "output.attention_examples=0", "output.plots=false"]
# Column of the table -> path in a result.
COLUMNS: dict[str, tuple[str, ...]] = {
    "accuracy": ("accuracy",),
    "tau gradient": ("audit", "attention", "tau_gradient", "mean"),
    "tau LOO": ("audit", "attention", "tau_leave_one_out", "mean"),
    "comp": ("audit", "methods", "attention", "comprehensiveness", "deletion", "mean"),
    "comp (mask)": ("audit", "methods", "attention", "comprehensiveness", "mask", "mean"),
    "suff": ("audit", "methods", "attention", "sufficiency", "deletion", "mean"),
    "top flips": ("audit", "methods", "attention", "top_token_flips"),
    "until flip": ("audit", "methods", "attention", "erased_until_flip"),
    "random comp": ("audit", "methods", "random", "comprehensiveness", "deletion", "mean"),
    "gradient comp": ("audit", "methods", "gradient_x_input", "comprehensiveness", "deletion", "mean"),
    "conicity": ("audit", "attention", "conicity", "mean"),
    "uniform flips": ("audit", "attention", "uniform_decisions_changed"),
    "AUPRC": ("audit", "methods", "attention", "evidence", "auprc", "mean"),
    "token F1": ("audit", "methods", "attention", "evidence", "token_f1", "mean"),
}


def main() -> None:
    if sys.argv[1:2] == ["recipes"]:
        parser = argparse.ArgumentParser(prog="faithfulness.py recipes", description=faithfulness_recipes.__doc__)
        faithfulness_recipes.add_arguments(parser)
        faithfulness_recipes.measure_recipes(parser.parse_args(sys.argv[2:]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 1 to N")
    parser.add_argument("--variants", default=None, help=f"some of {', '.join(VARIANTS)}, {FAITHFUL}; default: all")
    parser.add_argument("--split", default="test")
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--slow-tokens", type=int, default=2_000_000, help="budget of leave-one-out, in tokens")
    parser.add_argument("--output", type=Path, default=None, help="JSON file")
    parser.add_argument("--runs", type=Path, default=None, help="folder to keep the runs in; finished runs are reused")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME:KEY=VALUE,KEY=VALUE", help="more variants")
    arguments = parser.parse_args()
    variants = dict(VARIANTS)
    shipped = [FAITHFUL] if f"{arguments.config}_{FAITHFUL}" in shipped_configs() else []
    names = [*VARIANTS, *shipped] if arguments.variants is None else arguments.variants.split(",")
    for text in arguments.set:
        name, _, settings = text.partition(":")
        variants[name] = settings.split(",")
        names.append(name)
    results: dict[str, dict[str, Any]] = {}
    if arguments.output is not None and arguments.output.exists():
        results = json.loads(arguments.output.read_text())
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.runs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(1, arguments.seeds + 1):
            for name in names:
                if str(seed) in results.setdefault(name, {}):
                    continue
                config = arguments.config + (f"_{FAITHFUL}" if name == FAITHFUL else "")
                # All variants train without n-grams, because only the attention is evaluated.
                shared = (
                    trained_teacher(arguments.config, arguments.overrides, folder)
                    if name == FAITHFUL and load_config(config).data.teacher
                    else shared_vectors(arguments.config, arguments.overrides, folder)
                )
                settings = ["model.ngrams=0", *arguments.overrides, *shared, *variants.get(name, []), f"seed={seed}"]
                results[name][str(seed)] = measure(arguments, config, settings, folder / f"{name}-{seed}")
                print(
                    name,
                    seed,
                    *(f"{c}={v:.3f}" for c in COLUMNS if (v := value(results[name][str(seed)], c)) is not None),
                    flush=True,
                )
                if arguments.output is not None:
                    arguments.output.write_text(json.dumps(results, indent=1))
    print_table({name: results[name] for name in names})


def shared_vectors(config: str, overrides: list[str], folder: Path) -> list[str]:
    """Train word vectors once, so that the variants share them. Returns the settings that read them."""
    from textattn.tokens.skipgram import SHARDS, train_skipgram

    resolved = load_config(config, overrides)
    settings = resolved.model.vectors
    if settings.source != "skipgram":
        return []
    path = folder / "vectors.txt"
    read = ["model.vectors.source=file", f"model.vectors.path={path}"]
    if path.exists():
        return read
    data = prepare(resolved, Report())
    resolved, corpus, tokenizer = data.config, data.corpus, data.tokenizer
    dim = resolved.model.embedding_dim
    vectors = train_skipgram(settings, iter(corpus.train), tokenizer, dim, resolved.seed, threads=SHARDS)
    words = {number: word for word, number in tokenizer.backend.get_vocab().items()}
    with atomic_path(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        for number in np.flatnonzero(vectors.found):
            file.write(" ".join([words[int(number)], *map(repr, vectors.matrix[number].tolist())]) + "\n")
    return read


def trained_teacher(config: str, overrides: list[str], folder: Path) -> list[str]:
    """Train the teacher of a recipe that needs one, once. Returns the settings that name it."""
    run = folder / "teacher"
    if not (run / METRICS).exists():
        textattn.train(config, [*overrides, *SILENT, f"output.dir={run}"], resume=True)
    return [f"data.teacher={run}"]


def measure(arguments: argparse.Namespace, config: str, overrides: list[str], run: Path) -> dict[str, Any]:
    if not (run / METRICS).exists():
        textattn.train(config, [*overrides, *SILENT, f"output.dir={run}"], resume=True)
    classifier = textattn.load(run)
    split = load_split(classifier, None, arguments.split, {})
    metrics = json.loads((run / METRICS).read_text())
    found = audit(
        classifier,
        split,
        examples=arguments.examples,
        methods=("attention", "gradient_x_input"),
        slow_tokens=arguments.slow_tokens,
        thorough=False,
    )
    return {
        "accuracy": metrics[arguments.split]["accuracy"],
        "seconds": metrics["seconds"],
        "overrides": [o for o in overrides if "vectors" not in o],
        "audit": found,
    }


def value(result: dict[str, Any], column: str) -> float | None:
    found: Any = result
    for key in COLUMNS[column]:
        found = None if found is None else found.get(key)
    return None if found is None else float(found)


def print_table(results: dict[str, dict[str, Any]]) -> None:
    columns = [c for c in COLUMNS if any(value(r, c) is not None for seeds in results.values() for r in seeds.values())]
    print(f"| variant | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for name, seeds in results.items():
        cells = []
        for column in columns:
            values = [v for r in seeds.values() if (v := value(r, column)) is not None]
            cells.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}" if values else "")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
