"""Finds the positions of an SQLite log that can't be read, and the next one that can.

A page that can't be read takes its rows with it. Where the next one begins is found by trying one
position after another, in steps that grow with the distance, so that even a file without a single
readable page is done after some 40,000 tries.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from lllm.events.errors import LogDamaged, LogError

_FINE = 1_024  # positions tried one by one before the steps grow

# What keeps a part of a file from being read, as opposed to the whole (https://sqlite.org/rescode.html).
# SQLITE_ERROR is what a schema brings in which a name has changed.
_OF_A_PART = {
    sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_TOOBIG,
}  # fmt: skip


def of_a_part(error: LogError) -> LogError:
    """Return an error that concerns a part of a file; raise one that concerns the whole file.

    Args:
        error: What reading raised.
    """
    cause = error.__cause__
    code = getattr(cause, "sqlite_errorcode", None)
    if isinstance(cause, sqlite3.Error) and (code is None or code & 0xFF in _OF_A_PART):
        return error  # without a code where sqlite3 itself refuses a text that is no UTF-8
    raise error


def is_unreadable_page(error: LogError) -> bool:
    """True if SQLite failed on a damaged page.

    Nobody knows yet which positions of the log that concerns, if any.

    Args:
        error: What reading raised.
    """
    of_sqlite = isinstance(error.__cause__, sqlite3.DatabaseError | UnicodeDecodeError)
    return isinstance(error, LogDamaged) and error.position == 0 and of_sqlite


def steps_behind(distance: int) -> int:
    """The step to the next position to try, which grows with the distance from the gap's start.

    Args:
        distance: In positions.
    """
    return 1 + max(0, distance) // _FINE


def end_of_gap(is_bad: Callable[[int], bool], first: int, upto: int) -> int:
    """Find the first position after a gap for which `is_bad` is false.

    Args:
        is_bad: Whether a position can't be read.
        first: One that can't.
        upto: The last position of the log; behind it nothing is tried.
    """
    bad, good = first, first + 1
    while good <= upto and is_bad(good):
        bad, good = good, good + steps_behind(good - first)
    good = min(good, upto + 1)
    while good - bad > 1:
        middle = (good + bad) // 2
        if is_bad(middle):
            bad = middle
        else:
            good = middle
    return good


def positions(first: int, last: int) -> str:
    """Format a range of positions as the beginning of a sentence.

    Args:
        first: The first of them.
        last: The last of them, which may be the same.
    """
    return f"position {first} is" if first == last else f"positions {first} to {last} are"
