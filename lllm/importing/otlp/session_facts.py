"""Writes what spans say beside calls and messages: the metadata and the tags of a session."""

from __future__ import annotations

from collections.abc import Sequence

from lllm.importing.otlp.signals import Span, text_in
from lllm.importing.otlp.trace_plan import PlannedSession

PACKAGE = "otel"
"""The package in the path of sessions whose spans name no service."""


def metadata_of(planned: PlannedSession) -> dict[str, object]:
    """Write the facts about a session.

    Args:
        planned: The session.

    Returns:
        The trace, the resource, and for each span its name, times, scope and attributes. Texts that
        became messages, arguments or results are left out.
    """
    first = planned.spans[0]
    spans: dict[str, object] = {}
    for span in planned.spans:
        content = planned.content[span.span_id]
        facts: dict[str, object] = {
            "name": span.name, "parent": span.parent_id, "start": span.start, "end": span.end,
            "scope": f"{span.scope} {span.scope_version}".strip(),
            "attributes": {
                name: value for name, value in span.attributes.items()
                if not (content and name.startswith(content))
            },
        }  # fmt: skip
        if span.events:
            facts["events"] = [
                {"name": one.name, "time": one.time, "attributes": one.attributes}
                for one in span.events
            ]
        if span.status:
            facts["status"] = span.status
        if span.status_message:
            facts["status_message"] = span.status_message
        if span.resource != first.resource:
            facts["resource"] = span.resource
        spans[span.span_id] = {
            name: value for name, value in facts.items() if value not in ("", {})
        }
    return {"trace_id": first.trace_id, "resource": first.resource, "spans": spans}


def tags_of(planned: PlannedSession) -> dict[str, str]:
    """Make the tags of a session: source, and as far as they are known, service and conversation.

    Args:
        planned: The session.

    Returns:
        The tags.
    """
    tags = {"source": "otlp"}
    service = service_of(planned.spans[0])
    if service:
        tags["service"] = service
    reading = planned.reading
    said = [reading, *(step.reading for step in planned.steps)]
    for name in ("conversation", "user"):
        found = next((value for one in said if (value := getattr(one, name))), None)
        if found:
            tags[name] = found
    for span in planned.spans:
        environment = text_in(
            span.resource, "deployment.environment.name", "deployment.environment"
        )
        if environment:
            tags["environment"] = environment
            break
    return tags


def path_of(planned: PlannedSession) -> str:
    """Make the stable path of a session, "service::name"."""
    service = service_of(planned.spans[0]) or PACKAGE
    name = planned.reading.name or "session"
    return f"{service.replace('::', ':')}::{name.replace('::', ':')}"


def service_of(span: Span) -> str:
    """Read the name of the service; "" if there is none, or only the default one."""
    named = text_in(span.resource, "service.name") or ""
    return "" if named.startswith("unknown_service") else named


def traceparent_of(planned: Sequence[PlannedSession]) -> str | None:
    """Write the trace context of the first session, whose parent is in another process."""
    span = planned[0].span
    if span is None or not span.parent_id:
        return None
    return f"00-{span.trace_id}-{span.parent_id}-01"
