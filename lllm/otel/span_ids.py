"""Makes the ids of traces and spans from the ids of sessions, the same ones whenever asked.

A span that is sent a second time has the id that it had, so a backend that overwrites spans by
their ids has it once.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Literal

import msgspec

SpanKey = Literal["session", "agent", "model", "tool"]

# https://www.w3.org/TR/trace-context/#traceparent-header; later versions may have more fields
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII
)


class SpanContext(msgspec.Struct, frozen=True, gc=False):
    """The trace and the id of a span.

    Attributes:
        trace_id: The id of the trace, 16 bytes.
        span_id: The id of the span, 8 bytes.
    """

    trace_id: bytes
    span_id: bytes


def trace_id_of(session_id: str) -> bytes:
    """Make the id of the trace that begins with a root session.

    Args:
        session_id: The id of the session.

    Returns:
        16 bytes.
    """
    return sha256(b"lllm trace\0" + _bytes_of(session_id)).digest()[:16]


def span_id_of(session_id: str, key: SpanKey, number: int = 0) -> bytes:
    """Make the id of a span.

    Args:
        session_id: The id of the session that the span belongs to.
        key: What the span stands for.
        number: The number of the agent call, attempt or tool call in the session; 0 for the session
            itself.

    Returns:
        8 bytes.
    """
    return sha256(f"lllm {key} {number}\0".encode() + _bytes_of(session_id)).digest()[:8]


def parse_traceparent(text: str | None) -> SpanContext | None:
    """Read a W3C trace context.

    Args:
        text: The text, as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`; None for none.

    Returns:
        The span that it names; None if it names none.
    """
    found = _TRACEPARENT.fullmatch(text) if text else None
    if found is None:
        return None
    context = SpanContext(bytes.fromhex(found[1]), bytes.fromhex(found[2]))
    return context if any(context.trace_id) and any(context.span_id) else None


def _bytes_of(session_id: str) -> bytes:
    return session_id.encode("utf-8", "surrogatepass")
