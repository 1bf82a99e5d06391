"""What a replay has done of its recording so far, in all of its processes."""

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

# begun: a session; left out: a session within a tool that did not run; asked: an attempt to call a
# model; within tool: an agent's call within a tool that did not run; drawn: a value; ran: a tool
What = Literal["begun", "left out", "asked", "within tool", "drawn", "ran"]
Key: TypeAlias = "str | int | tuple[str, int]"  # an id of a session, a position of the log, a tool


class JudgedRequest(msgspec.Struct, frozen=True):
    """What came of comparing one request of a replay."""

    place: ReplayPlace
    verdict: Verdict
    """same; ignored: the same without what `ignore` names; diverged."""


class Done(msgspec.Struct, frozen=True):
    """A note that something recorded was done."""

    what: What
    key: Key


class Written(msgspec.Struct, frozen=True):
    """A note of events that another process could not write where the replay's are."""

    events: Sequence[NewEvent]


Note: TypeAlias = Done | JudgedRequest | ReplayDivergence | ReplayInterrupted | Written


class Progress:
    """What was done, judged and found.

    Attributes:
        requests: Every request that was compared.
        folder: Through which processes tell each other; None while there is one process.
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
        """Tell whether something recorded was done.

        Args:
            what: What.
            key: Of which.
        """
        return (what, key) in self._done

    def note(self, what: What, key: Key) -> None:
        """Note that something recorded was done.

        Args:
            what: What.
            key: Of which.
        """
        self._done.add((what, key))
        self.tell(Done(what, key))

    def claim(self, what: Literal["begun", "left out"], session_id: str) -> bool:
        """Take a recorded session, which only one session of the replay can be answered from.

        Args:
            what: What it is taken for.
            session_id: Its id.

        Returns:
            False if it was taken before, in whichever process.
        """
        with self._lock.held():
            if self.has("begun", session_id) or self.has("left out", session_id):
                return False
            if self.folder is not None and not self.folder.claim(session_id):
                return False
            self.note(what, session_id)
        return True

    def judge(self, place: ReplayPlace, verdict: Verdict) -> None:
        """Keep what came of comparing a request.

        Args:
            place: Where it is made.
            verdict: What came of it.
        """
        judged = JudgedRequest(place, verdict)
        self.requests.append(judged)
        self.tell(judged)

    def tell(self, note: Note) -> None:
        """Tell the process that opened the replay.

        Args:
            note: What it is to know.
        """
        if self.folder is not None and self.is_away:
            self.folder.tell(note)

    # -- other processes

    def pause(self) -> bool:
        """Be ready for a fork, so that the child can tell what it does; see Pausable."""
        if self._may_fork:
            with suppress(OSError):  # without it, what the child does is missed at the end
                self.share()
        return False

    def resume(self) -> None:
        """See Pausable."""

    def may_fork(self) -> None:
        """From now on, be ready for each fork of this process."""
        self._may_fork = True
        pause_at_fork(self)

    def share(self) -> SharedFolder:
        """Make the folder, once.

        Raises:
            OSError: There is no place for it.
        """
        with self._lock.held():
            if self.folder is None:
                self.folder = SharedFolder.make()
            return self.folder

    def done(self) -> frozenset[tuple[What, Key]]:
        """All that was done by now, which another process continues with."""
        with self._lock.held():
            return frozenset(self._done)

    @classmethod
    def joined(cls, path: str, done: frozenset[tuple[What, Key]]) -> Progress:
        """The progress of a replay that another process opened.

        Args:
            path: Of the folder.
            done: As `done` gave it.
        """
        progress = cls()
        progress.folder = SharedFolder(path)
        progress._done = set(done)
        progress._home = 0
        return progress

    def collect(
        self, write: Callable[[Sequence[NewEvent]], None]
    ) -> list[ReplayDivergence | ReplayInterrupted]:
        """Take what other processes told, and remove the folder.

        Args:
            write: Writes events that they could not.

        Returns:
            Where their code did something else, or their recording ended.
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
