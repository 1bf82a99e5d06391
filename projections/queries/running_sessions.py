"""Lists the sessions that have not ended, and the processes that write them."""

from __future__ import annotations

from typing import NamedTuple

from lllm.events.concurrency.decoders import warm_msgspec
from lllm.projections.database import RowsConnection
from lllm.projections.queries.rows import convert_rows


@warm_msgspec
class Running(NamedTuple):
    """A session that has not ended, and the process that writes it.

    Attributes:
        id: The session's id.
        number: The position of its first event.
        owner: The name of the lock that the process holds.
        host: The machine that the process runs on.
        started: The start of the session, nanoseconds UTC.
    """

    id: str
    number: int
    owner: str
    host: str
    started: int


def running(connection: RowsConnection) -> list[Running]:
    """List the sessions that have not ended.

    Args:
        connection: A connection to the database of the rows.

    Returns:
        Root and child sessions that are running.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    rows = connection.execute(
        "SELECT s.id, s.number, r.owner, r.host, s.started FROM running AS r"
        " CROSS JOIN sessions AS s ON s.number = r.session"
    )
    return convert_rows(rows.fetchall(), list[Running], "running")
