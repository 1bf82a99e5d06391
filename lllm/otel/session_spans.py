"""Makes the spans and log records of one session from its events.

A session is one `invoke_workflow` span. Below it are an `invoke_agent` span for each call of an
agent, a span for each attempt to call a model, and an `execute_tool` span for each tool call. Only
attempts have tokens and costs, so a backend that sums up spans counts each once.
"""

from __future__ import annotations

from collections.abc import Callable

from lllm.events import codec
from lllm.events.envelope import Recorded
from lllm.events.model import (
    AgentDefined,
    RetryScheduled,
    SessionEdited,
    SessionFailed,
    SessionStarted,
)
from lllm.otel.attributes import LONG, Plain, cut, ordered
from lllm.otel.message_attributes import value_text
from lllm.otel.records import INTERNAL, WARN, LogRecord, SpanLink, SpanRecord
from lllm.otel.session_steps import EndedSession, SessionSteps
from lllm.otel.span_ids import SpanContext, span_id_of, trace_id_of
from lllm.otel.step_spans import SpanOptions, StepSpans, make_span
from lllm.otel.trace_places import ParentSpan, TracePlace, TracePlaces

FindDefinition = Callable[[str], AgentDefined | None]

_TAGS = 100  # of a session's tags, those that are sent as a list


class SessionSpans:
    """Makes spans and log records of sessions.

    Args:
        places: Finds the trace of each session.
        definition: Reads the definition of an agent; None if the log does not have it.
        options: What is sent.
    """

    def __init__(
        self, places: TracePlaces, definition: FindDefinition, options: SpanOptions
    ) -> None:
        self._places = places
        self._definition = definition
        self._options = options

    def of(self, session: EndedSession) -> tuple[list[SpanRecord], list[LogRecord]]:
        """Make the spans and log records of a session.

        Args:
            session: The session.

        Returns:
            The spans, parents first, and the log records; nothing if its first event was erased or
            can't be read.
        """
        started = codec.decode(session.events[0]) if session.events else None
        if not isinstance(started, SessionStarted):
            return [], []
        place = self._places.place(session.id, started)
        steps = SessionSteps(session, started, with_messages=self._options.messages)
        made = StepSpans(steps, place, self._options)
        spans: list[SpanRecord] = []
        if place.has_span or not steps.requests:
            spans.append(_session_span(steps, place, made.own, self._options))
        spans += map(made.agent, steps.agents)
        for number, (_, requested) in steps.requests.items():
            name = requested.definition
            spans.append(made.model(number, None if name is None else self._definition(name)))
        spans += map(made.tool, steps.tools)
        return spans, [_change_log(*change, place, made.own) for change in steps.changes]


def _session_span(
    steps: SessionSteps, place: TracePlace, own: dict[str, Plain], options: SpanOptions
) -> SpanRecord:
    started, tags = steps.started, steps.session.tags
    origin = started.origin
    small: dict[str, Plain] = {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": started.name,
        "openinference.span.kind": "CHAIN",  # for Phoenix, which knows the other operations
        **own,
        "error.type": None if steps.error is None else steps.error.type,
        **_facts(steps),
        "lllm.origin.mode": None if origin is None else origin.mode,
        "lllm.origin.session": None if origin is None else origin.session,
    }
    if tags:
        pairs = [f"{name}={value}" for name, value in tags.items()]
        small["tag.tags"] = small["langfuse.trace.tags"] = pairs[:_TAGS]
    texts: dict[str, str | None] = {}
    if options.messages:
        delivery = None if steps.finish is None else steps.finish.delivery
        for name, value in (("input.value", started.task), ("output.value", delivery)):
            texts[name] = None if value is None else value_text(value, options.message_bytes)
    links: tuple[SpanLink, ...] = ()
    if origin is not None:
        # the other session may be in another store, so its span is named and not looked up
        original = SpanContext(trace_id_of(origin.session), span_id_of(origin.session, "session"))
        links = (SpanLink(original, {"lllm.origin.mode": origin.mode}),)
    return make_span(
        place.context, ParentSpan(place.trace_id, place.parent, place.is_outside),
        f"invoke_workflow {started.name}", INTERNAL, (steps.began, steps.ended), small,
        steps.error, texts=texts, links=links,
        tags={f"lllm.tag.{name}": value for name, value in tags.items()},
    )  # fmt: skip


def _facts(steps: SessionSteps) -> dict[str, Plain]:
    """The facts about a session that have no name in the conventions of GenAI."""
    started, finish, interrupted = steps.started, steps.finish, steps.session.interrupted
    cancelled = isinstance(finish, SessionFailed) and finish.cancelled
    return {
        "lllm.tactic_path": started.tactic_path,
        "lllm.kind": started.kind,
        "lllm.partition": started.partition or None,
        "lllm.parent_session": started.ancestors[-1].session_id if started.ancestors else None,
        "lllm.cancelled": cancelled or None,
        "lllm.interrupted.owner": None if interrupted is None else interrupted.owner or None,
        "host.name": started.host or None,
        "process.pid": started.pid or None,
        "lllm.version": None if started.producer is None else started.producer.lllm,
        "lllm.budget_nanos": started.budget,
        "lllm.unknown_events": steps.unknown or None,
        "lllm.erased_events": steps.erased or None,
    }


def _change_log(
    event: Recorded,
    payload: RetryScheduled | SessionEdited,
    place: TracePlace,
    own: dict[str, Plain],
) -> LogRecord:
    small: dict[str, Plain] = {"log.record.uid": f"{event.stream}/{event.seq}"}
    span = place.context
    if isinstance(payload, RetryScheduled):
        span = SpanContext(place.trace_id, span_id_of(event.stream, "model", payload.request))
        body = f"Retry {payload.attempt} of {payload.limit}: {payload.reason}"
        small |= {
            "lllm.retry.kind": payload.kind,
            "lllm.retry.attempt": payload.attempt,
            "lllm.retry.limit": payload.limit,
            "lllm.retry.wait_seconds": payload.wait / 1e9,
            "lllm.request": payload.request,
        }
    else:
        body = f"The fork changes step {payload.step} of agent call {payload.call}."
        small |= {"lllm.agent.call": payload.call, "lllm.step": payload.step}
    return LogRecord(
        name=f"lllm.{event.type}",
        time=max(event.time, 0),
        severity=WARN,
        body=cut(body, LONG),
        attributes=ordered(small | own).values,
        span=span,
    )
