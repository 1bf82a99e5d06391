"""Finds the OpenTelemetry span that the program has around a session or a call.

Nothing is imported: a program that has a span has imported OpenTelemetry itself.
"""

from __future__ import annotations

import sys


def current_traceparent() -> str | None:
    """Write the current OpenTelemetry span as a W3C trace context.

    Returns:
        The text of the header `traceparent`; None if no valid span is current.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 255:02x}"
    except Exception:  # a half-imported module, or a span of another kind: not the program's matter
        return None
