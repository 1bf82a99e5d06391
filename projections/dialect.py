"""The SQL in which queries are written, and what differs between database engines.

Each SELECT stands once, in SQL that SQLite and PostgreSQL both understand:

    ?                   a parameter
    a CROSS JOIN b ON   a join in this order, first a and then b
    +column, text || '' a column by which no index is looked up
    coalesce, CASE      in place of ifnull and iif, which PostgreSQL does not have
    LIMIT ?             with ALL for no limit
    true                in place of 1 as a condition
    lower(a) LIKE lower(b)   letters in any case

`SQLDialect` has the few things that have no common form.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, Protocol

from lllm.projections.database import RowsConnection, Value

ALL = 2**63 - 1  # the largest LIMIT, for a list without a limit
_FETCHED = 100  # rows of a list that a client gets at once
_numbers = count()


class SQLDialect(Protocol):
    """What differs between the engines in a SELECT."""

    def begin(self) -> str:
        """Return the statement after which all queries see the same state of the rows."""

    def contains(self, text: str) -> str:
        """Make the condition that a text contains a parameter.

        Args:
            text: The SQL of the text.

        Returns:
            The condition, with one `?`.
        """

    def has_table(self) -> str:
        """Return a SELECT that finds a row if there is a table whose name is the parameter."""

    def begin_list(
        self, connection: RowsConnection, sql: str, parameters: Sequence[object]
    ) -> Iterator[Any]:
        """Run a SELECT of which perhaps only the first rows will be read.

        Args:
            connection: A connection after `begin`.
            sql: The statement.
            parameters: Its parameters.

        Returns:
            The rows; they are found as they are read.
        """

    def asked_again(self, sql: str, parameters: Sequence[object]) -> tuple[str, Sequence[object]]:
        """Write a SELECT that is likely to be asked again in the form that is planned least often.

        Args:
            sql: The statement.
            parameters: Its parameters.

        Returns:
            The statement and the parameters that it still has.
        """

    def day_of(
        self, connection: RowsConnection, column: str, days: Mapping[Value, Value], /
    ) -> str:
        """Make the SQL for the day of a quarter of an hour.

        Args:
            connection: The connection that will run the query.
            column: The column with the number of the quarter.
            days: The day of each quarter that there is, as a number.

        Returns:
            The SQL.
        """


# Begins a transaction in which all queries of a PostgreSQL connection see the same state.
POSTGRES_READS = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class _SQLite:
    """SQLite: https://sqlite.org/lang.html."""

    def begin(self) -> str:
        return "BEGIN"

    def contains(self, text: str) -> str:
        return f"instr({text}, ?)"

    def has_table(self) -> str:
        return "SELECT 1 FROM sqlite_master WHERE name = ?"

    def begin_list(
        self, connection: RowsConnection, sql: str, parameters: Sequence[object]
    ) -> Iterator[Any]:
        return connection.execute(sql, parameters)

    def asked_again(self, sql: str, parameters: Sequence[object]) -> tuple[str, Sequence[object]]:
        return sql, parameters

    def day_of(
        self, connection: RowsConnection, column: str, days: Mapping[Value, Value], /
    ) -> str:
        assert isinstance(connection, sqlite3.Connection)
        # `days` has all of them, so that the query runs no Python code: there, Ctrl-C would be
        # turned into an error of SQLite.
        connection.create_function("day_of_quarter", 1, days.get, deterministic=True)
        return f"day_of_quarter({column})"


class _PostgreSQL:
    """PostgreSQL, through psycopg: https://www.psycopg.org/psycopg3/docs/basic/params.html."""

    def begin(self) -> str:
        return POSTGRES_READS

    def contains(self, text: str) -> str:
        return f"strpos({text}, ?) > 0"

    def has_table(self) -> str:
        return (
            "SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident("
            "current_schema)) AND relname = ? AND has_table_privilege(oid, 'SELECT')"
        )

    def begin_list(
        self, connection: RowsConnection, sql: str, parameters: Sequence[object]
    ) -> Iterator[Any]:
        # A cursor of the server: its plan is for the first rows, and the client gets no others.
        name = f"list_{next(_numbers)}"
        connection.execute(f"DECLARE {name} NO SCROLL CURSOR FOR {sql}", parameters)
        while some := connection.execute(f"FETCH {_FETCHED} FROM {name}").fetchall():
            yield from some

    def asked_again(self, sql: str, parameters: Sequence[object]) -> tuple[str, Sequence[object]]:
        # Numbers become a part of the statement. Once it is prepared and has no parameters, its
        # plan is kept, until the statistics of a table change; else it is planned for each value.
        first, *others = sql.split("?")
        left: list[object] = []
        for parameter, text in zip(parameters, others, strict=True):
            if type(parameter) is int:
                first += f"({parameter}){text}"
            else:
                first += f"?{text}"
                left.append(parameter)
        return first, left

    def day_of(self, _: RowsConnection, column: str, days: Mapping[Value, Value], /) -> str:
        starts: list[int] = []  # the quarters at which another day begins
        for quarter in sorted(one for one in days if isinstance(one, int)):
            if not starts or days[quarter] != days[starts[-1]]:
                starts.append(quarter)
        # width_bucket returns which of the ranges between them a quarter is in:
        # https://www.postgresql.org/docs/current/functions-math.html
        numbers, bounds = (
            f"CAST(ARRAY[{', '.join(map(str, some))}] AS bigint[])"
            for some in ([days[start] for start in starts], starts)
        )
        return f"({numbers})[width_bucket({column}, {bounds})]"


@lru_cache(maxsize=1_000)
def for_psycopg(sql: str) -> str:
    """Write the order of joins and the marks of parameters as PostgreSQL and psycopg want them.

    Connections set join_collapse_limit to 1, with which JOIN keeps its order
    (https://www.postgresql.org/docs/current/explicit-joins.html).

    Args:
        sql: A statement in the common form; no literal in it has a question mark.

    Returns:
        The statement for psycopg.
    """
    return sql.replace("%", "%%").replace("?", "%s").replace("CROSS JOIN", "JOIN")


SQLITE: SQLDialect = _SQLite()
POSTGRESQL: SQLDialect = _PostgreSQL()


def dialect_of(connection: RowsConnection) -> SQLDialect:
    """Find the dialect of a connection.

    Args:
        connection: A connection to the rows.

    Returns:
        The dialect of its engine.
    """
    return POSTGRESQL if connection.engine == "postgres" else SQLITE
