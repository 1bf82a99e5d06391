"""One connection to a PostgreSQL server, on which nothing waits longer than a deadline.

A `statement_timeout` is kept by the server, and does not bound a COMMIT: one that waits for a
silent standby waits forever. So the time is kept here, on libpq's functions that do not block
(https://www.postgresql.org/docs/current/libpq-async.html). If the time is over in the middle of a
statement, the connection is closed, and what became of the statement is unknown.
"""

from __future__ import annotations

import importlib.util
import os
import select
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from lllm.events.backends.postgres.errors import (
    ConnectionLost,
    ServerRefused,
    connection_error,
    server_error,
)
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.late_imports import importing
from lllm.events.errors import MissingExtra

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

_OWED_SECONDS = 10.0  # for the result of what was sent by `run_later`
_PREPARED_FROM = 2  # the use of a statement from which it is prepared
_numbers = count()


class Statement:
    """An SQL statement whose parameters and results are in PostgreSQL's binary form.

    Args:
        sql: The statement, with `$1` and so on for its parameters.
        types: The numbers of the parameters' types.
    """

    def __init__(self, sql: str, types: Sequence[int] = ()) -> None:
        self.name = b"lllm_%d" % next(_numbers)
        self.sql = sql.encode()
        self.types = tuple(types)
        self.formats = (1,) * len(self.types)


