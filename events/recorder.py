"""Writes the events of one session.

`stage` fixes an event (its place in the stream, its time, its bytes) and `commit` makes all that is
staged durable in one append. Whoever is about to call something outside commits first, so that
nothing that led to the call can be lost; events of one moment thus become one append.

Known trade-off (accepted): what is staged and not yet committed dies with the process. It is what
the session had not acted on.

A signal handler may use the recorder that its thread is just using. What it stages gets its place
behind what is staged just then, and its commit is left to the one that it interrupted. The garbage
collector, which may end a session anywhere, leaves both to another thread (see `finalizer_work`).
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from itertools import count

from lllm.events.backend import AppendsWithoutWaiting, LogBackend
from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.nested_writes import Nesting
from lllm.events.concurrency.robust_locks import LockPair, RobustLock
from lllm.events.concurrency.shielded import in_thread, is_cancelled_task
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.errors import LogError, SessionEnded, WrongProcess
from lllm.events.ids import new_id, new_salt
from lllm.events.integrity.merkle import RightEdge
from lllm.events.integrity.session_root import ENDS, grown, with_root
from lllm.events.model import AgentDefined, Ancestor, Event
from lllm.events.redaction.redact import Redact, payload
from lllm.events.statements import append_statement

# What is staged at once: the type and version of each event, and its payload. A list of its own,
# by which it is known again.
_Payloads = list[tuple[str, int, bytes]]


class Definitions:
    """The agent definitions that one log is known to contain."""

    def __init__(self) -> None:
        self.known: set[str] = set()


class Recorder:
    """Writes the stream of one session, for which it is the only writer.

    Safe to use from several threads.

    Args:
        log: What it is written to.
        tactic_path: The tactic that the session is a call of.
        ancestors: The sessions above it, root first.
        redact: What the user has cut.
        definitions: The agent definitions that are known to stand in the log.
    """

    def __init__(
        self,
        log: LogBackend,
        tactic_path: str,
        *,
        ancestors: tuple[Ancestor, ...] = (),
        redact: Redact | None = None,
        definitions: Definitions | None = None,
    ) -> None:
        self.log = log
        self.session_id = new_id()
        self.tactic_path = tactic_path
        self.ancestors = ancestors
        self.salt = new_salt()
        self.definitions = definitions or Definitions()
        self.delivery: object = None
        self.first_position: int | None = None  # in the log; None while nothing stands there
        self._redact = redact
        self._ordinals: dict[str, count[int]] = {}
        self._unsealed: deque[_Payloads] = deque()  # staged, without a place in the stream yet
        self._sealed: tuple[_Payloads, int] = ([], 0)  # what was sealed last, and its last seq
        self._pending: list[NewEvent] = []  # staged, and not known to be stored
        self._stored_tree = RightEdge()  # over the digests of all that is stored
        self._undefined: dict[str, AgentDefined] = {}
        self._begin()
        self.in_child = False
        self._end: _Payloads = []  # the last event, from just before it is staged
        self._ended = False
        register_after_fork(self)

    def after_fork(self) -> None:
        """Stop recording in the child; the parent continues the session."""
        self.in_child = True
        self._unsealed = deque()
        self._pending = []
        self._undefined = {}
        self._begin()

    def _begin(self) -> None:
        self._staging = RobustLock()
        self._committing = RobustLock()
        self._seals, self._commits = Nesting(), Nesting()

    @cached_property  # asked once: it takes as long as a quarter of an append
    def _unwaited(self) -> AppendsWithoutWaiting | None:
        """The log as AppendsWithoutWaiting, if it has that ability."""
        return self.log if isinstance(self.log, AppendsWithoutWaiting) else None

    @property
    def lineage(self) -> tuple[Ancestor, ...]:
        """The ancestors of a child session: this session's own ancestors, and itself."""
        return (*self.ancestors, Ancestor(self.session_id, self.tactic_path))

    @property
    def is_open(self) -> bool:
        """True if this process can still add events."""
        return not (self._ended or self.in_child)

    @property
    def is_empty(self) -> bool:
        """True if no event has been staged yet."""
        return not (self._unsealed or self._pending or self._sealed[1])

    @property
    def is_written(self) -> bool:
        """True if all staged events are in the log, or held in memory for it."""
        return not (self._unsealed or self._pending)

    def drop_interrupted(self) -> None:
        """Release locks that interrupted functions of this thread left locked.

        The lock remembers them until it is taken again, and they hold all that they worked for.
        """
        for lock in (self._committing, self._staging):
            if lock.acquire(timeout=0):
                lock.release()
        for nesting in (self._commits, self._seals):
            nesting.is_inside()

    def deliver(self, value: object) -> None:
        """Set the session's result, for code that has no function to return it from.

        Args:
            value: Anything.
        """
        self.delivery = value

    def ordinal(self, kind: str) -> int:
        """Return the next number of a kind (message, request, ...) in this session, from 1.

        Args:
            kind: What is counted: "message", "request", "tool", ...
        """
        ordinals = self._ordinals.get(kind)
        if ordinals is None:
            ordinals = self._ordinals.setdefault(kind, count(1))
        return next(ordinals)  # atomic

    def stage(self, *events: Event) -> None:
        """Add events to the stream; the next `commit` writes them.

        Args:
            *events: In order.

        Raises:
            WrongProcess: This is a forked child.
            SessionEnded: The last event is staged already.
        """
        self._stage(events)

    def end(self, event: Event) -> None:
        """Stage the last event of the session; no more can be staged after it.

        While the recorder is open it may be tried again, whatever an interrupt left of it.

        Args:
            event: The last event.

        Raises:
            WrongProcess: This is a forked child.
            SessionEnded: Another last event is staged already.
        """
        self._stage((event,), last=True)

    def _stage(self, events: Sequence[Event], *, last: bool = False) -> None:
        payloads = [  # slow, so without the lock
            (event.type, event.version, payload(event, self._redact)) for event in events
        ]
        if finalizer_work.by_collector():
            self._add(payloads, last)
            return
        with self._staging:
            self._add(payloads, last)
            self._seal()

    def _add(self, payloads: _Payloads, last: bool) -> None:
        self._check_open()
        if not last:
            self._unsealed.append(payloads)
            return
        if not self._is_added(self._end):  # or an interrupt came between these lines before
            self._end = payloads
            self._unsealed.append(payloads)
        self._ended = True  # not sooner: the session would be left without an end

    def _is_added(self, payloads: _Payloads) -> bool:
        """True if an event is the last one staged, or is still to be sealed."""
        return bool(payloads) and (
            payloads is self._sealed[0] or any(one is payloads for one in tuple(self._unsealed))
        )

    def _seal(self) -> None:
        """Give staged events their places in the stream; the caller holds the lock."""
        if not self._unsealed:
            return
        if self._seals.is_inside():
            return  # the loop below, which this signal handler interrupted, goes on with it
        try:
            self._seals.begin(sys._getframe())
            while self._unsealed:
                payloads = self._unsealed[0]
                last = self._pending[-1].seq if self._pending else self._stored_tree.size
                before, end = self._sealed
                if before is payloads and end <= last:
                    self._unsealed.popleft()  # in the round after, if an interrupt comes between
                    continue
                self._sealed, now = (payloads, last + len(payloads)), time.time_ns()
                self._pending += [  # in one step: an interrupt leaves all of them, or none
                    seal(self.salt, self.session_id, seq, now, type_, version, data)
                    for seq, (type_, version, data) in enumerate(self._rooted(payloads), last + 1)
                ]
        finally:
            self._seals.end()

    def _rooted(self, payloads: _Payloads) -> _Payloads:
        """Complete the last event, now that all before it have their digests."""
        if payloads is not self._end:
            return payloads
        tree = grown(self._stored_tree, self._pending)
        return [
            (type_, version, with_root(data, tree) if type_ in ENDS else data)
            for type_, version, data in payloads
        ]

    def _check_open(self) -> None:
        if self._ended:
            raise SessionEnded(
                f"Session {self.session_id} has ended, and something of it still runs: a thread "
                "that nobody waited for, or work that was cancelled."
            )
        if self.in_child:
            raise WrongProcess(
                f"Session {self.session_id} belongs to the process that began it. Call a tactic in "
                "the forked process instead; it becomes a session of its own."
            )

    def define(self, definition: AgentDefined) -> str:
        """Stage an agent's definition if the log lacks it, and return its stream's name.

        What this log has not seen is written with the next `commit`.

        Args:
            definition: Of an agent.
        """
        digest = hashlib.sha256(payload(definition, self._redact)).hexdigest()
        stream = f"definition-{digest}"
        if stream not in self.definitions.known:
            self._undefined[stream] = definition
        return stream

    def commit(self) -> None:
        """Write all staged events to the log, in one append.

        Raises:
            LogError: The log can't be written and was told to say so; LogUnavailable, mostly. What
                is staged stays so, for the next try.
        """
        if finalizer_work.by_collector():
            finalizer_work.later(self.commit)
            return
        with self._committing:
            self._append_staged()

    def _append_staged(self, unwaited: AppendsWithoutWaiting | None = None) -> bool:
        """Append all staged events; False if an `unwaited` append would have to wait."""
        if self._commits.is_inside():
            return True  # a signal handler interrupted this, which commits what the handler staged
        try:
            self._commits.begin(sys._getframe())
            while not self.is_written and (events := self._staged()):
                if unwaited is None:
                    self._define()
                    positions: Sequence[int] | None = self.log.append(events)
                else:
                    positions = None if self._undefined else unwaited.try_append(events)
                if positions is None:
                    return False
                self._stored(events, positions)
            return True
        finally:
            self._commits.end()

    def _define(self) -> None:
        """Write the definitions that events refer to."""
        while self._undefined:
            stream, definition = next(iter(self._undefined.items()))
            append_statement(self.log, stream, definition, redact=self._redact)
            self.definitions.known.add(stream)
            self._undefined.pop(stream, None)

    async def acommit(self) -> None:
        """Write all staged events to the log, on an event loop.

        Where it would wait for a lock, it waits in a thread, to the end even if the task is
        cancelled meanwhile.

        Raises:
            LogError: As of `commit`.
        """
        if not self._commit_at_once():
            await in_thread(self.commit)

    def _commit_at_once(self) -> bool:
        """Commit if that needs no waiting; False if it does."""
        log = self._unwaited
        if log is None or self._undefined:
            return False
        with LockPair(self._committing, None, 0) as mine:
            # Else what this caller staged may be in another's hands, not yet durable.
            return mine and self._append_staged(log)

    def _staged(self) -> list[NewEvent]:
        """What is staged.

        It stays so until it is stored: a log that gets it twice, because an interrupt came between,
        knows it again.
        """
        with self._staging:
            self._seal()
            return list(self._pending)

    def _stored(self, events: Sequence[NewEvent], positions: Sequence[int]) -> None:
        with self._staging:
            self._stored_tree = grown(self._stored_tree, events)
            del self._pending[: len(events)]
            if not self._pending and self._sealed[0] is not self._end:
                self._sealed[0].clear()  # a long one need not wait for the next
        if self.first_position is None and positions:
            self.first_position = positions[0]

    def commit_after(self, error: BaseException) -> None:
        """Commit while an error is raised; a LogError becomes a note of that error.

        Args:
            error: What is raised.
        """
        try:
            self.commit()
        except LogError as unwritten:
            _note(error, unwritten)

    async def acommit_after(self, error: BaseException) -> None:
        """Do what `commit_after` does on an event loop.

        Args:
            error: What is raised.
        """
        if not (isinstance(error, Exception) or is_cancelled_task(error)):
            self.commit_after(error)  # a coroutine that is being closed can't wait for anything
            return
        try:
            await self.acommit()
        except LogError as unwritten:
            _note(error, unwritten)


def _note(error: BaseException, unwritten: LogError) -> None:
    note = f"lllm could not write this to its log: {unwritten}"
    if error is not unwritten and note not in getattr(error, "__notes__", ()):
        error.add_note(note)
