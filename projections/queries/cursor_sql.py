"""Turns a cursor into SQL: the conditions with which the next page of a list begins behind it.

A cursor is the sort key of the last row that was seen, so pages need no offset and miss nothing
that is written meanwhile.
"""

from __future__ import annotations

from lllm.projections.queries.session_filter_sql import Selection
from lllm.projections.view import storable

StartCursor = tuple[int, str]  # a session's start, nanoseconds UTC, and its id
CostCursor = tuple[int, int]  # a session's nano-dollars and its number
CallCursor = tuple[int, int, int]  # what calls are sorted by, the session's number, the request


def begin_behind_start(selection: Selection, cursor: StartCursor | None) -> None:
    """Leave out the sessions up to a cursor of a list by start.

    Args:
        selection: Of sessions; the row of each is `s` in it.
        cursor: None for the first page, which leaves nothing out.
    """
    if cursor is not None:
        started, session_id = cursor
        selection.add("f.started <= ?", started)
        selection.add("(f.started < ? OR s.id < ?)", started, storable(session_id))


def begin_behind_cost(selection: Selection, cursor: CostCursor | None) -> None:
    """Leave out the sessions up to a cursor of a list by cost.

    Args:
        selection: Of sessions; the totals of each are `t` in it.
        cursor: None for the first page, which leaves nothing out.
    """
    if cursor is not None:
        selection.add("(ifnull(t.cost_nanos, 0), f.session) < (?, ?)", *cursor)


def begin_behind_call(selection: Selection, cursor: CallCursor | None, sorted_by: str) -> None:
    """Leave out the calls up to a cursor of a list of calls.

    Args:
        selection: Of calls; the row of each is `c` in it.
        cursor: None for the first page, which leaves nothing out.
        sorted_by: The SQL of what the list is sorted by.
    """
    if cursor is not None:
        if sorted_by == "c.started":  # for the index, which a comparison of rows does not use
            selection.add("c.started <= ?", cursor[0])
        selection.add(f"({sorted_by}, c.session, c.request) < (?, ?, ?)", *cursor)
