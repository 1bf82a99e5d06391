"""Runs every check at a scale of one's own, and prints what it counted.

python -m tests.survival [--rounds N] [--seed N] [--only WORD]
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.survival import (
    test_clock,
    test_endings,
    test_kill,
    test_machine,
    test_many,
    test_torn,
)
from tests.survival.figures import Figures, row, table
from tests.survival.places import DURABILITIES, KINDS, Kind
from tests.survival.scale import LONG, Scale

Check = Callable[[Scale, Path], Figures]


def checks() -> dict[str, Check]:
    """Every check, by a name that says what it is of."""
    by_kind = {
        "cut": test_torn.cut,
        "soil": test_torn.cut_and_soil,
        "processes": test_many.many_processes,
        "threads": test_many.many_threads,
        "coroutines": test_many.many_coroutines,
        "reader": test_many.sitting_reader,
        "endings": test_endings.endings,
        "clock": test_clock.jump_back,
    }
    found: dict[str, Check] = {
        f"kill {kind} {durability}": partial(test_kill.kill, kind=kind, durability=durability)
        for kind in KINDS
        for durability in DURABILITIES
    }
    for name, check in by_kind.items():
        found |= {f"{name} {kind}": partial(check, kind=kind) for kind in KINDS}
    for kind in KINDS:
        found[f"machine {kind}"] = partial(_history, kind=kind)
    return found


def _history(scale: Scale, _: Path, kind: Kind) -> Figures:
    return test_machine.any_history(scale, kind)


def main() -> int:
    """Run them; 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.survival", description=__doc__)
    parser.add_argument("--rounds", type=int, default=LONG, help="kills of each backend")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--only", default="", metavar="WORD", help="checks whose name has it")
    given = parser.parse_args()
    logging.getLogger("lllm").setLevel(logging.CRITICAL)  # of torn tails it would say a lot
    scale = Scale(given.rounds, given.seed)
    rows: list[tuple[str, ...]] = []
    failed = 0
    for name, check in checks().items():
        if given.only not in name:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="lllm-survival-") as folder:
            try:
                figures = check(scale, Path(folder))
            except Exception:
                traceback.print_exc()
                figures = Figures(name, note="FAILED")
                failed += 1
        rows.append(row(figures, time.monotonic() - began))
    print(f"{scale.rounds} rounds, seed {scale.seed}")
    print(table(rows))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
