"""Waits for the notifications that follow appends (LISTEN and NOTIFY).

A notification is a transaction of its own, sent behind the append without waiting for the answer.
Inside of the append's transaction it would hold a lock of the whole server until the commit is on
the disk, so that no two commits of any log could be grouped
(PreCommit_Notify in https://github.com/postgres/postgres, src/backend/commands/async.c).

A process that dies between the two sends none. So a listener looks at the log every few seconds
even if nobody announces anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from lllm.events.backends.postgres.connection import ServerConnection
from lllm.events.errors import LogUnavailable


class AppendListener:
    """A connection that hears of appends; used as a context manager.

    Args:
        connect: Makes a connection, until a time of the monotonic clock.
        channel: The channel of the log, quoted.
        timeout: Seconds for making a connection.
    """

    silence = 5.0

    def __init__(
        self, connect: Callable[[float], ServerConnection], channel: str, timeout: float
    ) -> None:
        self._make = connect
        self._channel = channel
        self._timeout = timeout
        self._connection: ServerConnection | None = None

    def __enter__(self) -> AppendListener:
        self._listen()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    def _listen(self) -> None:
        until = time.monotonic() + self._timeout
        self._connection = self._make(until)
        self._connection.run(f"LISTEN {self._channel}", until)

    def wait(self, seconds: float) -> bool:
        """Wait for an append; see `Announcements`."""
        try:
            if self._connection is None or self._connection.lost:
                self._listen()
                return True  # there may have been appends meanwhile
            return self._connection.wait_for_notification(time.monotonic() + seconds)
        except LogUnavailable:  # a look at the log tells more, if that can't be read either
            time.sleep(seconds)
            return True
