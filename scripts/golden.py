"""Records digests of the files that small runs of every kind of config write, to compare the bytes of two versions.

    PYTHONPATH=OTHER_CHECKOUT .venv/bin/python scripts/golden.py record before.json
    .venv/bin/python scripts/golden.py compare before.json

The bytes of weights depend on the processor and on torch, so digests are compared on one machine and not committed. If
anything differs, `compare` lists it and ends with exit code 1.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.update(OMP_NUM_THREADS="1", TEXTATTN_CACHE="off", HF_HUB_OFFLINE="1", COLUMNS="100", NO_COLOR="1")

import numpy as np

# Timings, paths and versions, which differ between any two runs.
VOLATILE = {
    "seconds", "total", "train_runtime", "train_tokens_per_second", "started", "command", "platform", "python",
    "packages", "run", "dir", "path", "duration",
}  # fmt: skip
SENTENCE = "The food was delicious and the staff were friendly, but the room was noisy."
BASE: dict[str, Any] = {
    "recipe": "plain",
    "data": {"path": "texts.jsonl"},
    "tokenizer": {"vocab_size": 400, "min_frequency": 1, "max_length": 40},
    "model": {"embedding_dim": 16, "hidden_size": 16, "attention_size": 8},
    "training": {"epochs": 2, "batch_size": 16, "checkpoint_steps": 5},
    "output": {
        "plots": False,
        "audit_examples": 12,
        "prediction_splits": ["validation"],
        "attention_splits": ["validation"],
    },
}


def kinds(folder: Path) -> dict[str, dict[str, Any]]:
    """The settings of each kind of run that differ from BASE, as dotted keys."""
    return {
        "plain": {},
        "recipe_auto": {"recipe": "auto", "model": {}, "tokenizer": {}, "training": {"epochs": 1}},
        "ngrams": {"model.ngrams": 2, "model.ngram_buckets": 512},
        "skipgram": {"model.vectors": {"source": "skipgram", "epochs": 2}},
        "gru_two_layers": {"model.encoder": "gru", "model.num_layers": 2},
        "one_direction_last": {"model.bidirectional": False, "model.attention": "last"},
        "no_encoder": {"model.encoder": "none", "model.attention": "mlp"},
        "multi_head": {"model.attention": "multi_head", "model.num_heads": 2},
        "self_attention": {"model.attention": "self_attention", "model.num_heads": 2},
        "sigmoid_attention": {"model.attention": "sigmoid"},
        "general": {"model.attention": "general"},
        "max": {"model.attention": "max"},
        "binary": {"data.path": "two.jsonl", "model.output": "sigmoid", "training.label_smoothing": 0.1},
        "multi_label": {"data.path": "several.jsonl", "model.ngrams": 1, "model.ngram_buckets": 128},
        "balanced": {"training.sampling": "balanced", "training.metric": "macro_f1"},
        "class_weights": {"training.class_weights": "balanced", "training.patience": 1},
        "faithful": {
            "model.anchor": "values", "model.attention_window": 3, "training.attention_alignment": 0.2,
            "training.state_tying": 0.01, "model.dropout": {"masking": 0.3},
        },
        "evidence": {"data.path": "marked.jsonl", "data.evidence": "evidence", "training.attention_supervision": 0.5},
        "folds": {"training.cross_validation": 3, "data.validation_fraction": 0.0, "training.evaluations_per_epoch": 2},
        "folds_several": {
            "data.path": "several.jsonl", "training.cross_validation": 2, "data.validation_fraction": 0.0,
        },
        "teacher": {"data.unlabelled": {"path": "unlabelled.jsonl"}, "data.teacher": str(folder / "plain")},
        "unlabelled": {"data.unlabelled": {"path": "unlabelled.jsonl"}},
        "char": {"tokenizer.type": "char"},
        "bpe": {"tokenizer.type": "bpe"},
        "composition": {
            "data.path": "formulas.csv", "data.text": "formula", "data.label": "kind",
            "tokenizer.type": "composition", "model.vectors": {"source": "periodic_table"},
        },
        "segments": {"data.path": "pairs.csv", "data.text": ["first", "second"], "training.baseline": True},
        "bf16": {"training.precision": "bf16"},
    }  # fmt: skip


def write_data(folder: Path) -> None:
    """Texts with labels that can be learned, drawn with a seed."""
    random = np.random.default_rng(0)
    filler = [
        "the",
        "a",
        "of",
        "and",
        "room",
        "table",
        "staff",
        "street",
        "night",
        "evening",
        "we",
        "they",
        "it",
        "went",
        "came",
        "was",
    ]
    telling = {
        "bad": ["awful", "dirty", "rude", "cold"],
        "good": ["lovely", "clean", "kind", "warm"],
        "so": ["fine", "plain"],
    }

    def text(names: list[str]) -> list[str]:
        words = list(random.choice(filler, int(random.integers(3, 25))))
        for name in names:
            words.insert(int(random.integers(len(words))), str(random.choice(telling[name])))
        return [str(word) for word in words]

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    labels = list(telling)
    drawn = [labels[int(i)] for i in random.choice(3, 150, p=[0.5, 0.35, 0.15])]
    write("texts.jsonl", [{"text": " ".join(text([label])), "label": label} for label in drawn])
    write("two.jsonl", [{"text": " ".join(text([label])), "label": label} for label in labels[:2] * 60])
    several = [[name for name in labels if random.random() < 0.5] for _ in range(150)]
    write("several.jsonl", [{"text": " ".join(text(names)), "label": names} for names in several])
    write("unlabelled.jsonl", [{"text": " ".join(text([label]))} for label in labels * 20])
    marked = []
    for label in labels * 40:
        words = text([label])
        spans, at = [], 0
        for word in words:
            if word in telling[label]:
                spans.append([at, at + len(word)])
            at += len(word) + 1
        marked.append({"text": " ".join(words), "label": label, "evidence": spans})
    write("marked.jsonl", marked)
    metals, others = ["Fe", "Co", "Ni", "Cu", "Al", "Ti"], ["O", "S", "Cl", "F"]
    rows = ["formula,kind"]
    for _ in range(120):
        first, second = random.choice(metals, 2, replace=False)
        n, m = random.integers(1, 4, 2)
        rows.append(
            f"{first}{n}{second}{m},metal" if random.random() < 0.5 else f"{first}{n}{random.choice(others)}{m},none"
        )
    (folder / "formulas.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    rows = ["first,second,label"]
    rows += [f"{' '.join(text([label]))},{' '.join(text([]))},{label}" for label in labels * 40]
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def settings_of(kind: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A complete config."""
    config: dict[str, Any] = json.loads(json.dumps(BASE))
    for key, value in kind.items():
        *sections, last = key.split(".")
        place = config
        for section in sections:
            place = place[section]
        place[last] = value
    for place, key in ((config["data"], "path"), (config["data"].get("unlabelled", {}), "path")):
        if key in place:
            place[key] = str(folder / place[key])
    return config


