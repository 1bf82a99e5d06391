"""The view of payloads as jsonb, for dashboards on PostgreSQL; made only where it is asked for.

The log keeps a payload in the bytes in which it was written, of which SQL can't ask for a field
quickly. jsonb can't hold every payload, so this is a copy for questions, and NULL where it can't.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence

from lllm.events.model import EVENTS, Erased, SessionResidue
from lllm.projections.database import JSONText
from lllm.projections.view import Rows, Table, ViewEvent
from lllm.projections.views import readable_views

PAYLOADS = Table(
    "event_payloads",
    {"session": "INTEGER", "position": "INTEGER", "payload": "JSON"},
    key=("session", "position"),
    about=(
        "The payloads of the events of sessions, for dashboards: session is a session's number, "
        "position the place of the event in the log. payload is NULL where jsonb can't hold it."
    ),
)

# These belong to no session, so no erasure of a session would remove them.
_LEFT_OUT = frozenset(("agent.defined", "error.recorded", "log.gap"))

_LONGEST = 32 << 20  # bytes; jsonb takes up to eight times as many, and has at most 256 MiB
_DIGITS_BEFORE, _DIGITS_AFTER = 131_072, 16_383  # of a numeric
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_MAYBE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_MAYBE_BEYOND = re.compile(rb"[eE][+-]?\d{4}|\d{16000}")


class PayloadsView:
    """One row for each event of a session, with its payload."""

    name = "event_payloads"
    version = 1
    tables: Sequence[Table] = (PAYLOADS,)
    readable = readable_views.PAYLOADS
    types: Collection[str] = tuple(sorted(EVENTS.keys() - _LEFT_OUT))

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """Copy the payloads of some events; see `View.apply`."""
        for one in batch:
            if one.session is None or isinstance(one.payload, Erased):
                continue
            if isinstance(one.payload, SessionResidue):
                rows.delete_under(PAYLOADS.name, one.session.number)
            key = (one.session.number, one.event.position)
            rows.put(PAYLOADS.name, key, payload=jsonb_of(one.event.data))


def jsonb_of(data: bytes) -> JSONText | None:
    """Find out if PostgreSQL's jsonb can hold a payload.

    It can't hold NUL, lone surrogates and numbers that a numeric can't hold
    (https://www.postgresql.org/docs/current/datatype-json.html).

    Args:
        data: The payload.

    Returns:
        The payload as a text; None if jsonb can't hold it, or if it has more than 32 MiB.
    """
    if len(data) > _LONGEST or (b"\\u0000" in data and _NUL.search(data)):
        return None
    try:
        text = data.decode()
        if _MAYBE_SURROGATE.search(data) or _MAYBE_BEYOND.search(data):
            found = json.loads(text, parse_float=_checked, parse_int=_checked)
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return JSONText(text)


def _checked(number: str) -> int:
    """Raise ValueError for a number that a numeric can't hold."""
    digits, _, power = number.lower().partition("e")
    whole, _, part = digits.lstrip("-").partition(".")
    moved = int(power or 0) if len(power) < 10 else _DIGITS_BEFORE * 2
    if len(whole) + moved > _DIGITS_BEFORE or len(part) - moved > _DIGITS_AFTER:
        raise ValueError("a numeric can't hold the number")
    return 0
