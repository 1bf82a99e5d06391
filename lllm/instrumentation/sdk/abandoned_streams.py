"""Ends a streamed body whose reader drops it without reading it to the end or closing it."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from lllm.events.concurrency import finalizer_work


class BodyEnded(Protocol):
    """A callback that is called once, at the end of a body."""

    def __call__(self, error: BaseException | None, *, whole: bool) -> None:
        """Handle the end: the error that ended the body, and whether it arrived completely."""


class BodyEnd:
    """The end of a body, which is reported once.

    Args:
        dropped: A callback for a body that nobody reads any more; it runs in a new thread.

    Attributes:
        whole: True if the body arrived completely.
    """

    def __init__(self, dropped: BodyEnded) -> None:
        self._dropped = dropped
        self._came = False
        self.whole = False

    def come(self) -> bool:
        """Mark the end as reported; return True the first time only."""
        before, self._came = self._came, True
        self.__class__ = BodyEnd
        return not before

    def tell_later(self, error: BaseException | None) -> None:
        """Report the end in a new thread."""
        finalizer_work.later(partial(self._dropped, error, whole=self.whole))


class OpenBodyEnd(BodyEnd):
    """An end that was not reported yet; it is reported when the body is garbage-collected.

    It is a class of its own, so that no finalizer runs for a body that was read; see
    `lllm.sessions.session`.
    """

    def __del__(self) -> None:
        if self.come():
            self.tell_later(None)
