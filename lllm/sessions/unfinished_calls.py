"""Tracks model calls in progress, so that the end of each is recorded in any case.

An abandoned stream, a dropped task or a thread that nobody waits for may outlive its session, or
the interpreter. The part of its answer that has arrived is staged when the session ends, or at the
interpreter's exit; anything later is not recorded.
"""

from __future__ import annotations

import atexit
import logging
from typing import Protocol

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.concurrency.weak_sets import LiveSet

_logger = logging.getLogger("lllm.invoker")


class OpenCall(Protocol):
    """A model call in progress."""

    def settle(self) -> None:
        """Stage the call's end with what arrived so far, and record no more of it."""

    def settle_at_exit(self) -> None:
        """Stage and commit the call's end when the interpreter exits."""


class LateAnswer(Protocol):
    """An answer that has arrived, and that another thread or task is about to report."""

    def wait(self) -> None:
        """Wait for a moment until it is reported; return at once if that can't be waited for."""

    async def await_it(self) -> None:
        """Wait as `wait` does, on an event loop."""


class OpenCalls:
    """The model calls in progress of one session."""

    def __init__(self) -> None:
        self._calls: dict[OpenCall, None] = {}  # changes of a dict are atomic
        self._late: dict[LateAnswer, None] = {}

    def add(self, call: OpenCall) -> None:
        """Add a call that begins."""
        self._calls[call] = None
        watch(call)

    def remove(self, call: OpenCall) -> None:
        """Remove a call that has ended."""
        self._calls.pop(call, None)
        unwatch(call)

    def add_late(self, answer: LateAnswer) -> None:
        """Wait for an answer before the session ends; see LateAnswer."""
        self._late[answer] = None

    def remove_late(self, answer: LateAnswer) -> None:
        """Stop waiting for an answer, which is reported."""
        self._late.pop(answer, None)

    def wait_for_late(self) -> None:
        """Wait for the answers that have arrived and are not reported yet."""
        for answer in list(self._late):
            answer.wait()

    async def await_late(self) -> None:
        """Wait as `wait_for_late` does, on an event loop."""
        for answer in list(self._late):
            await answer.await_it()

    def settle(self) -> None:
        """Stage the end of each open call, because the session ends."""
        self.wait_for_late()
        for call in list(self._calls):
            try:
                call.settle()
            # an error in one call must not prevent the ends of the others
            except Exception as error:
                _logger.error("an open call could not be recorded", exc_info=error)
            self.remove(call)


_watched: LiveSet[OpenCall] = LiveSet()
_watching = ThreadLock()
_registered = False
_exiting = False


def watch(call: OpenCall) -> None:
    """Settle a call when the interpreter exits, if the call still exists then.

    Args:
        call: A call in progress.
    """
    global _registered
    with _watching.held():
        if not _registered:
            # Registered after the hook that closes stores, which the first store registers: the
            # exit runs
            # hooks in reverse order, so this one comes first.
            atexit.register(_at_exit)
            _registered = True
        _watched.add(call)


def unwatch(call: OpenCall) -> None:
    """Stop watching a call that has ended.

    Args:
        call: The call that was given to `watch`.
    """
    with _watching.held():
        _watched.discard(call)


def exiting() -> bool:
    """True if the interpreter is exiting and stores are closed, so nothing can be recorded."""
    return _exiting


def _at_exit() -> None:
    global _exiting
    with _watching.held():
        calls = list(_watched)
    for call in calls:
        try:
            call.settle_at_exit()
        except Exception as error:
            _logger.error("an open call could not be recorded", exc_info=error)
    _exiting = True
