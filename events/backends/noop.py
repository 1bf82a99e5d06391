"""A log that stores nothing, for tests and for measuring the cost of everything but the log."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.envelope import NewEvent, Recorded


class NoOpBackend:
    """Accepts every append, counts its events and discards them; reads return nothing."""

    persists = False

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.RLock()  # a signal handler may append, too
        register_after_fork(self)

    def __repr__(self) -> str:
        return "NoOpBackend()"

    def __reduce__(self) -> tuple[type[NoOpBackend], tuple[()]]:
        """Pickle the backend without any state."""
        return NoOpBackend, ()

    def after_fork(self) -> None:
        """Make a new lock: another thread of the parent may have held the old one."""
        self._lock = threading.RLock()

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """Count the events, and return increasing positions as any log does.

        Args:
            events: As of LogBackend.
        """
        with self._lock:
            number = len(events)
            self._count += number
            return range(self._count - number + 1, self._count + 1)

    def try_append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """See AppendsWithoutWaiting; there is nothing to wait for."""
        return self.append(events)

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """See LogBackend; there is nothing to read."""
        del after, upto, stream  # nothing to choose from
        return iter(())

    def head(self) -> int:
        """See LogBackend; 0, since there is nothing to read."""
        return 0

    def close(self) -> None:
        """See LogBackend; there is nothing to close."""
