"""Finds the recorded child that a session of a replay begins once more: by tactic and task.

Its place among its siblings only picks what a difference is shown against, since calls beside each
other begin in any order.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from lllm.events.model import SessionStarted
from lllm.replay.comparison import Comparing, task_key
from lllm.replay.progress import Progress
from lllm.replay.recorded_session import RecordedSession


class RecordedChildren:
    """The recorded children of one session that have not begun in the replay yet.

    Args:
        recorded: The session; None where nothing was recorded.
        comparing: Makes tasks comparable.
        progress: Knows which have begun, in whichever process.
    """

    def __init__(
        self, recorded: RecordedSession | None, comparing: Comparing, progress: Progress
    ) -> None:
        self._comparing = comparing
        self._progress = progress
        self._by_task: dict[tuple[str, bytes], deque[RecordedSession]] = {}
        self._left: dict[str, dict[str, RecordedSession]] = {}  # by tactic and id
        for child in recorded.children if recorded is not None else ():
            task = task_key(comparing.recorded_task(child.started.task))
            self._by_task.setdefault((child.tactic_path, task), deque()).append(child)
            self._left.setdefault(child.tactic_path, {})[child.session_id] = child

    def take(self, child: RecordedSession, what: Literal["begun", "left out"] = "begun") -> bool:
        """Take a child out; False if it had begun before."""
        left = self._left.get(child.tactic_path, {})
        found = left.pop(child.session_id, None) is not None
        return found and self._progress.claim(what, child.session_id)

    def take_equal(self, started: SessionStarted) -> RecordedSession | None:
        """Take the first child of the same tactic with an equal task.

        Args:
            started: How a session of the replay begins.

        Returns:
            The child; None if no child that is left has this task.
        """
        path = started.tactic_path
        for compared in (self._comparing.plain_task, self._comparing.task):
            equal = self._by_task.get((path, task_key(compared(started))))
            while equal:
                child = equal.popleft()
                if self.take(child):
                    return child
        return None

    def take_other(self, started: SessionStarted) -> RecordedSession | None:
        """Take a child of the same tactic with another task: at the same place, or the next one.

        Args:
            started: How a session of the replay begins.

        Returns:
            The child; None if none of this tactic is left.
        """
        left = list(self._left.get(started.tactic_path, {}).values())
        left.sort(key=lambda one: one.started.ordinal != started.ordinal)
        return next((one for one in left if self.take(one)), None)
