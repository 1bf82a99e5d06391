"""Parses and formats times for people.

The log and all outputs for programs count nanoseconds UTC. This module converts between these and
times for people: it parses `7d`, `today` and `2026-01-31 18:00`, and formats a time in a zone. One
rule holds everywhere: a time without an offset, whether text, `datetime` or `date`, is in the
requested zone. That is UTC in Python unless `tz=` names another, and the local zone on the command
line unless `--utc` or `--tz` is given.

A day lasts from midnight to midnight in its zone, so it has 23 or 25 hours when clocks change. A
time that occurs twice means its first occurrence. A time that is skipped is read with the offset
before the change, so it is that much later (https://peps.python.org/pep-0495/).
"""

from __future__ import annotations

import datetime as dt
import re

from lllm.durations import ago
from lllm.time_zones import zone_of

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LAST = 2**63 - 1  # the largest number of nanoseconds in 8 bytes
# Python accepts any character in place of the T, even the sign of an offset.
_ISO = re.compile(r"[0-9W-]+(?:[T ].*)?", re.ASCII)
# An offset after a time, as in "18:00 UTC" and "18:00 UTC+01:00"; Python reads "18:00+01:00".
_NAMED_OFFSET = re.compile(r"(?<=[0-9])\s*(?:UTC|Z)?\s*([+-][0-9]{2}:[0-9]{2})$")
_EXAMPLES = "7d, 12h, 30m, 2w, today, yesterday, now, 2026-01-31 or 2026-01-31T18:00+01:00"

Moment = str | dt.date  # datetime is a subclass of date


def now() -> dt.datetime:
    """Get the current time, to which relative times such as `7d` refer."""
    return dt.datetime.now(dt.UTC)


# -- parsing


def parse_time(
    text: str, zone: dt.tzinfo = dt.UTC, *, at: dt.datetime | None = None
) -> dt.datetime:
    """Parse a time as people write it.

    Args:
        text: `now`; `today` or `yesterday`, which mean the midnight at the start of the day; `12h`,
            `30m` or `90s` ago, to the second; `7d` or `2w` ago, which is the same time of day even
            if clocks have changed since; several of these, such as `1d12h`; or a date or time in
            ISO 8601, with an offset or in `zone`.
        zone: The time zone of days, and of times without an offset.
        at: The present, an aware datetime; None for the current time.

    Returns:
        An aware datetime, in UTC.

    Raises:
        ValueError: The text is not a time, or the time is before the year 1 or after 9999.
    """
    try:
        return _parsed(text.strip(), zone, now() if at is None else at).astimezone(dt.UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is before the year 1 or after 9999.") from None


def _parsed(text: str, zone: dt.tzinfo, at: dt.datetime) -> dt.datetime:
    word = text.lower()
    if word == "now":
        return at
    if word in ("today", "yesterday"):
        today = at.astimezone(zone).date()
        return midnight(today - dt.timedelta(days=word == "yesterday"), zone)
    before = ago(word, zone, at)
    if before is not None:
        return before
    try:
        if _ISO.fullmatch(text) is None:
            raise ValueError(text)
        moment = dt.datetime.fromisoformat(_python_iso(text))
    except ValueError:
        raise ValueError(f"{text!r} is not a time; write it as {_EXAMPLES}.") from None
    return in_zone(moment, zone)


def _python_iso(text: str) -> str:
    if text.upper().endswith("UTC") and ":" in text:
        return text[:-3].rstrip() + "+00:00"
    return _NAMED_OFFSET.sub(r"\1", text) if ":" in text else text


def midnight(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    """Find the moment at which a day begins, even if clocks skip midnight.

    Args:
        day: The day.
        zone: The time zone of the day.

    Returns:
        An aware datetime in the zone.
    """
    return dt.datetime.combine(day, dt.time(), zone)


def in_zone(moment: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """Make a datetime aware.

    Args:
        moment: The datetime; without an offset, it is in the zone.
        zone: The time zone.

    Returns:
        The same moment, aware.
    """
    return moment.replace(tzinfo=zone) if moment.utcoffset() is None else moment


def nanoseconds_of(
    moment: Moment, tz: str | dt.tzinfo = dt.UTC, *, at: dt.datetime | None = None
) -> int:
    """Convert a time given by a program or a person to nanoseconds UTC.

    Args:
        moment: A datetime; a date, which means its midnight; or a text for `parse_time`.
        tz: The time zone of times without an offset; see `zone_of`.
        at: The present, for texts such as "7d"; None for the current time.

    Returns:
        Nanoseconds UTC. A moment before 1677 or after 2262, which no log can hold, gives the
        nearest possible number.

    Raises:
        TypeError: The moment has another type.
        ValueError: The text is not a time, or there is no such zone.
    """
    zone = zone_of(tz)
    if isinstance(moment, str):
        aware = parse_time(moment, zone, at=at)
    elif isinstance(moment, dt.datetime):
        aware = in_zone(moment, zone)
    elif isinstance(moment, dt.date):
        aware = midnight(moment, zone)
    else:
        raise TypeError(f"a moment is a datetime, a date or a text as '7d', not {moment!r}")
    return max(-_LAST, min((aware - _EPOCH) // dt.timedelta(microseconds=1) * 1_000, _LAST))


# -- formatting


def datetime_of(nanoseconds: int, zone: dt.tzinfo = dt.UTC) -> dt.datetime:
    """Convert nanoseconds UTC to an aware datetime, to the microsecond.

    Args:
        nanoseconds: Nanoseconds since 1970, UTC.
        zone: The time zone of the datetime.

    Returns:
        An aware datetime in the zone.

    Raises:
        OverflowError: The time is before the year 1 or after 9999.
    """
    moment = _EPOCH + dt.timedelta(microseconds=nanoseconds // 1_000)
    return moment if zone is dt.UTC else moment.astimezone(zone)


def offset_of(moment: dt.datetime) -> str:
    """Format the UTC offset of an aware datetime for a heading.

    Args:
        moment: An aware datetime.

    Returns:
        A text such as "UTC" or "UTC+05:30".
    """
    return "UTC" if not moment.utcoffset() else f"UTC{suffix_of(moment)}"


def suffix_of(moment: dt.datetime, *, utc: str = " UTC") -> str:
    """Format the UTC offset of an aware datetime to follow a time; `parse_time` accepts it.

    Args:
        moment: An aware datetime.
        utc: The text to use for UTC.

    Returns:
        A text such as "+05:30".
    """
    if not moment.utcoffset():
        return utc
    offset = f"{moment:%z}"
    return f"{offset[:3]}:{offset[3:5]}"


def shown_time(moment: dt.datetime, zone: dt.tzinfo, *, seconds: bool = False) -> str:
    """Format a time in a zone, without its offset; see `suffix_of`.

    Args:
        moment: An aware datetime.
        zone: The time zone in which it is shown.
        seconds: True to show seconds.

    Returns:
        A text such as "2026-01-31 18:00".
    """
    form = "%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M"
    return moment.astimezone(zone).strftime(form)
