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
        self._lock = threading.RLock()  # reentrant: a signal handler may append, too
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
        """Count the events, and return increasing positions as every log does.

        Args:
            events: The events, which are then discarded.

        Returns:
            A position for each event.
        """
        with self._lock:
            number = len(events)
            self._count += number
            return range(self._count - number + 1, self._count + 1)

    def try_append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """Do what `append` does; it never waits.

        Args:
            events: The events, which are then discarded.

        Returns:
            A position for each event.
        """
        return self.append(events)

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """Return no events, because none are stored."""
        del after, upto, stream  # there is nothing to select from
        return iter(())

    def head(self) -> int:
        """Always 0, because no events are stored."""
        return 0

    def close(self) -> None:
        """Do nothing, because nothing is open."""
