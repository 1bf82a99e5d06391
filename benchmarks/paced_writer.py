"""A process that appends to a store now and then: `python -m benchmarks.paced_writer PATH COUNT`.

It prints the 99th percentile of what its appends took, in nanoseconds.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

from benchmarks.generate import appends
from lllm import SQLiteBackend

_PAUSE = 0.005  # seconds between two appends, as between the steps of agents that are quick


def p99(path: Path, count: int) -> float:
    """Append so many times, and return the 99th percentile in nanoseconds."""
    taken = []
    with closing(SQLiteBackend(path)) as log:
        for events in islice(appends(time.time_ns()), count):
            began = time.perf_counter_ns()
            log.append(events)
            taken.append(time.perf_counter_ns() - began)
            time.sleep(_PAUSE)
    return statistics.quantiles(taken, n=100)[98]


if __name__ == "__main__":
    print(p99(Path(sys.argv[1]), int(sys.argv[2])))
