"""What lllm adds to the start of a program, in a fresh interpreter each time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.environment import as_installed
from benchmarks.measure import Bar, Figure, Operation, in_rounds, median_shown, milliseconds
from lllm import LogStore, SQLiteBackend

AREA = "start"


_OPEN = """
from lllm import LogStore, SQLiteBackend, Tactic, tool
with LogStore(SQLiteBackend({path!r})):
    pass
"""


def figures(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """The package alone, and with a store that is opened."""
    folder.mkdir()
    path = folder / "store.db"
    LogStore(SQLiteBackend(path)).close()
    programs = {
        "import lllm": (["-c", "import lllm"], Bar(80, "at most")),
        "import and open a store": (["-c", _OPEN.format(path=str(path))], Bar(250, "at most")),
    }
    yield from _beside_nothing(programs, 10 if quick else 60)


def listing(path: Path, roots: int, *, quick: bool) -> Iterator[Figure]:
    """`lllm ls`, from the shell to the prompt."""
    command = ["-c", "from lllm.cli import main; main()", "ls", "--store", str(path)]
    name = f"lllm ls, {roots:,} sessions"
    yield from _beside_nothing({name: (command, Bar(400, "at most"))}, 5 if quick else 20)


def _beside_nothing(
    programs: Mapping[str, tuple[Sequence[str], Bar]], rounds: int
) -> Iterator[Figure]:
    operations = {name: _start(command) for name, (command, _) in programs.items()}
    taken = in_rounds({"nothing": _start(["-c", ""]), **operations}, rounds)
    beside = f"bare Python {median_shown(taken['nothing'])}"
    for name, (_, bar) in programs.items():
        more = [one - bare for one, bare in zip(taken[name], taken["nothing"], strict=True)]
        yield Figure(AREA, name, milliseconds(more), "ms more", beside, bar)


def _start(command: Sequence[str]) -> Operation:
    return lambda: subprocess.run(
        [sys.executable, *command], check=True, stdout=subprocess.DEVNULL, env=as_installed()
    )
