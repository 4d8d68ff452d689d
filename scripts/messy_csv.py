"""Turns TREC's questions into one csv file as it comes out of a ticket system, and says what is wrong with it.

    .venv/bin/python scripts/messy_csv.py --data ../shared/data/trec --output tickets.csv

The file has semicolons and cp1252, a ticket number, a date, a product and a customer. Some rows stand twice, some have
no label or no text, some labels are written in another way, and some texts have line breaks and quotes. What was
planted is printed as JSON. A second file, with the ending `-new.csv`, holds rows without labels to predict.
"""

from __future__ import annotations

import argparse
import csv
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

NAMES = ["abbreviation", "entity", "description", "human", "location", "number"]
PRODUCTS = ["Basic", "Café Plus", "Pro – Team", "Enterprise"]
COLUMNS = ["ticket", "created", "customer", "product", "message", "topic"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/trec"))
    parser.add_argument("--output", type=Path, default=Path("tickets.csv"))
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows, planted = messy(arguments.data, arguments.rows, np.random.default_rng(arguments.seed))
    write(arguments.output, COLUMNS, rows)
    questions = pq.read_table(arguments.data / "test.parquet")["text"].to_pylist()
    new = [[f"T-{i:06}", "2026-01-02", "C-new", PRODUCTS[i % 4], text] for i, text in enumerate(questions, 900_000)]
    write(arguments.output.with_name(f"{arguments.output.stem}-new.csv"), COLUMNS[:-1], new)
    print(json.dumps(planted, indent=1))


def messy(data: Path, number: int, generator: np.random.Generator) -> tuple[list[list[str]], dict[str, Any]]:
    """The rows, and the tickets of each kind that was planted."""
    table = pq.read_table(data / "train.parquet")
    chosen = generator.permutation(len(table))[:number]
    start = datetime(2025, 1, 1)
    rows = []
    for i, row in enumerate(table.take(np.sort(chosen)).to_pylist()):
        # Customers ask several questions each, and products are asked about at different rates.
        customer, product = int(generator.integers(number // 6)), int(generator.choice(4, p=[0.5, 0.25, 0.2, 0.05]))
        created = start + timedelta(hours=3 * i)
        rows.append([f"T-{i:06}", f"{created:%Y-%m-%d %H:%M}", f"C-{customer:04}", PRODUCTS[product], row["text"],
                     NAMES[row["label"]]])  # fmt: skip
    planted: dict[str, Any] = {"rows": number}
    order = iter(generator.permutation(number).tolist())

    def pick(count: int) -> list[int]:
        return [next(order) for _ in range(count)]

    def change(kind: str, count: int, column: str, how: Any) -> None:
        picked = pick(count)
        for i in picked:
            at = COLUMNS.index(column)
            rows[i][at] = how(rows[i][at])
        planted[kind] = sorted(rows[i][0] for i in picked)

    change("label_in_capitals", 12, "topic", str.upper)
    change("label_with_spaces", 8, "topic", lambda label: f" {label} ")
    change("label_missing", 9, "topic", lambda label: "")
    change("label_n_a", 4, "topic", lambda label: "n/a")
    change("text_missing", 5, "message", lambda text: "")
    change("line_breaks", 20, "message", lambda text: f"Hello,\n{text}\nThanks")
    change("quotes", 20, "message", lambda text: f'"{text}" – that is “all”; René')
    twice = pick(15)
    planted["twice"] = sorted(rows[i][0] for i in twice)
    copies = [[f"T-{number + j:06}", *rows[i][1:]] for j, i in enumerate(twice)]
    return rows + copies, planted


def write(path: Path, columns: list[str], rows: list[list[str]]) -> None:
    """As a German Excel writes it: semicolons, cp1252, CR LF."""
    with path.open("w", encoding="cp1252", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(columns)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
