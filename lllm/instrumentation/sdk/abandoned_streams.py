"""Ends a body that is left: its reader drops it, and neither reads it to its end nor closes it."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from lllm.events.concurrency import finalizer_work


class BodyEnded(Protocol):
    """Is told once that a body is over."""

    def __call__(self, error: BaseException | None, *, whole: bool) -> None:
        """Take it in: what cut the body off, and whether all of it came."""


class BodyEnd:
    """The end of a body, which comes once.

    Args:
        dropped: Called in a thread of its own where nobody waits for the end.

    Attributes:
        whole: True if the connection had no more to give.
    """

    def __init__(self, dropped: BodyEnded) -> None:
        self._dropped = dropped
        self._came = False
        self.whole = False

    def come(self) -> bool:
        """Note that it came; return whether it had not before."""
        before, self._came = self._came, True
        self.__class__ = BodyEnd
        return not before

    def tell_later(self, error: BaseException | None) -> None:
        """Tell of it in a thread of its own."""
        finalizer_work.later(partial(self._dropped, error, whole=self.whole))


class OpenBodyEnd(BodyEnd):
    """An end that has not come: it comes where the body is dropped.

    It is a class of its own so that no finalizer runs for a body that was read; see
    `lllm.sessions.session`.
    """

    def __del__(self) -> None:
        if self.come():
            self.tell_later(None)
