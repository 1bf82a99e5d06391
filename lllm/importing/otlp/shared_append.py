"""Appends the events of several sessions together, because each append takes its time."""

from __future__ import annotations

from collections.abc import Sequence

from lllm.events.buffered import BufferedLog
from lllm.events.envelope import NewEvent

_MOST = 500  # events in one append
_MOST_BYTES = 4 << 20  # bytes of payloads in one append


class SharedAppend:
    """Collects events, and appends them when there are enough.

    Args:
        log: The log of the store.
    """

    def __init__(self, log: BufferedLog) -> None:
        self._log = log
        self._events: list[NewEvent] = []
        self._size = 0

    @property
    def is_full(self) -> bool:
        """True if there are so many events that they are to be appended."""
        return len(self._events) >= _MOST or self._size >= _MOST_BYTES

    def add(self, events: Sequence[NewEvent]) -> None:
        """Collect events."""
        self._events += events
        self._size += sum(len(one.data) for one in events)

    def flush(self) -> None:
        """Append what was collected, in order. It is forgotten if that fails.

        Raises:
            AppendConflict: Another process has written one of the sessions.
            LogUnavailable: The log can't be written.
        """
        events = self._events
        self.forget()
        batch: list[NewEvent] = []
        size = 0
        for event in events:
            if batch and (len(batch) >= _MOST or size + len(event.data) > _MOST_BYTES):
                self._log.append(batch)
                batch, size = [], 0
            batch.append(event)
            size += len(event.data)
        if batch:
            self._log.append(batch)

    def forget(self) -> None:
        """Drop what was collected."""
        self._events, self._size = [], 0
