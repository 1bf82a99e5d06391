"""Spans and log records of our own making, as OTLP in JSON, in the shape of real exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

JSON = dict[str, Any]
TRACE = "0af7651916cd43dd8448eb211c80319c"
START = 1_795_700_000_000_000_000  # 2026-11-26
SECOND = 10**9


def value(one: object) -> JSON:
    """An AnyValue."""
    if isinstance(one, bool):
        return {"boolValue": one}
    if isinstance(one, int):
        return {"intValue": str(one)}
    if isinstance(one, float):
        return {"doubleValue": one}
    if isinstance(one, list):
        return {"arrayValue": {"values": [value(inner) for inner in one]}}
    if isinstance(one, dict):
        return {"kvlistValue": {"values": attributes(one)}}
    return {"stringValue": one}


def attributes(given: JSON) -> list[JSON]:
    return [{"key": name, "value": value(one)} for name, one in given.items()]


def span(
    number: int,
    name: str,
    given: JSON | None = None,
    *,
    parent: int = 0,
    trace: str = TRACE,
    at: float = 0.0,
    took: float = 1.0,
    error: str = "",
    **more: Any,
) -> JSON:
    """A span; `at` and `took` are seconds. more: what of its fields is to be otherwise."""
    start = START + round(at * SECOND)
    made: JSON = {
        "traceId": trace,
        "spanId": f"{number:016x}",
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + round(took * SECOND)),
        "attributes": attributes(given or {}),
        "status": {"code": 2, "message": error} if error else {},
    }
    if parent:
        made["parentSpanId"] = f"{parent:016x}"
    return made | more


def request(*spans: JSON, service: str = "shop", scope: str = "test.scope") -> JSON:
    """An ExportTraceServiceRequest."""
    resource = {"attributes": attributes({"service.name": service})}
    scoped = {"scope": {"name": scope, "version": "1.0"}, "spans": list(spans)}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scoped]}]}


def logs(*records: JSON, service: str = "shop", scope: str = "test.scope") -> JSON:
    """An ExportLogsServiceRequest."""
    resource = {"attributes": attributes({"service.name": service})}
    scoped = {"scope": {"name": scope}, "logRecords": list(records)}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [scoped]}]}


def record(name: str, given: JSON, *, at: float = 0.0, **more: Any) -> JSON:
    """A log record of an event."""
    time = str(START + round(at * SECOND))
    return {"timeUnixNano": time, "eventName": name, "attributes": attributes(given)} | more


def write(path: Path, *requests: JSON | str) -> Path:
    """A file with one request a line; a text is written as it is."""
    lines = [one if isinstance(one, str) else json.dumps(one) for one in requests]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


# -- spans of the conventions


def genai(number: int, *, parent: int = 0, id_: str = "", tokens: JSON | None = None,
          sent: object = None, said: object = None, **more: Any) -> JSON:  # fmt: skip
    """A call of a model in OpenTelemetry's conventions."""
    given: JSON = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini", "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.id": id_ or f"chatcmpl-{number:024x}",
        "gen_ai.response.finish_reasons": ["stop"],
    }  # fmt: skip
    counts = {"input_tokens": 100, "output_tokens": 20} if tokens is None else tokens
    given |= {f"gen_ai.usage.{name}": count for name, count in counts.items()}
    if sent is not None:
        given["gen_ai.input.messages"] = json.dumps(sent)
    if said is not None:
        given["gen_ai.output.messages"] = json.dumps(said)
    given |= more.pop("given", {})
    return span(number, "chat gpt-4o-mini", given, parent=parent, **more)


def says(text: str, role: str = "user") -> JSON:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def asks_tool(call_id: str = "call_1") -> JSON:
    call = {"type": "tool_call", "id": call_id, "name": "population",
            "arguments": {"city": "Berlin"}}  # fmt: skip
    return {"role": "assistant", "parts": [call], "finish_reason": "tool_call"}


def tool_said(text: str, call_id: str = "call_1") -> JSON:
    return {"role": "tool",
            "parts": [{"type": "tool_call_response", "id": call_id, "response": text}]}  # fmt: skip


def inference(number: int, *, parent: int = 0, tokens: JSON | None = None, **more: Any) -> JSON:
    """A call of a model in OpenInference's conventions."""
    id_ = more.pop("id_", f"chatcmpl-{number:024x}")
    given: JSON = {
        "openinference.span.kind": "LLM", "llm.system": "openai",
        "llm.model_name": "gpt-4o-mini-2024-07-18",
        "llm.invocation_parameters": json.dumps({"model": "gpt-4o-mini", "temperature": 0.2}),
        "output.value": json.dumps({"id": id_, "model": "gpt-4o-mini-2024-07-18"}),
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "How many?",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "3.7 million.",
    }  # fmt: skip
    counts = {"prompt": 100, "completion": 20, "total": 120} if tokens is None else tokens
    given |= {f"llm.token_count.{name}": count for name, count in counts.items()}
    given |= more.pop("given", {})
    return span(number, "ChatCompletion", given, parent=parent, **more)
