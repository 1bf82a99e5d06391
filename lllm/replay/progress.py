"""Keeps track of what a replay has done of its recording so far, in all of its processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal, TypeAlias

import msgspec

from lllm.events.concurrency.fork_handlers import pause_at_fork
from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.envelope import NewEvent
from lllm.replay.comparison import Verdict
from lllm.replay.divergence import ReplayDivergence, ReplayInterrupted, ReplayPlace
from lllm.replay.shared_folder import SharedFolder

# begun: a session began
# left out: a session was skipped, because the tool that called it did not run
# asked: an attempt to call a model was made
# within tool: an agent call was skipped, because the tool that made it did not run
# drawn: a time, id or random number was drawn
# ran: a tool ran
What = Literal["begun", "left out", "asked", "within tool", "drawn", "ran"]
# A key is a session's id, a position in the log, or a session's id with a tool's number.
Key: TypeAlias = "str | int | tuple[str, int]"


class JudgedRequest(msgspec.Struct, frozen=True):
    """The result of comparing one request of a replay with the recorded one."""

    place: ReplayPlace
    verdict: Verdict
    """same; ignored: the same without the parts that `ignore` names; diverged: it differs."""


class Done(msgspec.Struct, frozen=True):
    """A note that something recorded was done in the replay."""

    what: What
    key: Key


class Written(msgspec.Struct, frozen=True):
    """A note with events that another process can't write to the replay's log itself."""

    events: Sequence[NewEvent]


Note: TypeAlias = Done | JudgedRequest | ReplayDivergence | ReplayInterrupted | Written


class Progress:
    """Records what a replay did, and shares it between the processes of the replay.

    Attributes:
        requests: Every request that was compared so far.
        folder: The folder in which processes leave notes; None while there is only one process.
    """

    def __init__(self) -> None:
        self.requests: list[JudgedRequest] = []
        self.folder: SharedFolder | None = None
        self._done: set[tuple[What, Key]] = set()
        self._home = os.getpid()
        self._may_fork = False
        self._lock = ThreadLock()

    # -- notes

    @property
    def is_away(self) -> bool:
        """True in a process other than the one that opened the replay."""
        return os.getpid() != self._home

    def has(self, what: What, key: Key) -> bool:
        """True if something recorded was done in the replay.

        Args:
            what: The kind of the thing, such as "asked".
            key: The session id, the position in the log, or the tool that identifies the thing.
        """
        return (what, key) in self._done

    def note(self, what: What, key: Key) -> None:
        """Note that something recorded was done in the replay.

        Args:
            what: The kind of the thing, such as "asked".
            key: The session id, the position in the log, or the tool that identifies the thing.
        """
        self._done.add((what, key))
        self.tell(Done(what, key))

    def claim(self, what: Literal["begun", "left out"], session_id: str) -> bool:
        """Reserve a recorded session, because it can answer only one session of the replay.

        Args:
            what: "begun" if the session begins in the replay; "left out" if it is skipped with its
                tool.
            session_id: The id of the recorded session.

        Returns:
            True if the session is now reserved; False if it already was, in any process.
        """
        with self._lock.held():
            if self.has("begun", session_id) or self.has("left out", session_id):
                return False
            if self.folder is not None and not self.folder.claim(session_id):
                return False
            self.note(what, session_id)
        return True

    def judge(self, place: ReplayPlace, verdict: Verdict) -> None:
        """Record the result of comparing a request.

        Args:
            place: The place of the request in the session.
            verdict: "same", "ignored" or "diverged".
        """
        judged = JudgedRequest(place, verdict)
        self.requests.append(judged)
        self.tell(judged)

    def tell(self, note: Note) -> None:
        """Send a note to the process that opened the replay; do nothing in that process itself.

        Args:
            note: The note to send.
        """
        if self.folder is not None and self.is_away:
            self.folder.tell(note)

    # -- other processes

    def pause(self) -> bool:
        """Make the folder before a fork, so that the child can leave notes; see `Pausable`."""
        if self._may_fork:
            with suppress(OSError):  # without it, what the child does is missed at the end
                self.share()
        return False

    def resume(self) -> None:
        """Do nothing after a fork; see `Pausable`."""

    def may_fork(self) -> None:
        """Make the folder before each later fork of this process."""
        self._may_fork = True
        pause_at_fork(self)

    def share(self) -> SharedFolder:
        """Make the shared folder, or return the one that was made before.

        Raises:
            OSError: The folder can't be made.
        """
        with self._lock.held():
            if self.folder is None:
                self.folder = SharedFolder.make()
            return self.folder

    def done(self) -> frozenset[tuple[What, Key]]:
        """All that was done so far, so that another process can continue from there."""
        with self._lock.held():
            return frozenset(self._done)

    @classmethod
    def joined(cls, path: str, done: frozenset[tuple[What, Key]]) -> Progress:
        """Continue the progress of a replay that another process opened.

        Args:
            path: The path of the shared folder.
            done: The result of the method `done` in the other process.
        """
        progress = cls()
        progress.folder = SharedFolder(path)
        progress._done = set(done)
        progress._home = 0
        return progress

    def collect(
        self, write: Callable[[Sequence[NewEvent]], None]
    ) -> list[ReplayDivergence | ReplayInterrupted]:
        """Read the notes of the other processes, and remove the shared folder.

        Args:
            write: Called with the events that another process could not write to the log.

        Returns:
            The differences, and the ends of the recording, that the other processes found.
        """
        self._may_fork = False
        found: list[ReplayDivergence | ReplayInterrupted] = []
        if self.folder is None or self.is_away:
            return found
        folder, self.folder = self.folder, None
        for note in folder.told():
            if isinstance(note, Done):
                self._done.add((note.what, note.key))
            elif isinstance(note, JudgedRequest):
                self.requests.append(note)
            elif isinstance(note, ReplayDivergence | ReplayInterrupted):
                found.append(note)
            elif isinstance(note, Written):
                write(note.events)
        folder.remove()
        return found
