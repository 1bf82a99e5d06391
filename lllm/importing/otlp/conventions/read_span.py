"""Chooses the convention that a span follows."""

from __future__ import annotations

from lllm.importing.otlp.conventions import (
    gen_ai,
    google_adk,
    mcp,
    openinference,
    openllmetry,
    vercel_ai,
)
from lllm.importing.otlp.conventions.attribute_values import object_in
from lllm.importing.otlp.conventions.reading import SpanReading
from lllm.importing.otlp.signals import Span

# The first that fits is taken; those with names of their own come before the common one.
_READERS = (
    vercel_ai.read,
    openinference.read,
    google_adk.read,
    mcp.read,
    openllmetry.read,
    gen_ai.read,
)


def read_span(span: Span) -> SpanReading:
    """Read what a span says, by the convention that it follows.

    Args:
        span: The span.

    Returns:
        What it says; a span that follows none of them is "other".
    """
    for read in _READERS:
        found = read(span)
        if found is not None:
            if found.kind == "tool" and found.tool is not None and not found.tool.name:
                found.tool.name = span.name
            return found
    return SpanReading("other", span.name)


def with_details(span: Span, details: dict[str, object]) -> Span:
    """Add the attributes of an event that has the content of a span.

    Args:
        span: The span.
        details: The attributes of `gen_ai.client.inference.operation.details`.

    Returns:
        The span; its own attributes win.
    """
    import msgspec

    return msgspec.structs.replace(span, attributes={**object_in(details), **span.attributes})
