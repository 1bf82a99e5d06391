"""The command `lllm query`: runs a user's SQL on a store, read-only."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.options import csv_option, json_option, open_named, store_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lllm.cli.render.query_schema import TableInfo
    from lllm.events.backend import ServerAddress
    from lllm.store.log_store import LogStore
    from lllm.store.query_timeout import QueryRows

_ROWS = 1000  # in a table, without --limit


def _as_parameters(
    ctx: click.Context, param: click.Parameter, pairs: tuple[tuple[str, str], ...]
) -> dict[str, str | int]:
    """Parse names and values; a value that looks like an SQLite integer becomes one."""
    found: dict[str, str | int] = {}
    for name, text in pairs:
        if name in found:
            raise click.BadParameter(f"{name!r} has two values.", ctx, param)
        number = int(text) if text.lstrip("-").isdecimal() and text.isascii() else None
        fits = number is not None and str(number) == text and -(2**63) <= number < 2**63
        found[name] = number if fits and number is not None else text
    return found


@click.command()
@store_option
@click.argument("sql", required=False)
@click.option("-p", "--param", "parameters", nargs=2, metavar="NAME VALUE", multiple=True,
              callback=_as_parameters,
              help="A value for :NAME in the SQL; can be given several times.",
              )  # fmt: skip
@click.option("--schema", is_flag=True, help="List the tables that SQL can query instead.")
@click.option("--datasette", is_flag=True,
              help="Print the metadata that Datasette needs to show the store instead.",
              )  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", default=30.0,
              show_default=True, help="The time after which the query is stopped; 0 for no limit.",
              )  # fmt: skip
@click.option("--limit", type=click.IntRange(min=0), metavar="N",
              help="The greatest number of rows; 0 for all.  [default: 1000 in a table, else all]",
              )  # fmt: skip
@json_option
@click.option("--nl", "as_nl", is_flag=True, help="Print JSON instead, one object on each line.")
@csv_option
def query(
    store: str | None,
    sql: str | None,
    parameters: dict[str, str | int],
    schema: bool,
    datasette: bool,
    timeout: float,
    limit: int | None,
    as_json: bool,
    as_nl: bool,
    as_csv: bool,
) -> None:
    """Run a read-only SQL query on the store.

    \b
      lllm query "SELECT tactic, count(*) FROM sessions GROUP BY tactic"
      lllm query "SELECT id, task FROM sessions WHERE state = :s" -p s failure
      lllm query --schema
      lllm query --datasette > metadata.json; datasette runs.db -m metadata.json

    A store in PostgreSQL takes PostgreSQL's SQL, in a transaction that can't write.
    The SQL `-` is read from standard input. --csv and --nl print each row as it comes. Bytes are
    shown as x'..' in a table, as hex in CSV, and as {"$base64": true, "encoded": ...} in JSON,
    which sqlite-utils can read.
    """
    if as_json + as_nl + as_csv > 1:
        raise click.UsageError("Give only one of --json, --nl and --csv.")
    if schema + datasette + (sql is not None) != 1:
        raise click.UsageError('Give SQL, as lllm query "SELECT ...", or --schema, or --datasette.')
    if schema and as_csv:
        raise click.UsageError("The schema is printed as text, --json or --nl.")
    if sql == "-":
        sql = sys.stdin.read()
    with open_named(store) as opened, closing(_queried(opened)) as place:
        if datasette:
            place.show_datasette()
            return
        if schema:
            from lllm.cli.render.query_schema import show_schema

            show_schema(place.tables(timeout), as_json=as_json, as_nl=as_nl)
            return
        from lllm.cli.render import query_rows

        with closing(_run_query(place, sql or "", parameters, timeout)) as rows:
            if as_json or as_nl:
                count = query_rows.print_json(rows, limit, lines=as_nl)
            elif as_csv:
                count = query_rows.print_csv(rows, limit)
            else:
                count = query_rows.print_table(rows, _ROWS if limit is None else limit)
    if not count:
        raise Finding("The query has no rows.")


def _run_query(
    place: _File | _Server, sql: str, parameters: dict[str, str | int], timeout: float
) -> QueryRows:
    from lllm.events.errors import ConfigError

    try:
        return place.run(sql, parameters, timeout)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


class _File:
    """A store whose rows are in an SQLite file."""

    def __init__(self, store: LogStore) -> None:
        self._database = store.database()
        self.close = self._database.close

    def run(self, sql: str, parameters: dict[str, str | int], timeout: float) -> QueryRows:
        from lllm.store.query_timeout import TimedRows

        return TimedRows(self._database, sql, parameters, seconds=timeout)

    def tables(self, timeout: float) -> Sequence[TableInfo]:
        from lllm.cli.render.query_schema import tables_of

        return tables_of(self._database, timeout)

    def show_datasette(self) -> None:
        from lllm.cli.render.datasette import metadata
        from lllm.cli.render.json_text import show_json

        show_json(metadata(self._database))


class _Server:
    """A store in PostgreSQL."""

    def __init__(self, store: LogStore, server: ServerAddress) -> None:
        store.list_sessions(limit=1)  # brings the rows up to date
        self._server = server

    def run(self, sql: str, parameters: dict[str, str | int], timeout: float) -> QueryRows:
        from lllm.store.server_query import ServerRows

        return ServerRows(self._server, sql, parameters, seconds=timeout)

    def tables(self, timeout: float) -> Sequence[TableInfo]:
        from lllm.cli.render.server_schema import tables_of_server

        return tables_of_server(self._server, timeout)

    def show_datasette(self) -> None:
        raise click.UsageError(
            "Datasette shows SQLite files. `lllm backup copy.db` makes one of this store."
        )

    def close(self) -> None:
        """Do nothing: each query has a connection of its own."""


def _queried(store: LogStore) -> _File | _Server:
    from lllm.events.backend import OnServer

    if isinstance(store.backend, OnServer):
        return _Server(store, store.backend.server)
    return _File(store)
