"""Declares SQL views for people who read the rows: with ISO times, milliseconds and dollars.

They select from the plain names of the tables, which refer to the generation that is shown. So they
change over with it when the rows were rebuilt. They are made in SQLite files, which Datasette
(https://datasette.io) and other programs open, and in PostgreSQL, where times are timestamptz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec


class ReadableView(msgspec.Struct, frozen=True, kw_only=True):
    """An SQL view that is made for people.

    Attributes:
        name: The name of the SQL view.
        select: The SELECT that it stands for, in the SQL of SQLite.
        about: A sentence on its purpose.
        columns: What a column has, by its name, where the name does not say it.
        needs: A table without which the view is not made in SQLite; "" for none.
        postgres: The SELECT in PostgreSQL, with `iso_time` for times as in SQLite; "" for the same.
    """

    name: str
    select: str
    about: str
    columns: Mapping[str, str] = {}
    needs: str = ""
    postgres: str = ""


def readable_views_of(view: object) -> Sequence[ReadableView]:
    """List the SQL views for people that belong to a view of the log.

    Args:
        view: A `View`; most have none.

    Returns:
        The value of its attribute `readable`.
    """
    found: Sequence[ReadableView] = getattr(view, "readable", ())
    return found


def iso_time(nanoseconds: str) -> str:
    """Make the SQL for a time as ISO 8601 in UTC, as 2026-01-31T18:00:00.000Z.

    Args:
        nanoseconds: The SQL for the time in nanoseconds since 1970.
    """
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {nanoseconds} / 1e9, 'unixepoch')"


def milliseconds(nanoseconds: str) -> str:
    """Make the SQL for a duration in milliseconds.

    Args:
        nanoseconds: The SQL for the duration in nanoseconds.
    """
    return f"round({nanoseconds} / 1e6, 3)"


def known_dollars(nanos: str, unpriced: str) -> str:
    """Make the SQL for an amount in US dollars; NULL if no part of it is known.

    Args:
        nanos: The SQL for the amount in nano-dollars.
        unpriced: The SQL for the number of calls without a price.
    """
    return f"CASE WHEN {unpriced} = 0 OR {nanos} > 0 THEN {nanos} / 1e9 END"
