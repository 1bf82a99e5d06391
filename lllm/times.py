"""Parses and formats times for people.

The log counts nanoseconds UTC, and so do all outputs for programs. Here is what lies between that
and people: what `7d`, `today` and `2026-01-31 18:00` mean, how a time is shown, and which zone
counts. One rule holds everywhere: a time that names no offset, be it a text, a `datetime` or a
`date`, is of the zone asked for. That is UTC in Python unless `tz=` says otherwise, and the local
zone on the command line unless `--utc` or `--tz` does.

A day goes from midnight to midnight of its zone, so that it has 23 or 25 hours where clocks change.
Of a time that comes twice, the first is meant; one that is skipped is read by the offset before the
change, and is as late after it (https://peps.python.org/pep-0495/).
"""

from __future__ import annotations

import datetime as dt
import re

from lllm.durations import ago
from lllm.time_zones import zone_of

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LAST = 2**63 - 1  # what 8 bytes hold, of nanoseconds
# Python takes any character for the T, also the sign of an offset.
_ISO = re.compile(r"[0-9W-]+(?:[T ].*)?", re.ASCII)
# What follows a time here, as "18:00 UTC" and "18:00 UTC+01:00"; Python reads "18:00+01:00".
_NAMED_OFFSET = re.compile(r"(?<=[0-9])\s*(?:UTC|Z)?\s*([+-][0-9]{2}:[0-9]{2})$")
_EXAMPLES = "7d, 12h, 30m, 2w, today, yesterday, now, 2026-01-31 or 2026-01-31T18:00+01:00"

Moment = str | dt.date  # of which datetime is a kind


def now() -> dt.datetime:
    """The current time, to which relative times such as `7d` refer."""
    return dt.datetime.now(dt.UTC)


# -- from people


def parse_time(
    text: str, zone: dt.tzinfo = dt.UTC, *, at: dt.datetime | None = None
) -> dt.datetime:
    """Parse a time as people write it.

    Args:
        text: `now`; `today` or `yesterday`, the midnight with which they begin; `12h`, `30m`,
            `90s`: so long ago, to the second; `7d`, `2w`: the same time of day so many days ago,
            also where clocks have changed since; several of these, as `1d12h`; or a date or time as
            ISO 8601 has them, with an offset or of the zone given.
        zone: Whose days and times are meant.
        at: The present, aware; None for the clock's.

    Returns:
        An aware datetime, in UTC.

    Raises:
        ValueError: It is no time, or one before the year 1 or after 9999.
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
        raise ValueError(f"{text!r} is no time; write it as {_EXAMPLES}.") from None
    return in_zone(moment, zone)


def _python_iso(text: str) -> str:
    if text.upper().endswith("UTC") and ":" in text:
        return text[:-3].rstrip() + "+00:00"
    return _NAMED_OFFSET.sub(r"\1", text) if ":" in text else text


def midnight(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    """Find the moment at which a day begins, also where clocks skip midnight.

    Args:
        day: The day.
        zone: Where.

    Returns:
        An aware datetime.
    """
    return dt.datetime.combine(day, dt.time(), zone)


def in_zone(moment: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """Make a datetime aware.

    Args:
        moment: One that names no offset is of the zone.
        zone: The zone.

    Returns:
        The same moment, aware.
    """
    return moment.replace(tzinfo=zone) if moment.utcoffset() is None else moment


def nanoseconds_of(
    moment: Moment, tz: str | dt.tzinfo = dt.UTC, *, at: dt.datetime | None = None
) -> int:
    """Convert a time given by a program or a person to nanoseconds UTC.

    Args:
        moment: A datetime; a date, for the midnight with which it begins; or what `parse_time`
            reads.
        tz: The zone of those that name no offset, see `zone_of`.
        at: The present, for texts as "7d"; None for the clock's.

    Returns:
        The nanoseconds. Moments that no log can hold, before 1677 and after 2262, are the nearest
        that one can.

    Raises:
        TypeError: It is none of these.
        ValueError: It is a text that is no time, or there is no such zone.
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


# -- to people


def datetime_of(nanoseconds: int, zone: dt.tzinfo = dt.UTC) -> dt.datetime:
    """Convert nanoseconds UTC to an aware datetime, to the microsecond.

    Args:
        nanoseconds: Since 1970.
        zone: Of the datetime.

    Returns:
        The datetime.

    Raises:
        OverflowError: It is before the year 1 or after 9999.
    """
    moment = _EPOCH + dt.timedelta(microseconds=nanoseconds // 1_000)
    return moment if zone is dt.UTC else moment.astimezone(zone)


def offset_of(moment: dt.datetime) -> str:
    """Format the UTC offset of an aware datetime for a heading.

    Args:
        moment: The moment.

    Returns:
        "UTC" or "UTC+05:30".
    """
    return "UTC" if not moment.utcoffset() else f"UTC{suffix_of(moment)}"


def suffix_of(moment: dt.datetime, *, utc: str = " UTC") -> str:
    """Format the UTC offset of an aware datetime to follow a time; `parse_time` accepts it.

    Args:
        moment: The moment.
        utc: What stands for UTC.

    Returns:
        As "+05:30".
    """
    if not moment.utcoffset():
        return utc
    offset = f"{moment:%z}"
    return f"{offset[:3]}:{offset[3:5]}"


def shown_time(moment: dt.datetime, zone: dt.tzinfo, *, seconds: bool = False) -> str:
    """Format a time in a zone, without its offset; see `suffix_of`.

    Args:
        moment: The moment.
        zone: The zone.
        seconds: With seconds.

    Returns:
        As "2026-01-31 18:00".
    """
    form = "%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M"
    return moment.astimezone(zone).strftime(form)
