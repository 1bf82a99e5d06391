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
        self._connection: ServerConnection | None = None
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
                self._connection = None

    def result(self) -> PGresult:
        """Wait for the page.

        Returns:
            The result of the statement.

        Raises:
            LogUnavailable: The server can't be reached, or refuses the statement.
        """
        if self._thread.ident is not None:
            self._thread.join(READING_SECONDS)
            connection = self._connection
            if self._thread.is_alive() and connection is not None:
                connection.break_off()
        # Without a result, it is read again: in a forked child, where the thread does not run, and
        # after an error, which is raised here then.
        return self._found or self._pool.ask(self._statement, self._parameters)
