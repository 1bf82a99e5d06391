"""The spans of the MCP library: calls of tools, from the client and from the server.

https://opentelemetry.io/docs/specs/semconv/gen-ai/mcp/
"""

from __future__ import annotations

from lllm.importing.otlp.conventions import gen_ai
from lllm.importing.otlp.conventions.reading import SpanReading
from lllm.importing.otlp.signals import Span, text_in

_CALL = "tools/call"


def read(span: Span) -> SpanReading | None:
    """Read a span by these conventions; None if it does not follow them."""
    method = span.attributes.get("mcp.method.name")
    if not isinstance(method, str):
        return None
    if method != _CALL:
        return SpanReading("other", span.name)
    name = text_in(span.attributes, "gen_ai.tool.name") or span.name.partition(f"{_CALL} ")[2]
    return SpanReading("tool", span.name, tool=gen_ai.tool_run(span.attributes, name or span.name))
