"""Answers `lllm.now()`, `lllm.uuid4()` and `lllm.random()` in a replay with recorded values."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Protocol

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.model import DrawnKind
from lllm.replay.divergence import GoesLive
from lllm.replay.progress import Progress
from lllm.replay.recorded_session import RecordedSession


class ValueJudge(Protocol):
    """Decides what happens where the code draws more values than the recording has."""

    def unrecorded_value(self, called: str) -> None:
        """Handle a value that was never recorded.

        Args:
            called: The function that the code called, as "lllm.now()".

        Raises:
            ReplayDivergence: The recorded session has an end, and drew no further value.
            ReplayInterrupted: The recording ends before this call.
            GoesLive: The replay becomes a fork here, in which a new value is drawn.
        """


class AnsweredValues:
    """Gives the values that one recorded session drew, in their order.

    Args:
        recorded: The recorded session; None if none was recorded, so that there are no values.
        judge: Decides what happens when there are no more values.
        progress: Notes which values were used.
        lock: Held while a value is taken, because several threads may draw at once.
    """

    def __init__(
        self,
        recorded: RecordedSession | None,
        judge: ValueJudge,
        progress: Progress,
        lock: ThreadLock,
    ) -> None:
        self._values = {} if recorded is None else recorded.values
        self._judge = judge
        self._progress = progress
        self._lock = lock
        self._taken: Counter[tuple[DrawnKind, int | None]] = Counter()  # by kind and tool
        self.tool_numbers: dict[int, int] = {}
        """The recorded number of each tool that runs again, by its number in the replay."""

    def next(self, kind: DrawnKind, tool: int | None) -> str | float | None:
        """Take the next recorded value.

        Args:
            kind: The kind of value: "now", "uuid4" or "random".
            tool: The number in the replay of the tool that asks; None if no tool does.

        Returns:
            The value; None if a new one is to be drawn.

        Raises:
            ReplayDivergence: See `ValueJudge.unrecorded_value`.
            ReplayInterrupted: See `ValueJudge.unrecorded_value`.
        """
        if tool is not None:
            tool = self.tool_numbers.get(tool)
            if tool is None:
                return None  # the tool was never recorded, and runs live
        with self._lock.held():
            number = self._taken[kind, tool]
            self._taken[kind, tool] += 1
        values = self._values.get((kind, tool), [])
        if number < len(values):
            self._progress.note("drawn", values[number].position)
            return values[number].drawn.value
        with suppress(GoesLive):
            self._judge.unrecorded_value(f"lllm.{kind}()")
        return None
