"""Tracks the sessions of this process whose end is not in the log yet.

Something may be raised from outside (Ctrl-C, PyThreadState_SetAsyncExc) between any two steps, any
number of times. So no code at the end of a session can be sure to write that end. What tells that a
session is over is therefore no code: its `with` lets go of the callable that it holds, or nobody
holds the session any more. A weak reference to either has the method `add` of a set as its
callback, which nothing can interrupt. Whoever begins a session, reads the store or closes it looks
into that set, and writes the ends that are missing.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol
from weakref import ref

import msgspec

from lllm.events.buffered import BufferedLog
from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.thread_frames import thread_frames
from lllm.events.errors import LogError
from lllm.events.model import Error, SessionFailed
from lllm.events.recorder import Recorder
from lllm.events.values.json_values import to_plain
from lllm.sessions.host import SessionHost
from lllm.sessions.unfinished_calls import watch

LOST = "The session was left without an end: an interrupt came there, or nobody held it any more."


class Scope(Protocol):
    """The interface of a session in the registry of open sessions.

    Attributes:
        recorder: Writes it.
        host: Where it is written.
        thread: That it began in.
    """

    recorder: Recorder
    host: SessionHost
    thread: int

    @property
    def is_of_call(self) -> bool:
        """True if the session was made for a single captured call."""

    def is_lost(self) -> bool:
        """True if its `with` ended, but an interrupt prevented the session's end."""

    def leave(self, error: BaseException | None, *, follow: bool = True) -> None:
        """End the session, and commit its end.

        Args:
            error: What it failed with, None where it succeeded.
            follow: Whether the rows shall follow at once.
        """


class PlainDelivery(msgspec.Struct, frozen=True):
    """A session's result that is already in its recorded form."""

    value: object


def delivered(recorder: Recorder) -> object:
    """Convert a session's result to its recorded form.

    Args:
        recorder: Has the delivery.

    Returns:
        JSON values.
    """
    delivery = recorder.delivery
    return delivery.value if isinstance(delivery, PlainDelivery) else to_plain(delivery)


class Watch(ref[object]):
    """A weak reference that records in `_gone` that its object is gone.

    Attributes:
        session_id: Of the session that it belongs to, empty while that is not known.
    """

    __slots__ = ("session_id",)
    session_id: str


_gone: set[Watch] = set()


def watch_of(thing: object, session_id: str = "") -> Watch:
    """Watch an object whose lifetime decides when a session is over.

    Args:
        thing: What is watched.
        session_id: Of the session, if it is known.

    Returns:
        The weak reference, to be held with the session.
    """
    found = Watch(thing, _gone.add)
    found.session_id = session_id
    hash(found)  # of the thing; it is kept, and can't be made once the thing is gone
    return found


class _OpenSession:
    """An open session's record in the registry, which does not keep its scope alive."""

    __slots__ = ("_began", "_scope", "recorder")

    def __init__(self, scope: Scope) -> None:
        self.recorder = scope.recorder
        self._began = time.perf_counter_ns()
        self._scope = watch_of(scope, scope.recorder.session_id)

    @property
    def scope(self) -> Scope | None:
        """The session's scope; None if nobody holds it any more."""
        return self._scope()  # type: ignore[return-value] # it watches nothing else

    def is_over(self, *, closing: bool) -> bool:
        """True if only this can end the session. closing: this thread is closing the store."""
        scope = self.scope
        if scope is None or scope.is_lost():
            return True
        return closing and scope.thread not in thread_frames()

    def settle(self) -> None:
        """Write the session's end if it is missing. Raises LogError if that fails."""
        scope, recorder = self.scope, self.recorder
        if scope is not None:
            scope.leave(KeyboardInterrupt(LOST), follow=False)
        elif not recorder.is_empty:
            if recorder.is_open:
                recorder.end(self._failed())
            recorder.commit()
        if recorder.is_written:
            forget(recorder)

    def _failed(self) -> SessionFailed:
        return SessionFailed(
            error=Error(KeyboardInterrupt.__name__, LOST, ""),
            cancelled=True,
            elapsed=time.perf_counter_ns() - self._began,
            delivery=delivered(self.recorder),
        )


