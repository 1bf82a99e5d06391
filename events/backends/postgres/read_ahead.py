"""Reads a page of events in a thread, while the page before it is used."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from lllm.events.backends.postgres.connection import ServerConnection, Statement
from lllm.events.backends.postgres.connection_pool import READING_SECONDS, ConnectionPool
from lllm.events.errors import LogError

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult


class PageAhead:
    """A page that is being read.

    The thread ends with the page, also if nobody asks for it.

    Args:
        pool: The connections.
        statement: The statement that reads the page.
        parameters: Its parameters in binary form.
    """

    def __init__(
        self, pool: ConnectionPool, statement: Statement, parameters: Sequence[bytes | None]
    ) -> None:
        self._pool = pool
        self._statement = statement
        self._parameters = parameters
        # Held while the connection is broken off, so that it can't be lent to others meanwhile.
        self._lock = threading.Lock()
        self._connection: ServerConnection | None = None  # while it reads the page
        self._is_broken_off = False
        self._found: PGresult | None = None
        self._thread = threading.Thread(target=self._read, name="lllm-read-ahead", daemon=True)
        with suppress(RuntimeError):  # at the end of the process, no thread can be started
            self._thread.start()

    def _read(self) -> None:
        with suppress(LogError), self._pool.lend(time.monotonic() + READING_SECONDS) as connection:
            self._connection = connection
            try:
                self._found = connection.execute_beside(self._statement, self._parameters)
            finally:
                with self._lock:
                    self._connection = None
                if self._is_broken_off:  # also if the page came at the last moment
                    connection.close()

    def result(self) -> PGresult:
        """Wait for the page.

        Returns:
            The result of the statement.

        Raises:
            LogUnavailable: The server can't be reached, or refuses the statement.
        """
        if self._thread.ident is not None:
            self._thread.join(READING_SECONDS)
            if self._thread.is_alive():  # not in a forked child, where nobody frees the lock
                self._break_off()
        # Without a result, it is read again: in a forked child, where the thread does not run, and
        # after an error, which is raised here then.
        return self._found or self._pool.ask(self._statement, self._parameters)

    def _break_off(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._is_broken_off = True
                self._connection.break_off()
