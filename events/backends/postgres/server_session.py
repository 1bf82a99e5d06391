"""Makes connections to a log in PostgreSQL, checks the server, and makes the tables of the log."""

from __future__ import annotations

import time

from lllm.events.backends.postgres import schema as tables
from lllm.events.backends.postgres.binary_values import TEXT, decode_bigint
from lllm.events.backends.postgres.connection import ServerConnection, Statement
from lllm.events.backends.postgres.errors import NO_PRIVILEGE, ServerRefused
from lllm.events.backends.postgres.server_url import ServerURL
from lllm.events.errors import LogError, LogTooNew, LogUnavailable

_OLDEST = 140_000  # PostgreSQL 14, which has CREATE OR REPLACE TRIGGER
_MAKING_SECONDS = 30.0
MAKING_LOCK = 0x6C6C_6C6D  # the key of the advisory lock under which tables are made
_LOCKED = f"SELECT pg_advisory_xact_lock({MAKING_LOCK}, hashtext('lllm'));"

# A commit that the server acknowledges before it is on the disk would break the log's promise.
_ABOUT = Statement(
    "SELECT pg_backend_pid()::bigint, pg_is_in_recovery()::int::bigint,"
    " current_setting('server_version_num')::bigint, current_setting('server_encoding'),"
    " set_config('default_transaction_isolation', 'read committed', false),"
    " set_config('synchronous_commit',"
    " CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'"
    " ELSE current_setting('synchronous_commit') END, false)"
)
_SCHEMA_EXISTS = Statement("SELECT to_regnamespace($1) IS NOT NULL", (TEXT,))
_TABLE_EXISTS = Statement("SELECT to_regclass($1) IS NOT NULL", (TEXT,))

_IS_PARTITIONED = Statement(
    "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass($1)", (TEXT,)
)


