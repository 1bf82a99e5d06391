"""Parses durations that a user gives."""

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
_MOST = 2**63 - 1  # what a row holds

Duration = str | float | dt.timedelta


def duration_nanoseconds(given: Duration) -> int:
    """Convert a duration that a user gives to nanoseconds.

    Args:
        given: Seconds, a timedelta, or a text as "500ms", "5s", "1.5 min" or "2h"; a text without
            a unit is seconds.

    Returns:
        Nanoseconds, at most what 8 bytes hold.

    Raises:
        TypeError: It is none of these.
        ValueError: It is negative, not finite, or a text that says no length of time.
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
