"""Reads from a provider's headers how long to wait until its rate limits are reset.

Anthropic sends dates (https://platform.claude.com/docs/en/api/rate-limits#response-headers), OpenAI
and those that follow it send durations such as "6m0s"
(https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers).
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ANTHROPIC = ("requests", "tokens", "input-tokens", "output-tokens")
_OPENAI = ("requests", "tokens")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|us|ns|h|m|s)")


def reset_after(headers: Mapping[str, str], *, now: dt.datetime) -> float | None:
    """Find how long to wait until all exhausted limits are reset.

    A limit that has something left is passed over, whenever it is reset.

    Args:
        headers: Of an answer, without regard to case.
        now: What dates are taken from.

    Returns:
        Seconds, None where the headers name no limit that is used up.
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
    """Seconds until an RFC 3339 date, 0 if it has passed."""
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
