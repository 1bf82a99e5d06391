"""The one writer of one session, and what a log line written inside it belongs to.

`stage` fixes an event (its place in the stream, its time, its bytes) and `commit` makes all that is
staged durable in one append. Whoever is about to call something outside commits first, so that
nothing that led to the call can be lost; events of one moment thus become one append.

Known trade-off (accepted): what is staged and not yet committed dies with the process. It is what
the session had not acted on.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from lllm.events.errors import AppendConflict, LogError, SessionEnded, WrongProcess
from lllm.events.locks import tell_after_fork
from lllm.events.log import AppendsWithoutWaiting, LogBackend
from lllm.events.model import AgentDefined, Ancestor, Event
from lllm.events.record import SALT_BYTES, NewEvent, seal
from lllm.events.redaction import Redact as Redact  # part of the Recorder's own interface
from lllm.events.redaction import payload
from lllm.events.uninterrupted import in_thread

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, as ULIDs use it


def new_id(now: int | None = None) -> str:
    """An id that sorts by time and is safe in URLs and file names: a ULID
    (https://github.com/ulid/spec) in lower case, 48 bits of milliseconds and 80 random ones.

    now: nanoseconds UTC; None for the clock's.
    """
    milliseconds = (time.time_ns() if now is None else now) // 1_000_000
    number = milliseconds << 80 | secrets.randbits(80)
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def new_salt() -> bytes:
    """The random bytes that the commitments of a stream are made with; see `record`."""
    return secrets.token_bytes(SALT_BYTES)


def state(
    log: LogBackend, stream: str, event: Event, *, salt: bytes = b"", redact: Redact | None = None
) -> bool:
    """Append a statement: a stream of a single event, about a session or a definition.

    Returns whether it was new; False where the stream was there already, written by another.
    """
    data = payload(event, redact)
    record = seal(salt, stream, 1, time.time_ns(), event.type, event.version, data)
    try:
        log.append([record])
    except AppendConflict:
        return False
    return True


class Definitions:
    """The agent definitions that are known to stand in one log."""

    def __init__(self) -> None:
        self.known: set[str] = set()


class Recorder:
    """Writes the stream of one session; no other object and no other process does.

    Safe to use from several threads. ancestors: the sessions above it, root first.
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
        self._seq = 0
        self._ordinals: Counter[str] = Counter()
        self._pending: list[NewEvent] = []
        self._undefined: dict[str, AgentDefined] = {}
        self._staging = threading.Lock()
        self._committing = threading.Lock()
        self.in_child = False
        self._ended = False
        tell_after_fork(self)

    def after_fork(self) -> None:
        """The parent goes on writing this session; the child must not."""
        self.in_child = True
        self._pending = []
        self._undefined = {}
        self._staging = threading.Lock()
        self._committing = threading.Lock()

    @property
    def lineage(self) -> tuple[Ancestor, ...]:
        """The ancestors that a child session of this one has."""
        return (*self.ancestors, Ancestor(self.session_id, self.tactic_path))

    @property
    def is_open(self) -> bool:
        """Whether events can still be added, in this process."""
        return not (self._ended or self.in_child)

    def deliver(self, value: object) -> None:
        """Say what the session delivers, in code that has no function to return it from."""
        self.delivery = value

    def ordinal(self, kind: str) -> int:
        """The next number of its kind (message, request, tool, ...) in this session, from 1."""
        with self._staging:
            self._ordinals[kind] += 1
            return self._ordinals[kind]

    def stage(self, *events: Event) -> None:
        """Fix events as the next of the stream; they are written with the next `commit`.

        Raises WrongProcess in a forked child, SessionEnded behind the last event.
        """
        self._stage(events)

    def end(self, event: Event) -> None:
        """Stage the last event; nothing more can be staged behind it."""
        self._stage((event,), last=True)

    def _stage(self, events: Sequence[Event], *, last: bool = False) -> None:
        payloads = [payload(event, self._redact) for event in events]  # outside the lock: slow
        with self._staging:
            self._check_open()
            self._ended = last
            now = time.time_ns()
            for event, data in zip(events, payloads, strict=True):
                self._seq += 1
                self._pending.append(
                    seal(
                        self.salt, self.session_id, self._seq, now,
                        event.type, event.version, data,
                    )
                )  # fmt: skip

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
        """The name of a definition's stream, the digest of its content in it. What this log has not
        seen is written with the next `commit`."""
        digest = hashlib.sha256(payload(definition, self._redact)).hexdigest()
        stream = f"definition-{digest}"
        if stream not in self.definitions.known:
            self._undefined[stream] = definition
        return stream

    def commit(self) -> None:
        """Make everything staged durable, in one append.

        Raises LogUnavailable, or another LogError, where the log can't be written and was told to
        say so; what is staged stays so, for the next try.
        """
        with self._committing:
            if not self._pending:
                return  # a definition that no event refers to is of no use
            while self._undefined:
                stream, definition = next(iter(self._undefined.items()))
                state(self.log, stream, definition, redact=self._redact)
                self.definitions.known.add(stream)
                del self._undefined[stream]
            events = self._take()
            with self._given_back(events):
                self._stored(self.log.append(events))

    async def acommit(self) -> None:
        """`commit` on an event loop: where it would wait for a lock, it waits in a thread, to the
        end even if the task is cancelled meanwhile."""
        if not self._commit_at_once():
            await in_thread(self.commit)

    def _commit_at_once(self) -> bool:
        """Commit, if nothing has to be waited for; False where something has."""
        log = self.log
        if not isinstance(log, AppendsWithoutWaiting) or self._undefined:
            return False
        if not self._committing.acquire(blocking=False):
            return False  # what this caller staged may be in another's hands, and not yet durable
        try:
            events = self._take()
            if not events:
                return True
            with self._given_back(events):
                stored = log.try_append(events)
            if stored is None:
                self._give_back(events)
                return False
            self._stored(stored)
            return True
        finally:
            self._committing.release()

    def _stored(self, positions: Sequence[int]) -> None:
        if self.first_position is None and positions:
            self.first_position = positions[0]

    def commit_after(self, error: BaseException) -> None:
        """`commit` on the way out of an error, which no LogError replaces; it carries a note
        instead."""
        try:
            self.commit()
        except LogError as unwritten:
            _note(error, unwritten)

    async def acommit_after(self, error: BaseException) -> None:
        """The same on an event loop."""
        from asyncio import CancelledError

        if not isinstance(error, Exception | CancelledError):
            self.commit_after(error)  # a coroutine that is being closed can't wait for anything
            return
        try:
            await self.acommit()
        except LogError as unwritten:
            _note(error, unwritten)

    def _take(self) -> list[NewEvent]:
        with self._staging:
            events, self._pending = self._pending, []
        return events

    @contextmanager
    def _given_back(self, events: list[NewEvent]) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._give_back(events)
            raise

    def _give_back(self, events: list[NewEvent]) -> None:
        with self._staging:
            self._pending[:0] = events


def _note(error: BaseException, unwritten: LogError) -> None:
    note = f"lllm could not write this to its log: {unwritten}"
    if error is not unwritten and note not in getattr(error, "__notes__", ()):
        error.add_note(note)


log_context: ContextVar[dict[str, str] | None] = ContextVar("lllm_log_context", default=None)


def current_log_context() -> dict[str, str]:
    """What a line logged now belongs to: `session` and, inside an agent's call, `agent`."""
    return log_context.get() or {}
