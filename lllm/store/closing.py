"""Closes a store: by `close`, when it is garbage-collected, or when the interpreter exits."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from typing import Protocol

from lllm.events.backends.sharing import before_files_close
from lllm.events.buffered import BufferedLog
from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.liveness import WriterLiveness
from lllm.sessions import unfinished_sessions
from lllm.store.projection_scheduler import CatchUp
from lllm.store.read_model import ReadModel


class Closes(Protocol):
    """An object that is closed with the store."""

    def close(self) -> None:
        """Close it."""


class Closing:
    """Closes everything that a store uses, once.

    Args:
        log: The log, which is closed after the waiting events are written.
        rows: The database of rows, from which lists and sums are read.
        catch_up: The thread that brings the rows up to date.
        threads: The threads that seal or send the log; they are closed shortly before rows and log.
            None for one that there is not.
        liveness: The lock that shows that this process lives; None if there is none.
    """

    def __init__(
        self,
        log: BufferedLog,
        rows: ReadModel,
        catch_up: CatchUp,
        threads: Sequence[Closes | None],
        liveness: WriterLiveness | None,
    ) -> None:
        self._log = log
        self._rows = rows
        self._catch_up = catch_up
        self._threads = [one for one in threads if one is not None]
        self._liveness = liveness
        self._number = next(_numbers)
        _closings[self._number] = self

    def __call__(self) -> None:
        """Close everything. A second call does nothing."""
        if _closings.pop(self._number, None) is None:
            return
        # Sessions that were dropped, or that interrupted the collector, are recorded now.
        finalizer_work.settle()
        unfinished_sessions.settle_all(self._log)
        # Even if something can't be closed, release the lock that shows that this process lives.
        # Its file
        # stays if a session has no end in the log, because it tells that the writer is gone.
        with ExitStack() as closing:
            closing.callback(self._let_go)
            closing.callback(self._rows.close)
            closing.callback(self._log.close)
            for thread in self._threads:
                closing.callback(thread.close)
            closing.callback(self._catch_up.close)

    def _let_go(self) -> None:
        left_open = unfinished_sessions.forget_all(self._log)
        if self._liveness is not None:
            keep_file = left_open > 0 or self._log.lost_ends
            self._liveness.close(keep_file=keep_file)


_numbers = count()
_closings: dict[int, Closing] = {}  # the stores that are open in this process


@before_files_close
def _close_all() -> None:
    """Close all stores; abandoned streams, which need their store, are ended first."""
    finalizer_work.settle()
    for closing in reversed(list(_closings.values())):
        closing()