class ServerConnection:
    """A connection to a server, for one thread at a time.

    Args:
        conninfo: The connection string of libpq.
        server: The server's name for messages, without a password.
        until: The time of the monotonic clock at which connecting fails.

    Raises:
        LogUnavailable: The server can't be reached, or refuses the connection.
        MissingExtra: psycopg is not installed.
    """

    def __init__(self, conninfo: str, server: str, until: float) -> None:
        require_psycopg()
        with importing():
            from psycopg import Error, pq

        self._error = Error
        self._pq = pq
        self._server = server
        self._uses: dict[Statement, int] = {}
        self._owes_results = False
        self._pgconn: PGconn = pq.PGconn.connect_start(conninfo.encode())
        # A commit that is cancelled while it waits for a standby succeeds, with a warning.
        self._unreplicated: list[str] = []
        self._pgconn.notice_handler = partial(
            _note_unreplicated, pq.DiagnosticField.SOURCE_FILE, self._unreplicated
        )
        register_after_fork(self)
        try:
            self._connect(until)
            self._pgconn.nonblocking = 1
        except BaseException:
            self.close()
            raise

    def _connect(self, until: float) -> None:
        polled, status = self._pq.PollingStatus, self._pgconn.status
        found = polled.FAILED if status == self._pq.ConnStatus.BAD else polled.WRITING
        while found != polled.OK:
            if found == polled.FAILED:
                text = self._pgconn.get_error_message()
                raise connection_error(self._server, text)
            flags = select.POLLOUT if found == polled.WRITING else select.POLLIN
            if not self._ready(flags, until):
                raise connection_error(self._server, "It does not answer in time.")
            found = polled(self._pgconn.connect_poll())

    def _ready(self, flags: int, until: float) -> int:
        """Wait until the socket can be read or written; 0 if that takes too long."""
        poll = select.poll()
        poll.register(self._pgconn.socket, flags)
        for _, events in poll.poll(max(0.0, until - time.monotonic()) * 1000):
            return events
        return 0

    def backend_pid(self) -> int:
        """The process id of the server's process, as it was told when the connection was made."""
        return self._pgconn.backend_pid

    def execute(
        self, statement: Statement, parameters: Sequence[bytes | None], until: float
    ) -> PGresult:
        """Execute a statement, as a transaction of its own; from the second time, it is prepared.

        Args:
            statement: The statement.
            parameters: The parameters in binary form.
            until: The time of the monotonic clock at which the connection is given up.

        Returns:
            The result, in binary form.

        Raises:
            ServerRefused: The server refused the statement; nothing was changed.
            ConnectionLost: What became of the statement is unknown; the connection is closed.
        """
        with _Closing(self):
            self._finish(until)
            uses = self._uses[statement] = self._uses.get(statement, 0) + 1
            if uses < _PREPARED_FROM:
                self._pgconn.send_query_params(
                    statement.sql, parameters, statement.types, statement.formats, 1
                )
                return self._result(until)
            if uses == _PREPARED_FROM:
                self._pgconn.send_prepare(statement.name, statement.sql, statement.types)
                self._result(until)
            self._pgconn.send_query_prepared(statement.name, parameters, statement.formats, 1)
            return self._result(until)

    def execute_beside(self, statement: Statement, parameters: Sequence[bytes | None]) -> PGresult:
        """Execute a statement while other threads of this process run, with no deadline.

        libpq waits for the whole result without Python's lock. Waiting as in `execute` would take
        that lock for each part of a result, and wait for the other threads each time. Another
        thread can end the waiting with `break_off`.

        Args:
            statement: The statement.
            parameters: The parameters in binary form.

        Returns:
            The result, in binary form.

        Raises:
            ConnectionLost: There is no result; the connection is closed.
        """
        with _Closing(self):
            self._finish(time.monotonic() + _OWED_SECONDS)
            found = self._pgconn.exec_params(
                statement.sql, parameters, statement.types, statement.formats, 1
            )
            if found.status != self._pq.ExecStatus.TUPLES_OK:
                raise ConnectionLost(f"{self._server}: {found.get_error_message()}")
            return found

    def break_off(self) -> None:
        """Make a thread in `execute_beside` fail at once."""
        with (
            suppress(OSError, self._error),
            socket.socket(fileno=os.dup(self._pgconn.socket)) as one,
        ):
            one.shutdown(socket.SHUT_RDWR)

    def run(self, script: str, until: float) -> None:
        """Run statements without parameters, as one transaction.

        Args:
            script: The statements.
            until: The time of the monotonic clock at which the connection is given up.

        Raises:
            ServerRefused: The server refused a statement; nothing was changed.
            ConnectionLost: What became of the statements is unknown; the connection is closed.
        """
        with _Closing(self):
            self._finish(until)
            self._pgconn.send_query(script.encode())
            self._result(until)

    def run_later(self, script: str, until: float) -> None:
        """Send statements without waiting for the result, which is of no interest.

        Args:
            script: The statements.
            until: The time of the monotonic clock at which the connection is given up.

        Raises:
            ConnectionLost: The statements could not be sent; the connection is closed.
        """
        with _Closing(self):
            self._finish(until)
            self._pgconn.send_query(script.encode())
            self._owes_results = True
            self._flush(until)

    def wait_for_notification(self, until: float) -> bool:
        """Wait until another connection notifies this one; False if that takes too long.

        Args:
            until: The time of the monotonic clock until which to wait.

        Returns:
            True if there was a notification; all that have come are forgotten.

        Raises:
            ConnectionLost: The server ended the connection.
        """
        with _Closing(self):
            self._finish(until + 1)
            while not (found := self._notified()):
                if not self._ready(select.POLLIN, until):
                    return False
                self._pgconn.consume_input()
            return found

    def _notified(self) -> bool:
        found = False
        while self._pgconn.notifies() is not None:
            found = True
        return found

    def _finish(self, until: float) -> None:
        """Read the results of statements that were sent by `run_later`."""
        if self._owes_results:
            self._results(until)
            self._owes_results = False

    def _result(self, until: float) -> PGresult:
        results = self._results(until)
        for result in results:
            if result.status == self._pq.ExecStatus.FATAL_ERROR:
                field, given = self._pq.DiagnosticField, result.error_field
                state, detail = given(field.SQLSTATE), given(field.MESSAGE_DETAIL)
                raise server_error(
                    self._server, result.get_error_message(), (state or b"").decode(),
                    (detail or b"").decode(errors="replace"),
                )  # fmt: skip
        if self._unreplicated:
            raise ConnectionLost(f"{self._server}: {self._unreplicated.pop()}")
        return results[-1]

    def _results(self, until: float) -> list[PGresult]:
        self._flush(until)
        results: list[PGresult] = []
        while True:
            while self._pgconn.is_busy():
                self._wait(select.POLLIN, until)
            result = self._pgconn.get_result()
            if result is None:
                return results
            results.append(result)

    def _flush(self, until: float) -> None:
        while self._pgconn.flush():
            self._wait(select.POLLIN | select.POLLOUT, until)

    def _wait(self, flags: int, until: float) -> None:
        found = self._ready(flags, until)
        if not found:
            raise ConnectionLost(f"{self._server} has not answered in time.")
        if found & ~select.POLLOUT:
            self._pgconn.consume_input()

    @property
    def lost(self) -> bool:
        """True if the connection has ended, or was closed."""
        return self._pgconn.status != self._pq.ConnStatus.OK

    def close(self) -> None:
        """Close the connection; closing twice does nothing."""
        self._pgconn.finish()

    def after_fork(self) -> None:
        """Close the child's copy of the socket, without a word to the server."""
        try:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, self._pgconn.socket, inheritable=False)
            os.close(null)
        except (OSError, self._error):  # it was closed, or was just being made
            return
        self._pgconn.finish()

    def lost_by(self, error: BaseException) -> BaseException:
        """Make the error that is raised for one in the middle of a statement.

        Args:
            error: The error that was met.

        Returns:
            A ConnectionLost for an error of libpq; otherwise the same error.
        """
        if isinstance(error, self._error):
            return ConnectionLost(f"{self._server}: {' '.join(str(error).split())}")
        return error


def _note_unreplicated(source_file: int, found: list[str], notice: PGresult) -> None:
    """Note a warning of the part of the server that waits for standbys, in whatever language."""
    if notice.error_field(source_file) == b"syncrep.c":
        found.append(notice.get_error_message())


class _Closing:
    """Closes a connection if what is done with it does not end with an answer of the server."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None or isinstance(error, ServerRefused):
            return
        found = self._connection.lost_by(error)
        self._connection.close()
        if found is not error:
            raise found from None


def require_psycopg() -> None:
    """Raise an error if psycopg is not installed.

    Raises:
        MissingExtra: It is not installed.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise MissingExtra(
            "A log in PostgreSQL needs the library 'psycopg', which is not installed. It is in an "
            'extra: pip install "lllm[postgres]"'
        )
