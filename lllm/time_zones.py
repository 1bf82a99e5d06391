"""Finds time zones by name: UTC, local, `Europe/Berlin`, +05:30."""

from __future__ import annotations

import datetime as dt
import re
import time
import zoneinfo
from typing import Final

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIXED = re.compile(r"(?:UTC)?([+-])([0-9]{2}):([0-9]{2})")


class _Local(dt.tzinfo):
    """The local time zone, of this machine or of the variable TZ.

    The zone that `datetime.astimezone()` returns has only the offset of one moment.
    """

    def utcoffset(self, moment: dt.datetime | None) -> dt.timedelta | None:
        """Get the UTC offset at a moment; see datetime.tzinfo."""
        if moment is None:
            return None
        naive = moment.replace(tzinfo=None, microsecond=0)
        try:  # astimezone() uses the other offset for a time that clocks skip
            utc = dt.timedelta(seconds=naive.timestamp())
            return naive - _EPOCH.replace(tzinfo=None) - utc
        except (ValueError, OverflowError, OSError):  # beyond the years that the machine supports
            return dt.timedelta(seconds=-time.timezone)

    def dst(self, moment: dt.datetime | None) -> dt.timedelta | None:
        """Get the daylight saving offset; lllm does not use it."""
        del moment
        return None

    def tzname(self, moment: dt.datetime | None) -> str:
        """Get the names of the zone's offsets, such as "CET/CEST"; some have numbers as names."""
        del moment
        names = dict.fromkeys(time.tzname)
        return "/".join(f"UTC{name}" if name[:1] in "+-" else name for name in names)

    def fromutc(self, moment: dt.datetime) -> dt.datetime:
        """Convert a UTC time to local time; see datetime.tzinfo."""
        utc = moment.replace(tzinfo=dt.UTC)
        try:
            there = utc.astimezone().replace(tzinfo=self)
        except (ValueError, OverflowError, OSError):
            return moment - dt.timedelta(seconds=time.timezone)
        return there if there - _EPOCH == utc - _EPOCH else there.replace(fold=1)

    def __repr__(self) -> str:
        return "LOCAL"

    def __reduce__(self) -> str:
        return "LOCAL"


LOCAL: Final = _Local()


def local_zone() -> dt.tzinfo:
    """Get the local time zone; UTC itself where this machine's zone is UTC.

    The costs of days in UTC are kept as sums, and those of other zones are summed when asked for.
    """
    is_utc = set(time.tzname) == {"UTC"} and time.timezone == 0 and not time.daylight
    return dt.UTC if is_utc else LOCAL


def zone_of(tz: str | dt.tzinfo) -> dt.tzinfo:
    """Find a time zone by its name.

    Args:
        tz: A name of the IANA database such as "Europe/Berlin", "UTC", "local", an offset such as
            "+05:30", or a tzinfo, which is returned unchanged.

    Returns:
        The time zone.

    Raises:
        TypeError: `tz` is neither a text nor a tzinfo.
        ValueError: There is no such zone; the message says what to do.
    """
    if isinstance(tz, dt.tzinfo):
        return tz
    if not isinstance(tz, str):
        raise TypeError(f"A time zone is a name as 'Europe/Berlin' or a tzinfo, not {tz!r}")
    if tz.upper() in ("UTC", "Z"):
        return dt.UTC
    if tz.lower() == "local":
        return LOCAL
    fixed = _FIXED.fullmatch(tz)
    if fixed is not None:
        return _fixed(tz, *fixed.groups())
    try:
        return zoneinfo.ZoneInfo(tz)
    # OSError: the name of a folder in the database, such as "Europe"
    except (KeyError, ValueError, OSError):
        raise _no_zone(tz) from None


def _fixed(text: str, sign: str, hours: str, minutes: str) -> dt.tzinfo:
    offset = dt.timedelta(hours=int(hours), minutes=int(minutes))
    if offset >= dt.timedelta(days=1) or int(minutes) > 59:
        raise ValueError(f"No offset is {text}: write it as +05:30, below 24 hours.")
    return dt.timezone(-offset if sign == "-" else offset)


def _no_zone(name: str) -> ValueError:
    from difflib import get_close_matches

    known = zoneinfo.available_timezones()
    if not known:
        return ValueError(
            f"There is no time zone {name!r} here, because this machine has no database of time "
            "zones: install one with `pip install tzdata`, or use UTC, local or an offset as "
            "+05:30."
        )
    near = get_close_matches(name, known, 3, 0.7)
    like = ", ".join(near) if near else "Europe/Berlin"
    return ValueError(
        f"There is no time zone {name!r}. Use a name of the IANA database, as {like}; or UTC, "
        "local or an offset as +05:30. `pip install tzdata` brings the newest database."
    )


def zone_name(zone: dt.tzinfo) -> str:
    """Get the name of a time zone for people.

    Args:
        zone: The time zone.

    Returns:
        A name such as "UTC" or "Europe/Berlin", or "CET/CEST" for the local zone.
    """
    if zone is LOCAL:
        return LOCAL.tzname(None)
    key: object = getattr(zone, "key", None)
    return key if isinstance(key, str) else str(zone)
