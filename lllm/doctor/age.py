"""Finds how old a store's content is, how much of it could be erased, and how fast it grows."""

from __future__ import annotations

import time

from lllm.doctor.facts import AgeFacts
from lllm.projections.database import RowsConnection

KEPT_DAYS = 183  # six months, which records of the kind are asked for at least
_DAY = 86_400 * 10**9  # nanoseconds
_LATELY = 7  # days over which growth is averaged

# A hold on a child session protects the whole tree.
_ROOTS = """FROM sessions AS s WHERE s.parent IS NULL AND s.erased IS NULL AND s.replays IS NULL"""
_HELD = """EXISTS (SELECT 1 FROM holds AS h JOIN sessions AS one ON one.number = h.session
           WHERE one.root = s.number)"""


def age_of(connection: RowsConnection, head: int, size: int | None) -> AgeFacts:
    """Read from the rows how old the content of a store is.

    Args:
        connection: A connection to the database of rows.
        head: The last position of the log.
        size: The size of the log, in bytes; None if it is not known.
    """
    now = time.time_ns()
    oldest = connection.execute(f"SELECT min(s.started) {_ROOTS}").fetchone()[0]
    before = now - KEPT_DAYS * _DAY
    older, held = connection.execute(
        f"SELECT count(*), count(CASE WHEN {_HELD} THEN 1 END) {_ROOTS} AND s.started < ?",
        (before,),
    ).fetchone()
    # Where in the log the last days begin; positions count events, or bytes.
    lately = now - _LATELY * _DAY
    first = connection.execute(
        f"SELECT min(s.number), min(s.started) {_ROOTS} AND s.started >= ?", (lately,)
    ).fetchone()
    growth = None
    if size is not None and head and first[0] is not None:
        began = oldest if oldest is not None and oldest > lately else lately
        days = max((now - began) / _DAY, 1.0)
        growth = round(size * (head - first[0] + 1) / head / days)
    return AgeFacts(oldest=oldest, older=int(older), held=int(held), growth=growth)
