"""Turns a cursor into SQL: the conditions with which the next page of a list begins behind it.

A cursor is the sort key of the last row on a page. So pages need no offset, and no row is missed
when rows are written between two pages.
"""

from __future__ import annotations

from lllm.projections.queries.session_filter_sql import Selection
from lllm.projections.view import storable

StartCursor = tuple[int, str]  # a session's start, nanoseconds UTC, and its id
CostCursor = tuple[int, int]  # a session's nano-dollars and its number
# the sort value of a call, the number of its session, the number of its request
CallCursor = tuple[int, int, int]


def begin_behind_start(selection: Selection, cursor: StartCursor | None) -> None:
    """Leave out the sessions of earlier pages, in a list by start.

    Args:
        selection: The selection of sessions, whose rows are `s` in it; the condition is added to
            it.
        cursor: The cursor of the last session on the previous page; None for the first page.
    """
    if cursor is not None:
        started, session_id = cursor
        selection.add("f.started <= ?", started)
        selection.add("(f.started < ? OR s.id < ?)", started, storable(session_id))


def begin_behind_cost(selection: Selection, cursor: CostCursor | None) -> None:
    """Leave out the sessions of earlier pages, in a list by cost.

    Args:
        selection: The selection of sessions, whose totals are `t` in it; the condition is added to
            it.
        cursor: The cursor of the last session on the previous page; None for the first page.
    """
    if cursor is not None:
        selection.add("(coalesce(t.cost_nanos, 0), f.session) < (?, ?)", *cursor)


def begin_behind_call(selection: Selection, cursor: CallCursor | None, sorted_by: str) -> None:
    """Leave out the calls of earlier pages, in a list of calls.

    Args:
        selection: The selection of calls, whose rows are `c` in it; the condition is added to it.
        cursor: The cursor of the last call on the previous page; None for the first page.
        sorted_by: The SQL expression by which the list is sorted.
    """
    if cursor is not None:
        # allows the use of the index, which a comparison of row values does not
        if sorted_by == "c.started":
            selection.add("c.started <= ?", cursor[0])
        selection.add(f"({sorted_by}, c.session, c.request) < (?, ?, ?)", *cursor)