class _Registry:
    """All open sessions. Changes are atomic, also for signal handlers, and can be repeated.

    At the interpreter's exit, it is what an OpenCall is: the ends that are missing are written
    before the stores are closed.
    """

    def __init__(self) -> None:
        self.open: dict[str, _OpenSession] = {}
        self._watched = False
        register_after_fork(self)

    def after_fork(self) -> None:
        """Forget the parent's open sessions."""
        self.open = {}
        _gone.clear()

    def begin(self, scope: Scope) -> None:
        """Add a session that begins."""
        if not self._watched:
            watch(self)
            self._watched = True
        self.open[scope.recorder.session_id] = _OpenSession(scope)

    def settle(self) -> None:
        """See OpenCall."""

    def settle_at_exit(self) -> None:
        """See OpenCall."""
        for one in tuple(self.open.values()):
            if one.is_over(closing=False):
                with suppress(LogError):
                    one.settle()


_registry = _Registry()


def begin(scope: Scope) -> None:
    """Register a session, so that its end is written even after an interrupt.

    Args:
        scope: The session, which begins now.
    """
    _registry.begin(scope)


def forget(recorder: Recorder) -> None:
    """Remove a session whose end is written or can no longer be written.

    Args:
        recorder: Of the session.
    """
    _registry.open.pop(recorder.session_id, None)


def scopes() -> Iterator[Scope]:
    """List the open sessions that somebody still holds."""
    for one in tuple(_registry.open.values()):
        scope = one.scope
        if scope is not None:
            yield scope


def open_elsewhere(host: SessionHost | None) -> Scope | None:
    """Find a session that is open in another thread, which code in this thread may have lost.

    Args:
        host: Where it is written, None for anywhere.

    Returns:
        One of them; None in the main thread, and in one where sessions of its own are open.
    """
    here = threading.get_ident()
    if here == threading.main_thread().ident:
        return None
    found = [
        scope
        for scope in scopes()
        if not scope.is_of_call and (host is None or scope.host is host) and scope.recorder.is_open
    ]
    if any(one.thread == here for one in found):
        return None
    return found[0] if found else None


def settle_lost() -> None:
    """Write the ends of sessions that an interrupt prevented from ending.

    Where one can't be written, the error is dropped: the `with` has raised it. The store tries once
    more when it is closed.
    """
    if not _gone or finalizer_work.by_collector():
        return
    for one in tuple(_gone):
        session = _registry.open.get(one.session_id)
        if session is not None and session.is_over(closing=False):
            finalizer_work.catch_up()  # it may end a dropped session there, with its calls
            with suppress(LogError):
                session.settle()
        _gone.discard(one)


def settle_lost_aside() -> None:
    """Do what `settle_lost` does in another thread, for callers that must not wait."""
    if any(one.session_id in _registry.open for one in tuple(_gone)):
        finalizer_work.later(settle_lost)
    else:
        settle_lost()


def settle_all(log: BufferedLog) -> None:
    """Write all missing ends before a log is closed.

    Sessions that go on in threads that are alive get none.

    Args:
        log: The log.
    """
    going_on = [one for one in _sessions_of(log) if not one.is_over(closing=True)]
    if going_on:
        for one in going_on:
            one.recorder.drop_interrupted()
        gc.collect()  # what was raised may hold in a cycle what it came through
        finalizer_work.settle()
    for session in _sessions_of(log):
        if session.is_over(closing=True):
            with suppress(LogError):
                session.settle()


def forget_all(log: BufferedLog) -> int:
    """Remove all sessions of a closed log, since nothing more can be written to it.

    Args:
        log: The log.

    Returns:
        How many of them have no end in it.
    """
    left = _sessions_of(log)
    for session in left:
        forget(session.recorder)
    return len(left)


def _sessions_of(log: BufferedLog) -> list[_OpenSession]:
    return [one for one in tuple(_registry.open.values()) if one.recorder.log is log]
