"""Sends many statements to PostgreSQL, and waits once for the results of all.

psycopg's own pipeline looks for results after each statement. With the few rows of one session,
that takes longer than the statements themselves.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus

from lllm.projections.database import Value

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

_Types = tuple[int, ...]
# The numbers of types in the system catalog pg_type; of others, the statement tells the type.
_TYPES: dict[type, int] = {int: 20, bool: 20, float: 701, bytes: 17}
_numbers = count()


class Pipeline:
    """The statements that a connection has prepared, and their execution.

    Args:
        connection: A connection of libpq that does not block.
    """

    def __init__(self, connection: PGconn) -> None:
        self._connection = connection
        self._prepared: dict[tuple[str, _Types], bytes] = {}  # names by statement

    def run(self, statements: Iterable[tuple[str, Sequence[Value]]], seconds: float) -> None:
        """Run statements in order; behind one that fails, none is run.

        Args:
            statements: The statements, each with its parameters in place of `?`.
            seconds: The time after which a server without an answer is given up.

        Raises:
            psycopg.Error: A statement failed, or the connection is lost.
        """
        connection = self._connection
        new: dict[tuple[str, _Types], bytes] = {}
        connection.enter_pipeline_mode()
        for sql, parameters in statements:
            types = tuple([_TYPES.get(type(value), 0) for value in parameters])
            name = self._prepared.get((sql, types)) or new.get((sql, types))
            if name is None:
                name = new[sql, types] = b"row_%d" % next(_numbers)
                connection.send_prepare(name, _numbered(sql), types)
            connection.send_query_prepared(name, [*map(_encoded, parameters)])
        connection.pipeline_sync()
        failed = self._results(seconds)
        connection.exit_pipeline_mode()
        if failed is not None:
            state = (failed.error_field(DiagnosticField.SQLSTATE) or b"").decode()
            said = (failed.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode()
            raise _error_class(state)(said or failed.get_error_message())
        self._prepared.update(new)

    def _results(self, seconds: float) -> PGresult | None:
        """Read all results, up to that of the synchronisation; return the first error."""
        failed = None
        while True:
            self._wait(seconds)
            result = self._connection.get_result()
            if result is None:  # the end of the results of one statement
                if self._connection.status == ConnStatus.BAD:
                    raise psycopg.OperationalError(self._connection.get_error_message())
            elif result.status == ExecStatus.PIPELINE_SYNC:
                return failed
            elif result.status == ExecStatus.FATAL_ERROR:
                failed = failed or result

    def _wait(self, seconds: float) -> None:
        """Wait until a result is there, and send what is not sent yet."""
        connection = self._connection
        until = time.monotonic() + seconds
        while (unsent := connection.flush()) or connection.is_busy():
            poll = select.poll()
            poll.register(connection.socket, select.POLLIN | (select.POLLOUT if unsent else 0))
            ready = poll.poll(max(0.0, until - time.monotonic()) * 1000)
            if not ready:
                connection.finish()
                raise psycopg.OperationalError(
                    f"the server has not answered for {seconds:g} seconds"
                )
            if ready[0][1] & ~select.POLLOUT:
                connection.consume_input()


def _error_class(state: str) -> type[psycopg.Error]:
    try:
        return errors.lookup(state)
    except KeyError:
        return psycopg.OperationalError


@lru_cache(maxsize=1_000)
def _numbered(sql: str) -> bytes:
    """Write `$1`, `$2` and so on in place of each `?`."""
    first, *others = sql.split("?")
    parts = [f"${number}{text}" for number, text in enumerate(others, 1)]
    return f"{first}{''.join(parts)}".encode()


def _encoded(value: Value) -> bytes | None:
    """Encode a parameter as text, from which PostgreSQL makes the value of a column."""
    if value is None:
        return None
    if isinstance(value, str):  # also JSONText
        return value.replace("\0", "\\x00").encode()
    if type(value) is bytes:
        return b"\\x" + value.hex().encode()
    return b"%d" % value if isinstance(value, int) else repr(value).encode()