def without_volatile(value: Any) -> Any:
    """The same value without timings and paths."""
    if isinstance(value, dict):
        return {key: without_volatile(item) for key, item in value.items() if key not in VOLATILE}
    return [without_volatile(item) for item in value] if isinstance(value, list) else value


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def outcome(run: Path, folder: Path) -> dict[str, str]:
    """Digests of the relevant content of each file."""
    import pyarrow.parquet as parquet

    found = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if not path.is_file():
            continue
        content = path.read_bytes().replace(str(folder).encode(), b"FOLDER")
        if path.suffix == ".json":
            content = json.dumps(without_volatile(json.loads(content)), sort_keys=True).encode()
        elif path.suffix == ".jsonl":
            content = json.dumps([without_volatile(json.loads(line)) for line in content.splitlines()]).encode()
        elif path.suffix == ".parquet":
            content = json.dumps(parquet.read_table(path).to_pydict(), sort_keys=True).encode()
        elif path.suffix in (".md", ".yaml"):
            continue  # prose, and settings with their defaults
        found[name] = digest(content)
    return found


def printed(*arguments: str) -> str:
    """Digests of what commands print on stdout."""
    from textattn.cli import main

    streams = {"stdout": io.TextIOWrapper(io.BytesIO(), "utf-8"), "stderr": io.TextIOWrapper(io.BytesIO(), "utf-8")}
    with patch.object(sys, "argv", ["textattn", *arguments]), contextlib.ExitStack() as stack:
        for name, stream in streams.items():
            stack.enter_context(patch.object(sys, name, stream))
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        for stream in streams.values():
            stream.flush()
    out = streams["stdout"].buffer.getvalue().decode()
    err = streams["stderr"].buffer.getvalue().decode()
    return f"{out}exit {code}" + (f" {err}" if code not in (0, 4) else "")


