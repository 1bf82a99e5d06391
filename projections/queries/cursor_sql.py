"""Turns a cursor into SQL: the conditions with which the next page of a list begins behind it.

A cursor is the sort key of the last row on a page. So pages need no offset, and no row is missed
when rows are written between two pages.
"""

from __future__ import annotations

from lllm.projections.queries.selection import Selection
from lllm.projections.view import storable

StartCursor = tuple[int, str]  # a session's start, nanoseconds UTC, and its id
SortedCursor = tuple[int | str, int]  # the value by which sessions are sorted, and their number
# the sort value of a call, the number of its session, the number of its request
CallCursor = tuple[int, int, int]


def begin_behind_start(
    selection: Selection, cursor: StartCursor | None, *, oldest_first: bool = False
) -> None:
    """Leave out the sessions of earlier pages, in a list by start.

    Args:
        selection: The selection of sessions, whose rows are `s` in it; the condition is added to
            it.
        cursor: The cursor of the last session on the previous page; None for the first page.
        oldest_first: True if the list begins with the oldest session.
    """
    if cursor is not None:
        started, session_id = cursor
        sign = ">" if oldest_first else "<"
        selection.add(f"f.started {sign}= ?", started)
        selection.add(f"(f.started {sign} ? OR s.id {sign} ?)", started, storable(session_id))


def begin_behind_value(
    selection: Selection, cursor: SortedCursor | None, sorted_by: str, *, falling: bool
) -> None:
    """Leave out the sessions of earlier pages, in a list by another value than the start.

    Of equal values, the newer session comes first if the list is falling, else the older one.

    Args:
        selection: The selection of sessions; the condition is added to it.
        cursor: The cursor of the last session on the previous page; None for the first page.
        sorted_by: The SQL expression by which the list is sorted.
        falling: True if the largest value comes first.
    """
    if cursor is not None:
        value, number = cursor
        sign = "<" if falling else ">"
        where = f"({sorted_by}, f.session) {sign} (?, ?)"
        selection.add(where, storable(value) if isinstance(value, str) else value, number)


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
