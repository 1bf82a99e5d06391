"""Parses durations, and times in the past such as "7d" ago, as users write them."""

from __future__ import annotations

import datetime as dt
import math
import re

_NANOSECONDS = {
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|)\s*", re.ASCII)
_MOST = 2**63 - 1  # the largest integer of SQLite
_AGO = re.compile(r"(?:[0-9]+[smhdw])+", re.ASCII)
_PART = re.compile(r"([0-9]+)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_DAYS = {"d": 1, "w": 7}

Duration = str | float | dt.timedelta


def duration_nanoseconds(given: Duration) -> int:
    """Convert a duration that a user gives to nanoseconds.

    Args:
        given: Seconds, a timedelta, or a text such as "500ms", "5s", "1.5 min" or "2h"; a text
            without a unit is seconds.

    Returns:
        Nanoseconds, at most 2**63 - 1.

    Raises:
        TypeError: The value has another type.
        ValueError: The value is negative or not finite, or the text is not a duration.
    """
    if isinstance(given, dt.timedelta):
        found: float = given // dt.timedelta(microseconds=1) * 1_000
    elif isinstance(given, int | float) and not isinstance(given, bool):
        found = given * 1_000_000_000
    elif isinstance(given, str):
        written = _WRITTEN.fullmatch(given)
        if written is None:
            raise ValueError(f"a duration is written as 5s, 500ms, 2min or 1h; not {given!r}")
        found = float(written[1]) * _NANOSECONDS[written[2] or "s"]
    else:
        raise TypeError(f"a duration is seconds, a text or a timedelta, not {given!r}")
    if not 0 <= found < math.inf:
        raise ValueError(f"a duration is a positive length of time, not {given!r}")
    return min(round(found), _MOST)


def ago(text: str, zone: dt.tzinfo, at: dt.datetime) -> dt.datetime | None:
    """Find the time that lies a given time before the present.

    Args:
        text: "12h", "30m" or "90s" ago, to the second; or "7d" or "2w" ago, which is the same time
            of day even if clocks have changed since; or several of these, such as "1d12h".
        zone: The time zone of the days.
        at: The present, an aware datetime.

    Returns:
        An aware datetime; None if the text does not have this form.

    Raises:
        OverflowError: The time is before the year 1.
    """
    if not _AGO.fullmatch(text):
        return None
    parts = _PART.findall(text)
    days = sum(int(number) * _DAYS.get(unit, 0) for number, unit in parts)
    seconds = sum(int(number) * _SECONDS.get(unit, 0) for number, unit in parts)
    if days:
        clock = at.astimezone(zone).replace(tzinfo=None, fold=0)
        at = (clock - dt.timedelta(days=days)).replace(tzinfo=zone)
    return at.astimezone(dt.UTC) - dt.timedelta(seconds=seconds)
