"""Erases payloads of a log in PostgreSQL, and rewrites the tables that still have copies of them.

PostgreSQL does not overwrite a row: an UPDATE or a DELETE leaves it in the file, and a long value
in the TOAST table. A plain VACUUM marks the space as free, and the bytes stay until others take it.
Only VACUUM FULL, which writes the table anew, removes them. It locks the table for that time.

VACUUM FULL copies dead rows, too, as long as a transaction could see them that began before they
died. So this waits until there is no such transaction, and gives up after a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lllm.events.backends.postgres.binary_values import (
    BIGINT,
    BIGINT_ARRAY,
    BYTEA_ARRAY,
    TEXT,
    decode_bigint,
    encode_bigint,
    encode_bigints,
    encode_byte_strings,
)
from lllm.events.backends.postgres.connection import ServerConnection, Statement
from lllm.events.backends.postgres.errors import ServerRefused
from lllm.events.backends.postgres.old_snapshots import (
    NEXT_TRANSACTION,
    PAUSE,
    SNAPSHOT_SECONDS,
    held_back,
)
from lllm.events.backends.postgres.privileges import FunctionPrivilege
from lllm.events.backends.postgres.read_events import Ask
from lllm.events.envelope import Recorded
from lllm.events.errors import LogUnavailable

COPIES_ELSEWHERE = (
    "the server's write-ahead log and its archive, its standbys, and base backups",
    "log files of the server, if it writes statements with their parameters into them",
    "the server's statistics of columns (pg_statistic), unless lllm connects as a superuser or as "
    "the owner of the database: then `lllm vacuum` rewrites them, too",
)

_ANSWER_SECONDS = 60.0
_REWRITE_SECONDS = 7 * 86_400.0
_LOCK_SECONDS = 10  # to wait for a table; whoever wants to use it waits meanwhile
_LOCK_NOT_AVAILABLE, _UNDEFINED_FUNCTION = "55P03", "42883"  # SQLSTATEs

_TRANSACTION = Statement(NEXT_TRANSACTION)
_HELD_BACK = Statement(held_back("$1"), (TEXT,))


class PayloadEraser:
    """Erases payloads in one log.

    Args:
        schema: The name of the schema, quoted.
        shown: The log's URL for messages.
        ask: Executes a statement on any connection.
        connect: Makes a connection, until a time of the monotonic clock.
    """

    def __init__(
        self, schema: str, shown: str, ask: Ask, connect: Callable[[float], ServerConnection]
    ) -> None:
        self._schema = schema
        self._shown = shown
        self._ask = ask
        self._connect = connect
        self._erase = Statement(f"SELECT {schema}.erase($1, $2)", (BIGINT_ARRAY, BYTEA_ARRAY))
        self._privilege = FunctionPrivilege(schema, "erase", "bigint[],bytea[]", ask)
        self._tables = Statement(
            "SELECT max(number), relation::regclass::text, pg_total_relation_size(relation),"
            " pg_has_role(relowner, 'USAGE')"
            f" FROM {schema}.unvacuumed JOIN pg_class ON pg_class.oid = relation"
            " GROUP BY relation, relowner ORDER BY 1"
        )
        self._drop = Statement(f"SELECT {schema}.drop_partition($1::regclass)", (TEXT,))
        self._vacuumed = Statement(
            f"DELETE FROM {schema}.unvacuumed WHERE number <= $1 AND relation = $2::regclass",
            (BIGINT, TEXT),
        )

    def erase(self, erased: Sequence[Recorded]) -> None:
        """Erase the payloads of some events; see `ErasesPayloads.erase_payloads`.

        Args:
            erased: The events without their payloads, as `digest.erase` makes them.

        Raises:
            LogUnavailable: The server can't be reached, or the role may not erase.
        """
        if not erased:
            return
        positions = encode_bigints([one.position for one in erased])
        self._ask(self._erase, (positions, encode_byte_strings([one.data for one in erased])))

    def refusal(self) -> str | None:
        """Say why nothing can be erased with this role in these tables; None if it can.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        return self._privilege.refusal()

    def tables(self) -> Sequence[tuple[int, str, int, bool]]:
        """List the tables of payloads that have to be rewritten.

        Returns:
            For each, the number of the last note about it, its name in SQL, its size in bytes, and
            whether the role owns it.

        Raises:
            LogUnavailable: The server can't be reached, or the role may not read the notes.
        """
        found = self._ask(self._tables, ())
        return [
            (
                decode_bigint(found.get_value(row, 0) or b""),
                (found.get_value(row, 1) or b"").decode(),
                decode_bigint(found.get_value(row, 2) or b""),
                found.get_value(row, 3) == b"\x01",
            )
            for row in range(found.ntuples)
        ]

    def drop_emptied(self) -> None:
        """Drop the partitions in which next to nothing is left; see `RewritesTables`.

        A table of another owner, or one in use, is left for `vacuum`.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        for _, name, _, is_owner in self.tables():
            if is_owner:
                self._dropped(self._ask, name)

    def _dropped(self, ask: Ask, name: str) -> bool:
        try:
            return ask(self._drop, (name.encode(),)).get_value(0, 0) == b"\x01"
        except ServerRefused as error:
            if error.sqlstate in (_LOCK_NOT_AVAILABLE, _UNDEFINED_FUNCTION):
                return False
            raise

    def vacuum(self) -> bool:
        """Rewrite these tables; see `ErasesPayloads.vacuum`.

        Returns:
            False if a transaction is so old that the rewritten tables would have the texts, too, or
            if a table was in use for too long.

        Raises:
            LogUnavailable: The server can't be reached, has no space for a copy, or the role does
                not own a table.
        """
        tables = self.tables()
        for _, name, _, is_owner in tables:
            if not is_owner:
                raise LogUnavailable(
                    f"{self._shown}: the role that lllm connects as does not own the table {name}, "
                    f"so it may not rewrite it. Run `lllm vacuum` as its owner."
                )
        connection = self._connect(time.monotonic() + _ANSWER_SECONDS)
        try:
            if not _snapshots_ended(connection):
                return False
            connection.run(f"SET lock_timeout = '{_LOCK_SECONDS}s'", _soon())
            for number, name, _, _ in tables:
                if self._dropped(self._ask, name):
                    continue
                connection.run(f"VACUUM (FULL) {name}", time.monotonic() + _REWRITE_SECONDS)
                connection.execute(self._vacuumed, (encode_bigint(number), name.encode()), _soon())
        except ServerRefused as error:
            if error.sqlstate == _LOCK_NOT_AVAILABLE:
                return False
            raise
        finally:
            connection.close()
        return True


def _soon() -> float:
    return time.monotonic() + _ANSWER_SECONDS


def _snapshots_ended(connection: ServerConnection) -> bool:
    """Wait until no transaction can see what was erased before; False if that takes too long."""
    until = time.monotonic() + SNAPSHOT_SECONDS
    now = connection.execute(_TRANSACTION, (), _soon()).get_value(0, 0)
    while connection.execute(_HELD_BACK, (now,), _soon()).get_value(0, 0) == b"\x01":
        if time.monotonic() > until:
            return False
        time.sleep(PAUSE)
    return True
