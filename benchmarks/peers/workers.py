"""The workers as the benchmark sees them: processes that are asked to do one thing at a time.

Each library runs in a process of its own, lllm too, so that all are measured alike; only one of
them works at any moment. A worker that fails tells why, and the others go on without it.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import Timer
from types import TracebackType

import msgspec

from benchmarks.measure import Nanoseconds

_HERE = Path(__file__).parent
_SECONDS = 600.0  # for one answer
_WARM_UP = 2  # rounds that are not counted
_QUIET = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network for prices
    "LITELLM_TELEMETRY": "False",
}


class Failed(Exception):
    """A worker that can't do what it was asked; the message says why."""


class _Answer(msgspec.Struct):
    failed: str | None = None
    operations: list[str] = []
    version: str = ""
    took: list[int] = []
    stored: dict[str, tuple[int, int]] = {}


class Worker:
    """One library in its process.

    package: the name of its distribution. python: an interpreter that has it installed. source:
    the worker's file. folder: for what it stores. work: what it is given, as JSON. isolated:
    whether its interpreter must not see the modules that this process was told of.

    Raises Failed where it does not start.
    """

    def __init__(
        self, package: str, python: Path, source: str, folder: Path, work: object, *, isolated: bool
    ) -> None:
        folder.mkdir()
        self._folder = folder
        self._complaints = folder / "stderr.txt"
        with self._complaints.open("wb") as complaints:
            self._process = subprocess.Popen(
                [python, "-P", _HERE / "serving.py", _HERE / source],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                cwd=folder,
                env=_environment(folder, isolated=isolated),
            )
        try:
            opened = self._ask({"folder": str(folder), "work": work, "package": package})
        except Failed:
            self.close()
            raise
        self.name = f"{package} {opened.version}"
        self.operations = frozenset(opened.operations)

    def run(self, operation: str, times: int) -> list[int]:
        """How long each run took, in nanoseconds."""
        return self._ask({"run": operation, "times": times}).took

    def rest(self) -> None:
        """Between rounds: write-ahead logs are emptied."""
        self._ask({"rest": str(self._folder)})

    def stored(self) -> dict[str, tuple[int, int]]:
        """What can be found in its stores, and what they were given."""
        return self._ask({"stored": True}).stored

    def _ask(self, question: object) -> _Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        limit = Timer(_SECONDS, self._process.kill)
        limit.start()
        try:
            self._process.stdin.write(msgspec.json.encode(question) + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            limit.cancel()
        if not line:
            raise Failed(self._last_words())
        answer = msgspec.json.decode(line, type=_Answer)
        if answer.failed is not None:
            raise Failed(answer.failed)
        return answer

    def _last_words(self) -> str:
        lines = self._complaints.read_text(errors="replace").split("\n")
        told = [line for line in lines if line.strip()]
        return told[-1] if told else "its process ended"

    def close(self) -> None:
        """End its process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()


def _environment(folder: Path, *, isolated: bool) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not (isolated and name.startswith("PYTHON"))
    }
    return inherited | _QUIET | {"LLM_USER_PATH": str(folder)}


class Turn(msgspec.Struct, frozen=True):
    """What one worker does in each round.

    times: how often in a row; the median of them is what the round counts, since a process that
    has just been woken begins with cold caches.
    """

    worker: str
    operation: str
    times: int


class Measured:
    """What every turn took in each round, or why it could not."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], Nanoseconds] = {}
        self._failed: dict[tuple[str, str], str] = {}

    def of(self, worker: str, operation: str) -> Nanoseconds:
        """Nanoseconds, one for each round. Raises Failed."""
        key = (worker, operation)
        if key in self._failed:
            raise Failed(self._failed[key])
        return self._taken[key]

    def add(self, turn: Turn, nanoseconds: int) -> None:
        """One more round."""
        self._taken.setdefault((turn.worker, turn.operation), []).append(nanoseconds)

    def fail(self, turn: Turn, reason: str) -> None:
        """It is out."""
        self._failed[turn.worker, turn.operation] = reason


def in_rounds(
    workers: dict[str, Worker | Failed], turns: Iterable[Turn], rounds: int, *, seed: int = 1
) -> Measured:
    """Every turn once a round, in an order drawn anew; between rounds, all rest."""
    chance = random.Random(seed)
    measured = Measured()
    order = list(turns)
    for number in range(-_WARM_UP, rounds):
        chance.shuffle(order)
        for turn in tuple(order):
            worker = workers[turn.worker]
            try:
                if isinstance(worker, Failed):
                    raise worker
                taken = worker.run(turn.operation, turn.times)
            except Failed as failure:
                measured.fail(turn, str(failure))
                order.remove(turn)
                continue
            if number >= 0:
                measured.add(turn, round(statistics.median(taken)))
        for name in sorted({turn.worker for turn in order}):
            worker = workers[name]
            if isinstance(worker, Worker):
                with suppress(Failed):  # its next turn tells
                    worker.rest()
    return measured
