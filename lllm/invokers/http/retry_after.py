"""Reads from a provider's headers how long to wait: by Retry-After, or by its rate limits.

Anthropic sends dates (https://platform.claude.com/docs/en/api/rate-limits#response-headers), OpenAI
and those that follow it send durations such as "6m0s"
(https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers).
"""

from __future__ import annotations

import datetime as dt
import math
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ANTHROPIC = ("requests", "tokens", "input-tokens", "output-tokens")
_OPENAI = ("requests", "tokens")
_SECOND = 1_000_000_000
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|us|ns|h|m|s)")


def wait_asked_for(status: int, headers: Mapping[str, str]) -> int | None:
    """Find how long the provider asks to wait before the next request.

    Args:
        status: The HTTP status of the answer; rate limits only count for a 429.
        headers: The headers of the answer, found without regard to case.

    Returns:
        Nanoseconds; None if the headers name no wait.
    """
    wait = retry_after(headers)
    if wait is None and status == 429:
        reset = reset_after(headers, now=dt.datetime.now(dt.UTC))
        wait = None if reset is None else _in_bounds(reset * _SECOND)
    return wait


def retry_after(headers: Mapping[str, str], *, now: dt.datetime | None = None) -> int | None:
    """Read the wait that the provider asks for in Retry-After.

    Retry-After is a number of seconds or a date (RFC 9110, section 10.2.3). OpenAI's retry-after-ms
    is more precise, and comes first.

    Args:
        headers: The headers of the answer, found without regard to case.
        now: The time from which a date is counted; None for the current time.

    Returns:
        Nanoseconds; None if the headers name no wait.
    """
    for name, unit in (("retry-after-ms", _SECOND // 1000), ("retry-after", _SECOND)):
        try:
            wait = float(headers.get(name, ""))
        except ValueError:
            continue
        if math.isfinite(wait) and wait >= 0:
            return _in_bounds(wait * unit)
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    if date.tzinfo is None:  # the offset "-0000", which means UTC by RFC 5322
        date = date.replace(tzinfo=dt.UTC)
    wait = (date - (now or dt.datetime.now(dt.UTC))).total_seconds()
    return _in_bounds(max(0.0, wait * _SECOND))


def reset_after(headers: Mapping[str, str], *, now: dt.datetime) -> float | None:
    """Find how long to wait until all exhausted limits are reset.

    A limit that is not exhausted is ignored.

    Args:
        headers: The headers of the answer, found without regard to case.
        now: The time from which dates are counted.

    Returns:
        Seconds; None if no limit is exhausted.
    """
    waits = [
        _until(headers.get(f"anthropic-ratelimit-{limit}-reset", ""), now)
        for limit in _ANTHROPIC
        if headers.get(f"anthropic-ratelimit-{limit}-remaining") == "0"
    ]
    waits += [
        _seconds(headers.get(f"x-ratelimit-reset-{limit}", ""))
        for limit in _OPENAI
        if headers.get(f"x-ratelimit-remaining-{limit}") == "0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def _until(date: str, now: dt.datetime) -> float | None:
    """Calculate the seconds until an RFC 3339 date; 0 if it has passed."""
    try:
        reset = dt.datetime.fromisoformat(date)
    except ValueError:
        return None
    if reset.tzinfo is None:
        return None
    return max(0.0, (reset - now).total_seconds())


def _seconds(duration: str) -> float | None:
    """Parse a duration in Go's format, "1h2m3.5s"; None if it isn't one."""
    if not duration or _PIECE.sub("", duration):
        return None
    return sum(float(amount) * _UNITS[unit] for amount, unit in _PIECE.findall(duration))


def _in_bounds(wait: float) -> int | None:
    """Round to nanoseconds; None for an impossibly long wait."""
    return round(wait) if wait < 2**63 else None
