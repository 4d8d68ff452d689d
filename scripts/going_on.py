"""Measures going on from a finished model, as Markdown tables: more rows, and a new label.

    .venv/bin/python scripts/going_on.py --seeds 3

More rows: a model is trained on 5,000 sentences of SST-2 with `configs/sst2.yaml`, goes on with the other 1,920, and is
compared with a model that is trained on all of them. A new label: a model is trained on three labels of TREC
(`configs/trec.yaml`) or GoEmotions (texts with a single label), goes on with rows of a fourth label only, and is
compared with itself on the test rows of the three labels. `--set` names settings of the runs that go on, for other rows
of the tables. Finished points are kept in points.json of the folder, and are not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["TEXTATTN_CACHE"] = "off"  # word vectors from the cache would take no time

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import textattn
from textattn.storage.files import read_json, write_json

FIRST = 5_000
QUICK = [
    "output.audit_examples=0", "output.plots=false", "output.report=false", "output.attention_examples=0",
]  # fmt: skip
# Three labels and a fourth one.
LABELS = {
    "trec": ("DESC", "ENTY", "HUM", "NUM"),
    "goemotions": ("admiration", "anger", "gratitude", "amusement"),
}


@dataclass(frozen=True)
class Measurement:
    """The folders, the seed and the settings of the runs that go on."""

    data: Path
    out: Path
    seed: int
    settings: list[str]

    def point(self, name: str, train: Any) -> dict[str, Any]:
        """The value of a point, which `train` computes unless it is known."""
        path = self.out / "points.json"
        points = read_json(path) if path.exists() else {}
        key = f"{name}, seed {self.seed}"
        if key not in points:
            value = train()
            points = (read_json(path) if path.exists() else {}) | {key: value}
            self.out.mkdir(parents=True, exist_ok=True)
            write_json(path, points)
            print(f"<!-- {key}: {json.dumps(value)} -->", flush=True)
        found: dict[str, Any] = points[key]
        return found

    def train(self, name: str, config: str, files: dict[str, Path], more: list[str]) -> tuple[Path, dict[str, Any]]:
        """Train a run, and return its folder, and the accuracy on the test split with the seconds that it took."""
        given = ", ".join(f"{split}: {path}" for split, path in files.items())
        overrides = [
            f"data.files={{{given}}}", "data.path=null", "data.text=text", "data.label=label", f"seed={self.seed}",
            f"output.dir={self.out / f'{name}-{self.seed}'}", *QUICK, *more,
        ]  # fmt: skip
        begun = time.perf_counter(), time.process_time()
        run = textattn.train(config, overrides, overwrite=True)
        seconds = time.perf_counter() - begun[0]
        accuracy = read_json(run / "metrics.json")["test"]["accuracy"]
        # The time of all processors does not depend on what else the machine does.
        return run, {"accuracy": accuracy, "seconds": seconds, "processor": time.process_time() - begun[1]}

    def bare(self) -> str:
        """A config that sets nothing, as if a data file were given."""
        path = self.out / "bare.yaml"
        path.write_text("data: {path: none.csv}\n", encoding="utf-8")
        return str(path)

    @property
    def variant(self) -> str:
        """The name of the settings, for the points and the tables."""
        return " ".join(self.settings) or "defaults"


def write(path: Path, texts: list[str], labels: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": texts, "label": labels}), path)
    return path


def read(path: Path) -> tuple[list[str], list[str]]:
    """The texts of a split and the names of their labels; rows with several labels are left out."""
    table = pq.read_table(path)
    text = next(name for name in ("text", "sentence") if name in table.column_names)
    label = next(name for name in ("coarse_label", "labels", "label_text", "label") if name in table.column_names)
    feature: Any = datasets.Features.from_arrow_schema(table.schema)[label]
    feature = getattr(feature, "feature", feature)
    rows = []
    for value, found in zip(table[text].to_pylist(), table[label].to_pylist(), strict=True):
        one = found if isinstance(found, list) else [found]
        if len(one) == 1:
            rows.append((value, feature.int2str(one[0]) if isinstance(feature, datasets.ClassLabel) else str(one[0])))
    return [text for text, _ in rows], [label for _, label in rows]


def more_rows(m: Measurement) -> dict[str, Any]:
    """Going on with more rows of the same labels, against training on all rows."""
    folder = m.data / "sst2"
    texts, labels = read(folder / "train.parquet")
    order = np.random.default_rng(m.seed).permutation(len(texts))
    parts = {"first": order[:FIRST], "others": order[FIRST:], "all": order}
    given = {split: write(m.out / "data" / f"sst2-{split}.parquet", *read(folder / f"{split}.parquet"))
             for split in ("validation", "test")}  # fmt: skip
    files = {
        name: {"train": write(m.out / "data" / f"sst2-{name}-{m.seed}.parquet", [texts[i] for i in rows],
                              [labels[i] for i in rows])} | given
        for name, rows in parts.items()
    }  # fmt: skip

    def anew(name: str) -> dict[str, Any]:
        return m.point(f"sst2 {name}", lambda: m.train(f"sst2-{name}", "sst2", files[name], [])[1])

    first, whole = anew("first"), anew("all")
    start = m.out / f"sst2-first-{m.seed}"

    def on() -> dict[str, Any]:
        return m.train("sst2-on", m.bare(), files["others"], [f"start.model={start}", *m.settings])[1]

    return {"first": first, "all": whole, "on": m.point(f"sst2 on, {m.variant}", on)}


def new_label(m: Measurement, name: str) -> dict[str, Any]:
    """Going on with the rows of a fourth label, measured on the test rows of the three labels before and after."""
    *three, fourth = LABELS[name]
    files: dict[str, dict[str, Path]] = {"three": {}, "fourth": {}, "four": {}}
    for split in ("train", "validation", "test"):
        path = m.data / name / f"{split}.parquet"
        if not path.exists():
            continue
        texts, labels = read(path)
        for part, wanted in (("three", three), ("fourth", [fourth]), ("four", [*three, fourth])):
            if part == "fourth" and split == "validation":
                continue  # as a user has it: rows of the new label, and nothing else
            rows = [
                i
                for i, label in enumerate(labels)
                if label in (LABELS[name] if split == "test" and part == "fourth" else wanted)
            ]
            files[part][split] = write(m.out / "data" / f"{name}-{part}-{split}.parquet", [texts[i] for i in rows],
                                       [labels[i] for i in rows])  # fmt: skip
    config, more = ("trec", ["data.revision=null"]) if name == "trec" else (m.bare(), [])

    def before() -> dict[str, Any]:
        return m.train(f"{name}-three", config, files["three"], more)[1]

    def anew() -> dict[str, Any]:
        return by_label(*m.train(f"{name}-four", config, files["four"], more))

    def after() -> dict[str, Any]:
        start = m.out / f"{name}-three-{m.seed}"
        return by_label(*m.train(f"{name}-on", m.bare(), files["fourth"], [f"start.model={start}", *m.settings]))

    def by_label(run: Path, figures: dict[str, Any]) -> dict[str, Any]:
        answers = pq.read_table(run / "predictions" / "test.parquet").to_pylist()
        old = [row["label"] == row["prediction"] for row in answers if row["label"] != fourth]
        new = [row["label"] == row["prediction"] for row in answers if row["label"] == fourth]
        return figures | {"old": float(np.mean(old)), "new": float(np.mean(new)), "rows": len(old)}

    return {
        "before": m.point(f"{name} three", before),
        "after": m.point(f"{name} fourth, {m.variant}", after),
        "anew": m.point(f"{name} four", anew),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the data sets")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each point")
    parser.add_argument("--parts", nargs="*", default=["sst2", "trec", "goemotions"], help="what to measure")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="for the runs that go on")
    parser.add_argument("--out", type=Path, default=Path("runs/going_on"), help="folder for the data and the runs")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {part: [] for part in arguments.parts}
    for seed in range(1, arguments.seeds + 1):
        m = Measurement(arguments.data, arguments.out, seed, arguments.set)
        for part, values in found.items():
            values.append(more_rows(m) if part == "sst2" else new_label(m, part))
    for part, values in found.items():
        print(f"\n{part}, {len(values)} seeds, {' '.join(arguments.set) or 'defaults'}\n")
        (rows_of_sst2 if part == "sst2" else rows_of_labels)(values)


def rows_of_sst2(values: list[dict[str, Any]]) -> None:
    print("| trained on | accuracy | seconds of processors | seconds |\n|---|---|---|---|")
    names = {"first": f"{FIRST:,} rows", "all": "all 6,920 rows", "on": "these, then the other 1,920"}
    for key, name in names.items():
        cells = [_mean([value[key][figure] for value in values], digits) for figure, digits in
                 (("accuracy", 4), ("processor", 1), ("seconds", 1))]  # fmt: skip
        print(f"| {name} | {' | '.join(cells)} |")
    difference = [100 * (value["on"]["accuracy"] - value["all"]["accuracy"]) for value in values]
    share = [value["on"]["processor"] / value["all"]["processor"] for value in values]
    print(f"\nGoing on: {np.mean(difference):+.2f} points, in {np.mean(share):.2f} of the time of processors.")


def rows_of_labels(values: list[dict[str, Any]]) -> None:
    print("| | accuracy on three labels | accuracy on the fourth | seconds of processors |\n|---|---|---|---|")
    before, after, anew = ([value[key] for value in values] for key in ("before", "after", "anew"))
    accuracy, processor = (
        _mean([b[name] for b in before], digits) for name, digits in (("accuracy", 4), ("processor", 1))
    )
    print(f"| three labels | {accuracy} | – | {processor} |")
    figures = (("old", 4), ("new", 4), ("processor", 1))
    for title, points in (("going on with the fourth", after), ("all four anew", anew)):
        print(f"| {title} | {' | '.join(_mean([a[figure] for a in points], digits) for figure, digits in figures)} |")
    difference = [100 * (a["old"] - b["accuracy"]) for a, b in zip(after, before, strict=True)]
    print(f"\nOn the three labels: {np.mean(difference):+.2f} points ({after[0]['rows']:,} test rows).")


def _mean(values: list[float], digits: int) -> str:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.{digits}f} ± {spread:.{digits}f}"


if __name__ == "__main__":
    main()
