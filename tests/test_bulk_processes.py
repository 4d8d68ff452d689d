"""`predict --input … --output …` as a process: killed at any moment, stopped at a terminal, and small in memory."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import bulk_jobs
import pyarrow.parquet as pq
import pytest
from bulk_jobs import Record, bulk, files, read, write

from textattn.cli.console import display_width

# pytest looks for fixtures among the names of a file.
here, small = bulk_jobs.here, bulk_jobs.small


MAIN = """
import os, signal, sys
import textattn.data.chunks as chunks
from textattn.data.formats import Format
chunks.MAX_ROWS = chunks.BATCH_ROWS = int(os.environ["ROWS"])
{more}
from textattn.__main__ import run
run()
"""
# Of this program, in kB; getrusage would count what the parent had as well.
SHOW_PEAK = """
import atexit, re
atexit.register(lambda: print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]))
"""


def start(
    rows: int,
    *job: str,
    more: str = "",
    stdout: int | None = None,
    stderr: int | None = None,
    **environment: str | None,
) -> subprocess.Popen[bytes]:
    """A job with chunks of so many rows."""
    variables = {**os.environ, "ROWS": str(rows), "PYTHONUTF8": "1", **environment}
    known = {name: value for name, value in variables.items() if value is not None}
    words = [sys.executable, "-c", MAIN.format(more=more), "predict", *job]
    return subprocess.Popen(words, env=known, stdout=stdout, stderr=stderr)


def wait_for_parts(process: subprocess.Popen[bytes], folder: Path, number: int) -> None:
    while process.poll() is None and not (folder / f"{number:06d}{folder.with_suffix('').suffix}").exists():
        time.sleep(0.002)


@pytest.fixture
def many() -> list[Record]:
    texts = ["good film", "bad soup, cold", "a rather long text about nothing " * 3]
    return [{"id": i, "text": f"{texts[i % 3]} {i}"} for i in range(1000)]


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), [("csv", "csv"), ("jsonl", "parquet")])
def test_kills_at_random_moments_change_no_byte(
    many: list[Record], small: Callable[[int], None], source: str, target: str
) -> None:
    small(25)
    write(f"in.{source}", many)
    assert bulk("-i", f"in.{source}", "-o", f"whole.{target}").code == 0
    job = ("-i", f"in.{source}", "-o", f"out.{target}", "-q")
    folder = Path(f"out.{target}.partial")
    moments = random.Random(source)
    reached = 0
    for attempt in range(3):
        # Of forty parts, so never in the last ones; then a moment later, which may be amid a write.
        reached += moments.randrange(2, 10)
        with start(25, *job, *(["--resume"] if attempt else [])) as process:
            wait_for_parts(process, folder, reached)
            time.sleep(moments.random() * 0.005)
            process.kill()
            assert process.wait(60) == -signal.SIGKILL
        assert not Path(f"out.{target}").exists()
        assert len(list(folder.glob(f"0*.{target}"))) > reached
    done = bulk(*job, "--resume", "--json")
    assert done.code == 0
    assert json.loads(done.out)["resumed"] >= 25 * reached
    assert Path(f"out.{target}").read_bytes() == Path(f"whole.{target}").read_bytes()
    assert files() == sorted([f"in.{source}", f"out.{target}", f"whole.{target}"])


def test_a_kill_while_the_parts_are_put_together_leaves_nothing_either(
    many: list[Record], small: Callable[[int], None]
) -> None:
    small(50)
    write("in.csv", many[:100])
    job = ("-i", "in.csv", "-o", "out.csv", "-q")
    kill = "Format.join = lambda kind, parts, columns, output: (output.write_bytes(b'id'), os.kill(os.getpid(), 9))"
    with start(50, *job, more=kill) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert not Path("out.csv").exists()
    assert bulk(*job, "--resume").code == 0
    assert [row["text"] for row in read("out.csv")] == [row["text"] for row in many[:100]]
    assert files() == ["in.csv", "out.csv"]


def test_ctrl_c_on_a_narrow_terminal_ends_with_130_and_the_bar_fits(
    many: list[Record], small: Callable[[int], None]
) -> None:
    write("in.csv", many)
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    with start(20, "-i", "in.csv", "-o", "out.csv", stderr=follower, COLUMNS=None, TERM="xterm") as process:
        os.close(follower)
        wait_for_parts(process, Path("out.csv.partial"), 10)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    # All of it: no more than a terminal holds until it is read.
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"Predicting .* \d+% \d+/1,001 rows [-\d]+:", plain)
    lines = re.split(r"[\r\n]+", plain)
    # A bar that is wider is drawn below itself again and again; sentences may wrap.
    assert max(display_width(line) for line in lines if line.startswith("Predicting")) <= 60
    assert sum(line.startswith("Interrupted") and "--resume" in line for line in lines) == 1
    # The bar is wiped and the cursor is back.
    assert lines[-1] == "" and lines[-2].startswith("Predicting") and shown.count("\x1b[?25h") == 1
    assert files() == ["in.csv", "out.csv.partial"]
    small(20)
    assert bulk("-i", "in.csv", "-o", "out.csv", "--resume", COLUMNS="60").err.startswith("1,000 rows answered, ")
    assert [row["text"] for row in read("out.csv")] == [row["text"] for row in many]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
def test_ten_times_the_rows_take_no_more_memory() -> None:
    peaks = []
    for number in (3_000, 30_000):
        for name in ("in.csv", "in.parquet"):
            write(name, [{"text": f"good {i % 97}", "id": str(i)} for i in range(number)])
        job = ("-i", "in.*", "-o", f"{number}.parquet", "-q")
        with start(1000, *job, more=SHOW_PEAK, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            peaks.append(int(process.stdout.read()) // 1024)
            assert process.wait(60) == 0
        assert pq.read_metadata(f"{number}.parquet").num_rows == 2 * number
    # The dictionaries of a row group of parquet are in memory as long as it is read.
    assert peaks[1] - peaks[0] < 40, "MB"
