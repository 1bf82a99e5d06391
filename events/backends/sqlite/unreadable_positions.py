"""Finds the positions of an SQLite log that can't be read, and the next readable one.

An unreadable page makes all its rows unreadable. The next readable position is found by trying
positions in steps that grow with the distance, so even a file without any readable page is done
after some 40,000 attempts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from lllm.events.errors import LogDamaged, LogError

_FINE = 1_024  # so many positions are tried one by one before the steps grow

# Errors that concern a part of a file and not all of it (https://sqlite.org/rescode.html).
# SQLITE_ERROR is raised if a name in the schema has changed.
_OF_A_PART = {
    sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_TOOBIG,
}  # fmt: skip


def of_a_part(error: LogError) -> LogError:
    """Return an error that concerns a part of a file; raise one that concerns the whole file.

    Args:
        error: The error that reading raised.

    Returns:
        The same error.

    Raises:
        LogError: The error concerns the whole file.
    """
    cause = error.__cause__
    code = getattr(cause, "sqlite_errorcode", None)
    if isinstance(cause, sqlite3.Error) and (code is None or code & 0xFF in _OF_A_PART):
        return error  # the error has no code if sqlite3 itself refuses a text that is not UTF-8
    raise error


def is_unreadable_page(error: LogError) -> bool:
    """True if SQLite failed on a damaged page.

    It is still unknown which positions of the log are affected, if any.

    Args:
        error: The error that reading raised.

    Returns:
        True for SQLite's errors of damaged or unreadable pages.
    """
    of_sqlite = isinstance(error.__cause__, sqlite3.DatabaseError | UnicodeDecodeError)
    return isinstance(error, LogDamaged) and error.position == 0 and of_sqlite


def steps_behind(distance: int) -> int:
    """Compute the step to the next position to try, which grows with the distance from the gap.

    Args:
        distance: The number of positions from the start of the gap.

    Returns:
        The step, in positions.
    """
    return 1 + max(0, distance) // _FINE


def end_of_gap(is_bad: Callable[[int], bool], first: int, upto: int) -> int:
    """Find the first position after a gap for which `is_bad` is false.

    Args:
        is_bad: A function that is true for a position that can't be read.
        first: A position that can't be read.
        upto: The last position of the log; no position after it is tried.

    Returns:
        The position; `upto` + 1 if all are unreadable.
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
        first: The first position of the range.
        last: The last position of the range, which may be the same.

    Returns:
        The text, as "positions 3 to 5 are".
    """
    return f"position {first} is" if first == last else f"positions {first} to {last} are"