def record() -> dict[str, Any]:
    """All digests, by name."""
    from textattn import train

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder)
        names = sys.argv[3:]
        for kind, settings in kinds(folder).items():
            if names and kind not in names and kind != "plain":
                continue
            print(kind, end=" ", file=sys.stderr, flush=True)
            run = folder / kind
            train(settings_of(settings, folder), [f"output.dir={run}"])
            found[kind] = outcome(run, folder)
        config = folder / "plain.yaml"
        config.write_text(json.dumps(settings_of({"training.epochs": 6}, folder)), encoding="utf-8")
        found["resume"] = resumed(config, folder)
        found["cli"] = {}
        runs = [
            kind
            for kind in ("plain", "ngrams", "multi_label", "binary", "multi_head", "composition")
            if (folder / kind).is_dir()
        ]
        for kind in runs:
            text = "Fe2O3" if kind == "composition" else SENTENCE
            model = ("--model", str(folder / kind))
            methods = [
                "attention",
                "attention_x_gradient",
                "gradient_x_input",
                "integrated_gradients",
                "occlusion",
                "lime",
            ]
            commands = [
                ("predict", *model, "--json", "--top-k", "2", text),
                ("info", *model, "--json"),
                ("words", *model, "--json"),
            ]
            commands += [("explain", *model, "--json", "--method", method, text) for method in methods]
            commands += [
                ("evaluate", *model, "--json"),
                ("audit", *model, "--json", "--examples", "10"),
                ("export", *model, "--int8", "--max-drop", "100"),
            ]
            for command in commands:
                shown = printed(*command).replace(str(folder), "FOLDER")
                with contextlib.suppress(ValueError):
                    head, _, tail = shown.rpartition("exit ")
                    shown = json.dumps(without_volatile(json.loads(head))) + tail
                found["cli"][" ".join([kind, *command[:1], *command[3:]])] = digest(shown.encode())
    return found


def resumed(config: Path, folder: Path) -> dict[str, str]:
    """A run that is killed half-way and then resumed."""
    run = folder / "resumed"
    command = [sys.executable, "-m", "textattn", "train", str(config), f"output.dir={run}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(run.glob("checkpoints/step-*"))) < 2:
        pass
    process.kill()
    process.wait()
    subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return outcome(run, folder)


def main() -> int:
    action, file = sys.argv[1], Path(sys.argv[2])
    found = record()
    if action == "record":
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")
        return 0
    before = json.loads(file.read_text(encoding="utf-8"))
    differences = [
        f"{kind}: {name}"
        for kind in found
        for name in sorted(found[kind].keys() | before.get(kind, {}).keys())
        if found[kind].get(name) != before.get(kind, {}).get(name)
    ]
    print(f"\n{sum(map(len, found.values()))} files and outputs compared, {len(differences)} differ")
    print(*differences, sep="\n")
    return 1 if differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
