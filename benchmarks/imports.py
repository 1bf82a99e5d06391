"""What `import lllm` adds to the start of a program: a fresh interpreter each time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.measure import Bar, Figure, Operation, in_rounds, median_shown, milliseconds

AREA = "import"


def figures(*, quick: bool) -> Iterator[Figure]:
    """The package alone, and with what a program that logs needs of it."""
    programs = {
        "nothing": "",
        "import lllm": "import lllm",
        "a store": "from lllm import LogStore, SQLiteBackend, Tactic, tool",
    }
    taken = in_rounds(
        {name: _start(program) for name, program in programs.items()}, 10 if quick else 60
    )
    beside = f"bare Python {median_shown(taken['nothing'])}"
    for name, bar in (("import lllm", Bar(100, "at most")), ("a store", None)):
        more = [one - bare for one, bare in zip(taken[name], taken["nothing"], strict=True)]
        yield Figure(AREA, programs[name], milliseconds(more), "ms more", beside, bar)


def _start(program: str) -> Operation:
    return lambda: subprocess.run([sys.executable, "-c", program], check=True)
