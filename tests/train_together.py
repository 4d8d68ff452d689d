"""What torchrun starts in test_processes.py: one training after the other, as every process of a group."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from textattn.config import config_from_mapping
from textattn.runs.train import train
from textattn.tokens.batches import collate
from textattn.training import examples
from textattn.training.processes import join_processes, rank_of_process


def keep_rows(steps: list[list[int]]) -> None:
    """From here on the rows that this process trains on in each step are noted."""

    def noting(tokens: Any, indices: Any, pad_id: int, seq: int | None = None) -> Any:
        steps.append(indices.tolist())
        return collate(tokens, indices, pad_id, seq)

    examples.collate = noting  # type: ignore[attr-defined]


if __name__ == "__main__":
    steps: list[list[int]] = []
    keep_rows(steps)
    with join_processes("cpu"):
        for config in json.loads(Path(sys.argv[1]).read_text()):
            steps.clear()
            run = train(config_from_mapping(config))
            run.with_name(f"{run.name}.rows-{rank_of_process()}").write_text(json.dumps(steps))
