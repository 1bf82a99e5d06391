"""Makes log records of what is said about sessions later: tags, annotations, holds, erasures.

A span can't be changed once it is sent, so whatever comes after the end of a session is a log
record that names the span. Gaps in the log, and errors outside of sessions, have no span.
"""

from __future__ import annotations

from lllm.events.envelope import Recorded
from lllm.events.model import (
    ErrorRecorded,
    Event,
    LogGap,
    SessionAnnotated,
    SessionArchived,
    SessionErased,
    SessionHeld,
    SessionInterrupted,
    SessionReleased,
    SessionRestored,
    SessionTagged,
)
from lllm.otel.attributes import LONG, Plain, cut, json_text, ordered
from lllm.otel.records import ERROR, INFO, WARN, LogRecord
from lllm.otel.span_ids import SpanContext, span_id_of
from lllm.otel.trace_places import TracePlaces

STATEMENTS = frozenset(
    kind.type
    for kind in (
        SessionTagged, SessionAnnotated, SessionHeld, SessionReleased, SessionErased,
        SessionArchived, SessionRestored, SessionInterrupted, ErrorRecorded, LogGap,
    )
)  # fmt: skip
"""The types of the events that become log records of their own."""


def statement_log(event: Recorded, payload: Event, places: TracePlaces) -> LogRecord | None:
    """Make the log record of a statement.

    Args:
        event: The event, of a type in `STATEMENTS`.
        payload: Its payload.
        places: Finds the spans of sessions.

    Returns:
        The log record; None if the payload was erased or can't be read.
    """
    found = _described(payload)
    if found is None:
        return None
    body, severity, small = found
    about = getattr(payload, "about", None)
    uid = {"log.record.uid": f"{event.stream}/{event.seq}"}
    session = {"lllm.session.id": about, "gen_ai.conversation.id": about} if about else {}
    tags = {}
    if isinstance(payload, SessionTagged):
        tags = {f"lllm.tag.{name}": value for name, value in payload.set.items()}
    values = ordered(uid | small | session, tags=tags)
    name = event.type
    is_evaluation = isinstance(payload, SessionAnnotated)
    return LogRecord(
        name="gen_ai.evaluation.result" if is_evaluation else f"lllm.{name}",
        time=max(event.time, 0),
        severity=severity,
        body=cut(body, LONG),
        attributes=values.values,
        dropped=values.dropped,
        span=None if about is None else _span(about, payload, places),
    )


def _span(about: str, payload: Event, places: TracePlaces) -> SpanContext | None:
    place = places.of(about)
    if place is None:
        return None
    if isinstance(payload, SessionAnnotated) and payload.step is not None:
        return SpanContext(place.trace_id, span_id_of(about, "model", payload.step))
    return place.context


def _described(payload: Event) -> tuple[str, int, dict[str, Plain]] | None:
    """Say what an event says: a sentence, the severity, and attributes."""
    match payload:
        case SessionTagged():
            changes = [*(f"{name}={value}" for name, value in payload.set.items())]
            changes += (f"-{name}" for name in payload.removed)
            removed = list(payload.removed) or None
            by: dict[str, Plain] = {"lllm.tags_removed": removed, "lllm.by": payload.by}
            return f"Tagged: {', '.join(changes)}", INFO, by
        case SessionAnnotated():
            return _annotation(payload)
        case SessionHeld() | SessionReleased():
            what = "Held" if isinstance(payload, SessionHeld) else "Released"
            by = {"lllm.by": payload.by, "lllm.reason": payload.reason}
            return f"{what} by {payload.by}: {payload.reason}", INFO, by
        case SessionErased():
            by = {"lllm.by": payload.by, "lllm.reason": payload.reason}
            return f"Erased by {payload.by}: {payload.reason}", WARN, by | _residue(payload)
        case SessionArchived():
            by = {"lllm.by": payload.by, "lllm.archive": payload.archive}
            return f"Archived by {payload.by}.", INFO, by | _residue(payload)
        case SessionRestored():
            return "Imported again from an archive.", INFO, {}
        case SessionInterrupted():
            by = {"lllm.interrupted.owner": payload.owner or None}
            return "The process ended before the session did.", ERROR, by
        case ErrorRecorded():
            error = payload.error
            small: dict[str, Plain] = {
                "error.type": error.type,
                "exception.type": error.type,
                "exception.message": error.message,
                "lllm.partition": payload.partition or None,
            }
            return f"{error.type}: {error.message}", ERROR, small
        case LogGap():
            lost: dict[str, Plain] = {
                "lllm.gap.lost": payload.lost,
                "lllm.gap.first_time": payload.first_time,
                "lllm.gap.last_time": payload.last_time,
            }
            return f"{payload.lost:,} events were lost: {payload.reason}", ERROR, lost
    return None


def _annotation(payload: SessionAnnotated) -> tuple[str, int, dict[str, Plain]]:
    """Describe an annotation as the conventions describe evaluations."""
    value = payload.value
    small: dict[str, Plain] = {
        "gen_ai.evaluation.name": payload.name,
        "gen_ai.evaluation.explanation": payload.comment,
        "lllm.by": payload.by,
        "lllm.request": payload.step,
    }
    if isinstance(value, bool):
        small["gen_ai.evaluation.score.value"] = float(value)
        small["gen_ai.evaluation.score.label"] = "pass" if value else "fail"
    elif isinstance(value, int | float):
        small["gen_ai.evaluation.score.value"] = value
    elif value is not None:
        label = value if isinstance(value, str) else json_text(value)
        small["gen_ai.evaluation.score.label"] = label
    shown = "" if value is None else f": {json_text(value)}"
    if value is None and payload.comment is None:
        shown, small["lllm.evaluation.removed"] = ": removed", True
    return f"{payload.name}{shown}", INFO, small


def _residue(payload: SessionErased | SessionArchived) -> dict[str, Plain]:
    return {
        "lllm.tactic_path": payload.tactic_path,
        "lllm.state": payload.state,
        "lllm.events": payload.events,
        "lllm.started": payload.started,
        "lllm.ended": payload.ended,
        "lllm.price.nanos": sum(cell.nanos for cell in payload.cost),
    }
