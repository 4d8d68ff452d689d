"""Memory that training no longer uses goes back to the system, and what oneDNN keeps of batches has a size."""

from __future__ import annotations

import platform
import subprocess
import sys

import numpy as np
import pytest
from small_models import build

from textattn.config.schema import TrainingConfig
from textattn.training.loop import PREPARED_BYTES, bytes_of_primitive, primitives_kept

# Blocks too small for pages of their own; one at the end that stays holds all before it in the heap.
HOLES = """
import re
from pathlib import Path
from textattn.training.memory import give_back_memory
def held():
    return int(re.search("VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
blocks = [bytearray(b"x" * 60_000) for _ in range(3000)]
last = bytearray(b"x" * 60_000)
blocks.clear()
before = held()
give_back_memory()
print(before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_freed_memory_below_what_is_still_used_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 120  # of 172 MB


# Blocks that glibc would take from the system and give back again, one by one.
AGAIN = """
import resource, sys
from textattn.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
blocks = [bytearray(20_000_000) for _ in range(3)]
blocks.clear()
before = faults()
for _ in range(20):
    blocks = [bytearray(20_000_000) for _ in range(3)]
    blocks.clear()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_at_hand_for_what_comes_next() -> None:
    faults = [
        int(subprocess.run([sys.executable, "-c", AGAIN, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "as it is")
    ]
    assert faults[0] < faults[1] / 10


def test_short_texts_keep_all_shapes_and_long_ones_so_much_memory() -> None:
    model = build(hidden_size=128)
    short, long = np.full(1000, 19), np.full(1000, 250)
    config = TrainingConfig(batch_size=32)
    assert primitives_kept(model, short, config) > 700
    long_ones = TrainingConfig(batch_size=64)
    kept = primitives_kept(model, long, long_ones)
    assert 16 < kept < 64
    assert kept * bytes_of_primitive(model, long, long_ones) <= PREPARED_BYTES
    # A budget of tokens counts as well, and something is always kept.
    assert primitives_kept(model, long, TrainingConfig(batch_size=64, max_tokens_per_batch=500)) > 700
    assert primitives_kept(model, long * 16, long_ones) == 16
    twice = bytes_of_primitive(build(hidden_size=256), long, long_ones)
    assert twice == pytest.approx(2 * bytes_of_primitive(model, long, long_ones), abs=1)
