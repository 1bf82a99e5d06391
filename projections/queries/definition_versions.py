"""Numbers the definitions of each agent in the order in which the log met them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from lllm.events.concurrency.decoders import warm_msgspec
from lllm.projections.database import RowsConnection
from lllm.projections.queries.rows import convert_rows
from lllm.projections.view import storable


@warm_msgspec
class DefinitionVersion(NamedTuple):
    """A definition among those of agents with the same name.

    Attributes:
        number: 1 for the first that the log met; erased ones are not counted.
        total: How many there are.
        time: When the log met it, nanoseconds UTC.
        position: The position of its event in the log.
        before: The stream of the version before it; None for the first.
    """

    number: int
    total: int
    time: int
    position: int
    before: str | None


def definition_versions(
    connection: RowsConnection, streams: Collection[str]
) -> dict[str, DefinitionVersion]:
    """Look up which version of its agent each definition is.

    Args:
        connection: A connection to the database of the rows.
        streams: The streams of the definitions.

    Returns:
        The versions, by stream; unknown definitions are left out.

    Raises:
        ViewError: A row is not as lllm writes it.
    """
    found: dict[str, DefinitionVersion] = {}
    for stream in streams:
        row = connection.execute(_VERSION, (storable(stream),)).fetchone()
        if row is not None:
            found[stream] = convert_rows(row, DefinitionVersion, "definitions")
    return found


_VERSION = (
    "SELECT (SELECT count(*) FROM definitions AS o"
    " WHERE o.name = d.name AND o.position <= d.position),"
    " (SELECT count(*) FROM definitions AS o WHERE o.name = d.name), d.time, d.position,"
    " (SELECT o.stream FROM definitions AS o WHERE o.name = d.name AND o.position < d.position"
    " ORDER BY o.position DESC LIMIT 1)"
    " FROM definitions AS d WHERE d.stream = ?"
)
