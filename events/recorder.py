"""Writes the events of one session.

`stage` fixes an event: its place in the stream, its time and its bytes. `commit` writes all staged
events in one append, durably. The runtime commits before it calls anything outside (a model, a
tool), so no event that led to the call can be lost, and events of the same moment share one append.

Known trade-off (accepted): events that are staged and not yet committed are lost if the process
dies. The session had not acted on them yet.

A signal handler may use the recorder while its thread is using it. Events that the handler stages
come after the events that are being staged, and the interrupted function commits them. The garbage
collector may end a session at any point; then another thread stages and commits (see
`finalizer_work`).
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from itertools import count

import msgspec

from lllm.events.backend import AppendsWithoutWaiting, LogBackend
from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.nested_writes import Nesting
from lllm.events.concurrency.robust_locks import LockPair, RobustLock
from lllm.events.concurrency.shielded import in_thread, is_cancelled_task
from lllm.events.definitions import Definitions
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.errors import LogError, SessionEnded, WrongProcess
from lllm.events.ids import new_id, new_salt
from lllm.events.integrity.merkle import RightEdge
from lllm.events.integrity.session_root import ENDS, grown, with_root
from lllm.events.model import AgentDefined, Ancestor, Event
from lllm.events.redaction.redact import Redact, payload
from lllm.events.statements import append_statement

# The events of one call of `stage`: type, version and payload of each. The list object itself
# identifies the call.
_Payloads = list[tuple[str, int, bytes]]


class Recorder:
    """Writes the stream of one session; it is the only writer of that stream.

    Several threads may use it at the same time.

    Args:
        log: The log that the events are written to.
        tactic_path: The stable path of the session's tactic, "package::name".
        ancestors: The sessions that this one is called in, root first.
        redact: Functions or patterns that remove parts of payloads before they are written (see
            `redaction.redact`); None to remove only known secrets, such as API keys.
        definitions: The agent definitions that the log is known to contain; None if none are known.
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
        # the salt in the log; None until the first event is stored
        self.first_position: int | None = None
        self._redact = redact
        self._ordinals: dict[str, count[int]] = {}
        self._unsealed: deque[_Payloads] = deque()  # staged events that have no seq yet
        # the list that was sealed last, and its last seq
        self._sealed: tuple[_Payloads, int] = ([], 0)
        self._pending: list[NewEvent] = []  # sealed events that are not known to be stored
        self._stored_tree = RightEdge()  # the tree over the digests of all stored events
        self._undefined: dict[str, AgentDefined] = {}
        self._begin()
        self.in_child = False
        self._end: _Payloads = []  # the last event of the session, set just before it is staged
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

    @cached_property  # checked once: the check takes as long as a quarter of an append
    def _unwaited(self) -> AppendsWithoutWaiting | None:
        """The log as AppendsWithoutWaiting, if it has that ability."""
        return self.log if isinstance(self.log, AppendsWithoutWaiting) else None

    @property
    def lineage(self) -> tuple[Ancestor, ...]:
        """This session's ancestors and itself: the ancestors of a child session, root first."""
        return (*self.ancestors, Ancestor(self.session_id, self.tactic_path))

    @property
    def is_open(self) -> bool:
        """True if this process can still add events to the session."""
        return not (self._ended or self.in_child)

    @property
    def is_empty(self) -> bool:
        """True if no event has been staged yet."""
        return not (self._unsealed or self._pending or self._sealed[1])

    @property
    def is_written(self) -> bool:
        """True if all staged events are in the log, or held in memory until it can be written."""
        return not (self._unsealed or self._pending)

    def drop_interrupted(self) -> None:
        """Forget locks that functions of this thread left locked when they were interrupted.

        The record of such a lock, and the objects that it refers to, would otherwise stay in memory
        until the lock is taken again.
        """
        for lock in (self._committing, self._staging):
            if lock.acquire(timeout=0):
                lock.release()
        for nesting in (self._commits, self._seals):
            nesting.is_inside()

    def deliver(self, value: object) -> None:
        """Set the result of the session, for code that does not return it from a function.

        Args:
            value: Any value.
        """
        self.delivery = value

    def ordinal(self, kind: str) -> int:
        """Count up one kind of thing (message, request, ...) in this session.

        Args:
            kind: The kind that is counted, as "message", "request" or "tool".

        Returns:
            The next number of this kind, from 1.
        """
        ordinals = self._ordinals.get(kind)
        if ordinals is None:
            ordinals = self._ordinals.setdefault(kind, count(1))
        return next(ordinals)  # atomic

    def stage(self, *events: Event) -> None:
        """Add events to the stream; the next `commit` writes them.

        Args:
            *events: The events, in order.

        Raises:
            WrongProcess: The recorder is used in a forked child; it belongs to the parent.
            SessionEnded: The last event of the session is already staged.
        """
        self._stage(events)

    def end(self, event: Event) -> None:
        """Stage the last event of the session; no more can be staged after it.

        It may be called again if an exception interrupted it; the event is staged once.

        Args:
            event: The last event: succeeded or failed.

        Raises:
            WrongProcess: The recorder is used in a forked child; it belongs to the parent.
            SessionEnded: Another last event is already staged.
        """
        self._stage((event,), last=True)

    def _stage(self, events: Sequence[Event], *, last: bool = False) -> None:
        payloads = [  # encoding is slow, so it is done without the lock
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
        # else an earlier call was interrupted between these lines
        if not self._is_added(self._end):
            self._end = payloads
            self._unsealed.append(payloads)
        self._ended = True  # not earlier: an interrupt would leave the session without an end

    def _is_added(self, payloads: _Payloads) -> bool:
        """True if a list of events is the one that was sealed last, or is still to be sealed."""
        return bool(payloads) and (
            payloads is self._sealed[0] or any(one is payloads for one in tuple(self._unsealed))
        )

    def _seal(self) -> None:
        """Give staged events their places in the stream; the caller holds the lock."""
        if not self._unsealed:
            return
        if self._seals.is_inside():
            return  # this is a signal handler inside the loop below, which will seal these events
        try:
            self._seals.begin(sys._getframe())
            while self._unsealed:
                payloads = self._unsealed[0]
                last = self._pending[-1].seq if self._pending else self._stored_tree.size
                before, end = self._sealed
                if before is payloads and end <= last:
                    # an interrupt in between leaves this to the next round
                    self._unsealed.popleft()
                    continue
                self._sealed, now = (payloads, last + len(payloads)), time.time_ns()
                self._pending += [  # in one step: after an interrupt all of them are added, or none
                    seal(self.salt, self.session_id, seq, now, type_, version, data)
                    for seq, (type_, version, data) in enumerate(self._rooted(payloads), last + 1)
                ]
        finally:
            self._seals.end()

    def _rooted(self, payloads: _Payloads) -> _Payloads:
        """Add the Merkle root to the last event, now that all earlier events have their digests."""
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

        A definition that is new to this log is written by the next `commit`.

        Args:
            definition: The definition of an agent.

        Returns:
            The name of the stream that has the definition.
        """
        stream = self.definitions.name_of(payload(definition, self._redact))
        if stream not in self.definitions.known:
            self._undefined[stream] = msgspec.structs.replace(definition, salt=new_salt())
        return stream

    def commit(self) -> None:
        """Write all staged events to the log, in one append.

        Raises:
            LogError: The log can't be written and the store has `on_error="raise"`; usually
                LogUnavailable. The events stay staged for the next commit.
        """
        if finalizer_work.by_collector():
            finalizer_work.later(self.commit)
            return
        with self._committing:
            self._append_staged()

    def _append_staged(self, unwaited: AppendsWithoutWaiting | None = None) -> bool:
        """Append all staged events.

        False if an append without waiting was asked for and must wait.
        """
        if self._commits.is_inside():
            # this is a signal handler inside a commit, which will write what the handler staged
            return True
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
            append_statement(
                self.log, stream, definition, salt=definition.salt, redact=self._redact
            )
            self.definitions.known.add(stream)
            self._undefined.pop(stream, None)

    async def acommit(self) -> None:
        """Do what `commit` does, without blocking the event loop.

        If it has to wait for a lock, it waits in a thread. That thread finishes even if the task is
        cancelled.

        Raises:
            LogError: As for `commit`.
        """
        if not self._commit_at_once():
            await in_thread(self.commit)

    def _commit_at_once(self) -> bool:
        """Commit if that needs no waiting; False if it does."""
        log = self._unwaited
        if log is None or self._undefined:
            return False
        with LockPair(self._committing, None, 0) as mine:
            # Otherwise another thread may be writing this caller's events, which are not durable
            # yet.
            return mine and self._append_staged(log)

    def _staged(self) -> list[NewEvent]:
        """The staged events that are not known to be stored.

        An event stays in the list until its append has returned. If an interrupt comes in between,
        it is appended again, and the log recognises it.
        """
        with self._staging:
            self._seal()
            return list(self._pending)

    def _stored(self, events: Sequence[NewEvent], positions: Sequence[int]) -> None:
        with self._staging:
            self._stored_tree = grown(self._stored_tree, events)
            del self._pending[: len(events)]
            if not self._pending and self._sealed[0] is not self._end:
                self._sealed[0].clear()  # a long payload is freed now, not at the next commit
        if self.first_position is None and positions:
            self.first_position = positions[0]

    def commit_after(self, error: BaseException) -> None:
        """Commit while an error is being raised; an error of the log is added to it as a note.

        Args:
            error: The exception that is being raised.
        """
        try:
            self.commit()
        except LogError as unwritten:
            _note(error, unwritten)

    async def acommit_after(self, error: BaseException) -> None:
        """Do what `commit_after` does, without blocking the event loop.

        Args:
            error: The exception that is being raised.
        """
        if not (isinstance(error, Exception) or is_cancelled_task(error)):
            self.commit_after(error)  # a coroutine that is being closed can't await anything
            return
        try:
            await self.acommit()
        except LogError as unwritten:
            _note(error, unwritten)


def _note(error: BaseException, unwritten: LogError) -> None:
    note = f"lllm could not write this to its log: {unwritten}"
    if error is not unwritten and note not in getattr(error, "__notes__", ()):
        error.add_note(note)
