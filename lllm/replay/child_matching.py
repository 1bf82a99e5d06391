"""Finds the recorded child session, by tactic and task, that a replayed session begins again.

Calls that run at the same time begin in any order. So a child's place among its siblings counts
only if no task is equal: it then picks the child to compare with in the error message.
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
        recorded: The recorded parent session; None if nothing was recorded.
        comparing: Brings tasks into the form in which they are compared.
        progress: Knows which children have begun, in all processes of the replay.
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
        """Mark a child as begun or left out.

        Args:
            child: The recorded child.
            what: "begun" if a session of the replay takes its place, "left out" if none will.

        Returns:
            True; False if the child was taken before, in whichever process.
        """
        left = self._left.get(child.tactic_path, {})
        found = left.pop(child.session_id, None) is not None
        return found and self._progress.claim(what, child.session_id)

    def take_equal(self, started: SessionStarted) -> RecordedSession | None:
        """Take the first child that has the same tactic and an equal task.

        Args:
            started: The first event of the session of the replay, with its tactic and its task.

        Returns:
            The recorded child; None if no remaining child has this task.
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
        """Take a child that has the same tactic but another task, preferably at the same place.

        Args:
            started: The first event of the session of the replay, with its tactic and its place.

        Returns:
            The recorded child; None if no child of this tactic remains.
        """
        left = list(self._left.get(started.tactic_path, {}).values())
        left.sort(key=lambda one: one.started.ordinal != started.ordinal)
        return next((one for one in left if self.take(one)), None)
