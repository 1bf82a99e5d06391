"""Finds the day of a point in time, in any time zone.

Costs are stored by the quarter of an hour in UTC. Every offset from UTC that is in use is a
multiple of a quarter (Asia/Kathmandu has +05:45), so the days of every zone are sums of whole
quarters. Hours would not do: midnight in Asia/Kolkata divides one. Some zones had other offsets
long ago, and a program may define such a zone. If a day of the zone begins within a quarter that
has costs, `DaysOfQuarters.divided` is True, and the sums are made from the events.
"""

from __future__ import annotations

import datetime as dt

from lllm.projections.database import Value

QUARTER_HOUR = 900_000_000_000  # nanoseconds
_DAY = 86_400_000_000_000
_MICROSECOND = dt.timedelta(microseconds=1)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIRST = (dt.datetime(1, 1, 3, tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(days=1) * _DAY
_LAST = (dt.datetime(9999, 12, 29, tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(days=1) * _DAY


def day_of(time: int, zone: dt.tzinfo = dt.UTC) -> int:
    """Find the day of a time.

    Args:
        time: The time, nanoseconds UTC.
        zone: The time zone in which the day is counted.

    Returns:
        The day as the number YYYYMMDD. For a time that no calendar has, from a wrong clock, the
        nearest possible day.
    """
    if zone is dt.UTC:
        number = _utc_days.get(time // _DAY)
        if number is None:
            number = _utc_days[time // _DAY] = _day_number(time, zone)
        return number
    return _day_number(time, zone)


_utc_days: dict[int, int] = {}


def _day_number(time: int, zone: dt.tzinfo) -> int:
    there = local_time(time, zone)
    return there.year * 10_000 + there.month * 100 + there.day


def local_time(time: int, zone: dt.tzinfo) -> dt.datetime:
    """Convert a time to a datetime of a time zone, for days and hours.

    Args:
        time: The time, nanoseconds UTC.
        zone: The time zone.

    Returns:
        An aware datetime in the zone. For a time that no calendar has, from a wrong clock, the
        nearest possible one.
    """
    microseconds = min(max(time, _FIRST), _LAST) // 1_000
    return (_EPOCH + dt.timedelta(microseconds=microseconds)).astimezone(zone)


def quarter_of(time: int) -> int:
    """Find the quarter of an hour of a time.

    Args:
        time: The time, nanoseconds UTC.

    Returns:
        The number of the quarter, counted from 1970-01-01 UTC.
    """
    return time // QUARTER_HOUR


class DaysOfQuarters(dict[Value, Value]):
    """Finds the day of a quarter of an hour, by the number of the quarter.

    Args:
        zone: The time zone in which days are counted.

    Attributes:
        divided: True if a day began in the middle of a quarter that was looked up.
    """

    def __init__(self, zone: dt.tzinfo) -> None:
        super().__init__()
        self._zone = zone
        self._offsets: dict[int, int | None] = {}
        self.divided = False

    def __missing__(self, quarter: Value) -> Value:
        if not isinstance(quarter, int):
            return quarter  # lllm never writes such a row
        first, last = quarter * QUARTER_HOUR, (quarter + 1) * QUARTER_HOUR - 1
        offset = self._offset(first // _DAY)
        if offset is None:
            days = [day_of(time, self._zone) for time in (first, last)]
        else:
            days = [day_of(time + offset) for time in (first, last)]
        self.divided |= days[0] != days[1]
        self[quarter] = days[0]
        return days[0]

    def _offset(self, utc_day: int) -> int | None:
        """Find the zone's offset throughout a UTC day, in nanoseconds; None if it changes that day.

        Checking it twice a day is much faster than for each quarter, and no zone changes twice a
        day.
        """
        if utc_day not in self._offsets:
            ends = (utc_day * _DAY, (utc_day + 1) * _DAY)
            start, end = (local_time(time, self._zone).utcoffset() for time in ends)
            if start is None or start != end:
                self._offsets[utc_day] = None
            else:
                self._offsets[utc_day] = start // _MICROSECOND * 1_000
        return self._offsets[utc_day]


def day_text(day: object) -> str:
    """Format a day as YYYY-MM-DD.

    Args:
        day: The number YYYYMMDD; any other value, which lllm never writes, is shown as it is.

    Returns:
        The text.
    """
    if not isinstance(day, int):
        return str(day)
    return f"{day // 10_000:04}-{day // 100 % 100:02}-{day % 100:02}"
