"""Tracks the sessions of this process whose end is not in the log yet.

An exception may be raised from outside (Ctrl-C, PyThreadState_SetAsyncExc) between any two steps,
any number of times, so no code at the end of a session is sure to run. Therefore no code detects
the end of a session: its `with` frees the callable that it holds, or nothing refers to the session
any more. A weak reference to either has the method `add` of a set as its callback, which nothing
can interrupt. Any code that begins a session, reads the store or closes it looks into that set, and
writes the missing ends.
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
        recorder: The recorder that writes the session.
        host: The place where it is written.
        thread: The id of the thread in which it began.
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
            error: The error of the session; None if it succeeded.
            follow: True to bring the rows of lists up to date at once.
        """

    def wait_for_answers(self) -> None:
        """Wait for answers that have arrived, and that another thread is about to report."""


class PlainDelivery(msgspec.Struct, frozen=True):
    """A session's result that is already in its recorded form."""

    value: object


def delivered(recorder: Recorder) -> object:
    """Convert a session's result to its recorded form.

    Args:
        recorder: The recorder with the delivery.

    Returns:
        The result as JSON values.
    """
    delivery = recorder.delivery
    return delivery.value if isinstance(delivery, PlainDelivery) else to_plain(delivery)


class Watch(ref[object]):
    """A weak reference that adds itself to `_gone` when its object is freed.

    Attributes:
        session_id: The id of the session that it belongs to; "" while that is unknown.
    """

    __slots__ = ("session_id",)
    session_id: str


_gone: set[Watch] = set()


def watch_of(thing: object, session_id: str = "") -> Watch:
    """Watch an object whose lifetime decides when a session is over.

    Args:
        thing: The object to watch.
        session_id: The id of the session, if it is known.

    Returns:
        The weak reference, which the session must keep.
    """
    found = Watch(thing, _gone.add)
    found.session_id = session_id
    hash(found)  # computes and stores the hash, which is impossible after the object is freed
    return found


class _OpenSession:
    """The registry's record of an open session; it does not keep the session alive."""

    __slots__ = ("_began", "_scope", "recorder")

    def __init__(self, scope: Scope) -> None:
        self.recorder = scope.recorder
        self._began = time.perf_counter_ns()
        self._scope = watch_of(scope, scope.recorder.session_id)

    @property
    def scope(self) -> Scope | None:
        """The session; None if nothing refers to it any more."""
        return self._scope()  # type: ignore[return-value] # it watches nothing else

    def is_over(self, *, closing: bool) -> bool:
        """True if only this record can end the session. closing: the store is being closed."""
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
    """All open sessions. Changes are atomic, even for signal handlers, and can be repeated.

    At the interpreter's exit it acts as an OpenCall: the missing ends are written before the stores
    are closed.
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
        """Do nothing; see OpenCall."""

    def settle_at_exit(self) -> None:
        """Write the missing ends when the program exits; see OpenCall."""
        for one in tuple(self.open.values()):
            if one.is_over(closing=False):
                with suppress(LogError):
                    one.settle()


_registry = _Registry()


def begin(scope: Scope) -> None:
    """Register a session, so that its end is written even after an interrupt.

    Args:
        scope: The session, which is about to begin.
    """
    _registry.begin(scope)


def forget(recorder: Recorder) -> None:
    """Remove a session whose end is written or can no longer be written.

    Args:
        recorder: The recorder of the session.
    """
    _registry.open.pop(recorder.session_id, None)


def scopes() -> Iterator[Scope]:
    """List the open sessions that are still referred to."""
    for one in tuple(_registry.open.values()):
        scope = one.scope
        if scope is not None:
            yield scope


def open_elsewhere(host: SessionHost | None) -> Scope | None:
    """Find a session that is open in another thread and that this thread may have missed.

    Args:
        host: The place where it is written; None for any.

    Returns:
        One such session; None in the main thread, and in a thread with open sessions of its own.
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

    If an end can't be written, the error is ignored, because the `with` has raised it already. The
    store tries again when it is closed.
    """
    if not _gone or finalizer_work.by_collector():
        return
    for one in tuple(_gone):
        session = _registry.open.get(one.session_id)
        if session is not None and session.is_over(closing=False):
            finalizer_work.catch_up()  # it may end a dropped session and its calls
            with suppress(LogError):
                session.settle()
        _gone.discard(one)


def settle_lost_aside() -> None:
    """Run `settle_lost` in another thread, for callers that must not wait."""
    if any(one.session_id in _registry.open for one in tuple(_gone)):
        finalizer_work.later(settle_lost)
    else:
        settle_lost()


def settle_all(log: BufferedLog) -> None:
    """Write all missing ends before a log is closed.

    Sessions that continue in living threads are left open.

    Args:
        log: The log that is about to be closed.
    """
    for one in _sessions_of(log):
        if (scope := one.scope) is not None:
            scope.wait_for_answers()
    going_on = [one for one in _sessions_of(log) if not one.is_over(closing=True)]
    if going_on:
        for one in going_on:
            one.recorder.drop_interrupted()
        gc.collect()  # an exception's traceback may keep sessions alive in a cycle
        finalizer_work.settle()
    for session in _sessions_of(log):
        if session.is_over(closing=True):
            with suppress(LogError):
                session.settle()


def forget_all(log: BufferedLog) -> int:
    """Unregister all sessions of a closed log, because nothing can be written to it any more.

    Args:
        log: The closed log.

    Returns:
        The number of sessions that have no end in the log.
    """
    left = _sessions_of(log)
    for session in left:
        forget(session.recorder)
    return len(left)


def _sessions_of(log: BufferedLog) -> list[_OpenSession]:
    return [one for one in tuple(_registry.open.values()) if one.recorder.log is log]
