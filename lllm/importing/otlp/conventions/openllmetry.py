"""What OpenLLMetry adds to OpenTelemetry's conventions: workflows, tasks, agents and tools.

https://www.traceloop.com/docs/openllmetry/contributing/semantic-conventions
"""

from __future__ import annotations

from lllm.importing.otlp.conventions.attribute_values import json_in, object_in, text_of
from lllm.importing.otlp.conventions.reading import SpanReading, ToolRun
from lllm.importing.otlp.signals import Span, text_in

_CONTENT = ("traceloop.entity.input", "traceloop.entity.output")


def read(span: Span) -> SpanReading | None:
    """Read a span by these conventions; None if it does not follow them."""
    attributes = span.attributes
    kind = attributes.get("traceloop.span.kind")
    if not isinstance(kind, str):
        return None
    name = text_in(attributes, "traceloop.entity.name") or span.name
    given, result = attributes.get(_CONTENT[0]), attributes.get(_CONTENT[1])
    reading = SpanReading(
        "other",
        name,
        conversation=text_in(
            attributes, "gen_ai.conversation.id", "traceloop.association.properties.session_id"
        ),
        user=text_in(attributes, "traceloop.association.properties.user_id"),
    )
    if kind == "tool":
        reading.kind, reading.content = "tool", _CONTENT
        sent = object_in(given)
        reading.tool = ToolRun(
            name,
            text_in(attributes, "gen_ai.tool.call.id") or "",
            sent.get("inputs", sent.get("input_str", json_in(given))),
            None if result is None else text_of(object_in(result).get("output", result)),
        )
        return reading
    if kind in ("workflow", "agent"):
        reading.kind = "agent"
    reading.task = text_of(given) or None
    reading.delivery = text_of(result) or None
    return reading
