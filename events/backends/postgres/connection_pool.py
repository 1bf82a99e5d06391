"""Lends connections to threads: each statement has a connection of its own while it runs.

A connection belongs to the process that made it. A forked child closes its copies of the sockets
without a word, and makes connections of its own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from lllm.events.backends.postgres.connection import ServerConnection, Statement
from lllm.events.backends.postgres.errors import ConnectionLost, ServerUnreachable
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.errors import LogUnavailable

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

CONNECTIONS = 8  # of one log in one process
READING_SECONDS = 60.0  # for a page, or for a head
_SILENCE = 5.0  # seconds for which nothing is tried after a server did not answer


class ConnectionPool:
    """The connections of one log in this process.

    Args:
        connect: Makes a connection, until a time of the monotonic clock.
        server: The server's name for messages, without a password.
    """

    def __init__(self, connect: Callable[[float], ServerConnection], server: str) -> None:
        self._connect = connect
        self._server = server
        self.closed = False
        register_after_fork(self)
        self._begin()

    def _begin(self) -> None:
        self._idle: deque[ServerConnection] = deque()
        # A queue, because a signal handler may take a connection while its thread takes one.
        self._turns: SimpleQueue[None] = SimpleQueue()
        for _ in range(CONNECTIONS):
            self._turns.put(None)
        self._silent_until = 0.0

    def after_fork(self) -> None:
        """Forget the connections, of which the child closes its copies; see `ServerConnection`."""
        self._begin()

    @contextmanager
    def lend(self, until: float, *, hasty: bool = False) -> Iterator[ServerConnection]:
        """A context manager that lends a connection; it is made if there is none.

        Args:
            until: The time of the monotonic clock until which to wait for one.
            hasty: True to fail at once if the server did not answer a moment ago.

        Yields:
            The connection.

        Raises:
            LogUnavailable: The server can't be reached, or all connections are in use.
        """
        if self.closed:
            raise LogUnavailable(f"{self._server} has been closed; open the store again.")
        if hasty and time.monotonic() < self._silent_until:
            raise ServerUnreachable(f"{self._server} did not answer a moment ago.")
        turns = self._turns
        try:
            turns.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            raise ServerUnreachable(
                f"All {CONNECTIONS} connections to {self._server} are in use."
            ) from None
        try:
            with self._noting_silence(until):
                connection = self._take() or self._connect(until)
                try:
                    yield connection
                finally:
                    self._take_back(connection)
        finally:
            turns.put(None)

    def ask(self, statement: Statement, parameters: Sequence[bytes | None]) -> PGresult:
        """Execute a statement that only reads; on another connection if the first one is lost.

        Args:
            statement: The statement.
            parameters: The parameters in binary form.

        Returns:
            The result, in binary form.

        Raises:
            LogUnavailable: The server can't be reached, or refuses the statement.
        """
        until = time.monotonic() + READING_SECONDS
        for _ in range(2):
            with suppress(ConnectionLost), self.lend(until) as connection:
                return connection.execute(statement, parameters, until)
        with self.lend(until) as connection:
            return connection.execute(statement, parameters, until)

    @contextmanager
    def _noting_silence(self, until: float) -> Iterator[None]:
        try:
            yield
        except (ConnectionLost, ServerUnreachable):
            self.drop_idle()  # the same has probably happened to them
            if time.monotonic() >= until:
                self._silent_until = time.monotonic() + _SILENCE
            raise
        self._silent_until = 0.0

    def _take(self) -> ServerConnection | None:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread has taken it
                return None
            if not connection.lost:
                return connection
        return None

    def _take_back(self, connection: ServerConnection) -> None:
        if connection.lost or self.closed:
            connection.close()
        else:
            self._idle.append(connection)

    def drop_idle(self) -> None:
        """Close the connections that nobody uses."""
        while (connection := self._take()) is not None:
            connection.close()

    def close(self) -> None:
        """Close all connections; those in use are closed when they are given back."""
        self.closed = True
        self.drop_idle()