class ServerSession:
    """Connects to the server of a log.

    Args:
        url: Where the log is.
        read_only: True to create nothing.
        partition_by: How the payloads are partitioned, if the tables are made; see `tables.ddl`.
    """

    def __init__(self, url: ServerURL, *, read_only: bool, partition_by: str | None = None) -> None:
        self._partition_by = partition_by
        self._url = url
        self._read_only = read_only
        self._quoted = tables.identifier(url.schema)
        literal = self._quoted.replace("'", "''")
        self._format = Statement(
            "SELECT max(version)::bigint,"
            f" (to_regclass('{literal}.archived_leaves') IS NOT NULL)::int::bigint"
            f" FROM {self._quoted}.format"
        )
        self._is_ready = False  # True if the tables were found, or made

    def connect(self, until: float) -> ServerConnection:
        """Make a connection, and the tables if they don't exist.

        Args:
            until: The time of the monotonic clock at which connecting fails.

        Returns:
            The connection.

        Raises:
            LogUnavailable: The server can't be reached, or is not one that can keep a log.
            LogTooNew: A newer lllm made the tables.
        """
        connection = self.connect_bare(until)
        try:
            if not self._is_ready:
                self._make_ready(connection, until)
                self._is_ready = True
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_bare(self, until: float) -> ServerConnection:
        """Make a connection, whether or not the tables exist.

        Args:
            until: The time of the monotonic clock at which connecting fails.

        Returns:
            The connection.

        Raises:
            LogUnavailable: The server can't be reached, or is not one that can keep a log.
        """
        connection = ServerConnection(self._url.conninfo, self._url.shown, until)
        try:
            self._check(connection, until)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: ServerConnection, until: float) -> None:
        found = connection.execute(_ABOUT, (), until)
        pid, in_recovery, version = (decode_bigint(found.get_value(0, n) or b"") for n in range(3))
        encoding = (found.get_value(0, 3) or b"").decode()
        shown = self._url.shown
        if pid != connection.backend_pid():
            raise LogError(
                f"{shown} leads to a connection pooler, such as PgBouncer, not to the server. In "
                "its transaction and statement modes, locks and notifications would get lost; "
                "since nothing tells which mode it has, its session mode is refused, too. Give "
                "lllm the address of the PostgreSQL server itself."
            )
        if version < _OLDEST:
            raise LogError(f"{shown} is PostgreSQL {version // 10_000}; lllm needs 14 or newer.")
        if in_recovery:
            raise LogUnavailable(
                f"{shown} is a standby, which can't tell what is being written to the primary. "
                "Give lllm the primary; with several hosts in the URL, add "
                "target_session_attrs=read-write."
            )
        if encoding != "UTF8":
            raise LogError(
                f"{shown} is a database with the encoding {encoding}; lllm needs one with UTF8: "
                "CREATE DATABASE logs ENCODING 'UTF8' TEMPLATE template0."
            )

    def exists(self, connection: ServerConnection, until: float) -> bool:
        """True if the tables of the log exist.

        Args:
            connection: A connection to the server.
            until: The time of the monotonic clock at which the connection is given up.

        Returns:
            False if there is no schema of that name, or no log in it.
        """
        if not self._schema_exists(connection, until):
            return False
        table = f"{self._quoted}.format".encode()
        found = connection.execute(_TABLE_EXISTS, (table,), until)
        return found.get_value(0, 0) == b"\x01"

    def _schema_exists(self, connection: ServerConnection, until: float) -> bool:
        found = connection.execute(_SCHEMA_EXISTS, (self._quoted.encode(),), until)
        return found.get_value(0, 0) == b"\x01"

    def _make_ready(self, connection: ServerConnection, until: float) -> None:
        if not self.exists(connection, until):
            if self._read_only:
                raise LogUnavailable(f"There is no log in {self._url.shown} to be read.")
            self._make(connection)
        elif self._partition_by is not None:
            self._check_partitions(connection, until)
        found = connection.execute(self._format, (), until)
        version, complete = (decode_bigint(found.get_value(0, n) or b"") for n in range(2))
        if version > tables.NEWEST_FORMAT:
            raise LogTooNew(
                f"{self._url.shown} has the format {version}, written by a newer lllm; this "
                f"version reads up to {tables.NEWEST_FORMAT}. Install the newer lllm."
            )
        if not complete and not self._read_only:
            self._bring_up_to_date(connection)

    def _bring_up_to_date(self, connection: ServerConnection) -> None:
        """Add what this version's tables have more than those of an earlier one.

        Only the owner may. For other roles, the log works as before, and what needs the new tables
        says so.
        """
        until = time.monotonic() + _MAKING_SECONDS
        script = _LOCKED + tables.table_statements(self._url.schema, self._partition_by)
        try:
            connection.run(script, until)
        except ServerRefused as error:
            if error.sqlstate != NO_PRIVILEGE:
                raise

    def _check_partitions(self, connection: ServerConnection, until: float) -> None:
        table = f"{self._quoted}.payloads".encode()
        if connection.execute(_IS_PARTITIONED, (table,), until).get_value(0, 0) != b"\x01":
            raise LogError(
                f"{self._url.shown} was made without partition_by, so its payloads are one table. "
                "Make a log in another schema with it, and move the sessions there with "
                "`lllm import`."
            )

    def _make(self, connection: ServerConnection) -> None:
        script = _LOCKED
        until = time.monotonic() + _MAKING_SECONDS
        if self._schema_exists(connection, until):  # making a schema needs a privilege of its own
            script += tables.table_statements(self._url.schema, self._partition_by)
        else:
            script += tables.ddl(self._url.schema, self._partition_by)
        try:
            connection.run(script, until)
        except ServerRefused as error:
            if error.sqlstate != NO_PRIVILEGE:
                raise
            raise LogUnavailable(
                f"There is no log in {self._url.shown}, and the role that lllm connects as may "
                f"not make one. `lllm schema --postgres` prints what an administrator runs. {error}"
            ) from None
