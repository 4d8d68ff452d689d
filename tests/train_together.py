"""What torchrun starts in test_processes.py: one training after the other, as every process of a group."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from textattn.config import config_from_mapping
from textattn.pipeline import train
from textattn.processes import join_processes

if __name__ == "__main__":
    with join_processes("cpu"):
        for config in json.loads(Path(sys.argv[1]).read_text()):
            train(config_from_mapping(config))
