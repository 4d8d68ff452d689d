"""How many processors this process may use. Light to import."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_processors() -> int:
    """OMP_NUM_THREADS where it is set; else the processors of the affinity mask, within the quota of a container."""
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if limit.isdigit() and int(limit) > 0:
        return int(limit)
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return found if quota is None else max(1, min(found, quota))


@contextlib.contextmanager
def limited_blas(threads: int | None = None) -> Iterator[None]:
    """Inside, the matrix products of scikit-learn and scipy have as many threads as there are processors for them.

    Their libraries count all processors of a machine, also those that a container may not use.

    Args:
        threads: how many instead. 1 where threads of ours work side by side: liblinear makes many small products, and
            with two threads for each of them it took six times as long.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads or available_processors()):
        yield


def _quota() -> int | None:
    """Processors that a control group allows, rounded up; None without a quota."""
    for quota_file, period_file in (("cpu.max", None), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = (CGROUP / quota_file).read_text(encoding="ascii").split()
            if period_file is not None:
                words += (CGROUP / period_file).read_text(encoding="ascii").split()
            quota, period = float(words[0]), float(words[1])
        except (OSError, ValueError, IndexError):  # no such file, or `max`
            continue
        if quota > 0 and period > 0:
            return math.ceil(quota / period)
    return None
