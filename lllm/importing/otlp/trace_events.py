"""Makes the events of one session from the spans that were planned for it."""

from __future__ import annotations

from lllm.events.model import Content, Error, Part, ToolCall
from lllm.importing.otlp.conventions.attribute_values import text_of
from lllm.importing.otlp.conventions.reading import ModelCall, ToolRun
from lllm.importing.otlp.provider_names import provider_name
from lllm.importing.otlp.sent_messages import SentDialog, SentMessages
from lllm.importing.otlp.session_facts import metadata_of, tags_of
from lllm.importing.otlp.signals import ERROR, Span, text_in
from lllm.importing.otlp.trace_plan import PlannedSession, TraceStep
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.importing.transcripts.session_events import CallSite, RequestFacts, SessionEvents
from lllm.importing.transcripts.transcript_json import arguments_of
from lllm.invokers import Answer

_APIS = {"anthropic": "messages", "google": "generate_content", "aws": "converse"}
_LONGEST_TASK = 10_000  # characters; the messages have all of it


class _Asked:
    """A tool that an answer asked for."""

    def __init__(self, request: int, call: ToolCall, dialog: SentDialog, ended: int) -> None:
        self.request = request
        self.call = call
        self.dialog = dialog
        self.ended = ended


class TraceSession:
    """Makes the events of one session; `SessionEvents.take` gives them.

    Args:
        events: Where the events go.
        planned: The session.
        owners: The sessions that have the calls.
        batch: Facts about all sessions that are written with this one; None if it has a parent.
        traceparent: The W3C trace context that the session began in; None for none.
    """

    def __init__(
        self,
        events: SessionEvents,
        planned: PlannedSession,
        owners: CallOwners,
        batch: dict[str, object] | None,
        traceparent: str | None,
    ) -> None:
        self._events = events
        self._planned = planned
        self._owners = owners
        self._batch = batch
        self._traceparent = traceparent
        self._messages = SentMessages(events)
        self._asked: dict[str, _Asked] = {}
        self._results = _results_in(planned)
        self._last_text = ""
        self._last_error: Error | None = None
        self.tools: dict[str, int] = {}
        """The numbers of the runs of tools, by span id."""
        self.repeated = 0
        """The number of calls that another session has."""

    def make(self) -> None:
        """Make all events of the session."""
        planned = self._planned
        metadata = metadata_of(planned) | (self._batch or {})
        is_call = len(planned.spans) == 1 and planned.reading.kind == "model"
        self._events.start(
            planned.began,
            task=self._task()[:_LONGEST_TASK] or None,
            tags=tags_of(planned),
            metadata={"otel": metadata},
            kind="call" if is_call else "session",
            traceparent=self._traceparent,
        )
        runs = {
            step.reading.tool.call_id
            for step in planned.steps
            if step.reading.tool is not None and step.reading.tool.call_id
        }
        for step in planned.steps:
            if step.reading.call is not None:
                self._call(step, step.reading.call, runs)
            elif step.reading.tool is not None:
                self._run(step, step.reading.tool)
        self._end()

    def _task(self) -> str:
        if self._planned.reading.task:
            return self._planned.reading.task
        for step in self._planned.steps:
            sent = step.reading.call.sent if step.reading.call is not None else ()
            asked = [one.text for one in sent if one.role == "user" and one.text]
            if asked:
                return asked[0]
        return ""

    def _end(self) -> None:
        span = self._planned.span
        error = None
        if span is not None and span.status == ERROR:
            error = _error(span)
        delivery = self._planned.reading.delivery or self._last_text
        self._events.end(self._planned.ended, delivery=delivery or None, error=error)

    # -- calls of models

    def _call(self, step: TraceStep, call: ModelCall, runs: set[str]) -> None:
        span = step.span
        self._close_tools(call, runs, span.start)
        dialog = self._messages.send(span.start, call.sent)
        provider = provider_name(call.provider, call.host, call.port)
        named = provider_name(call.provider, None, None)
        site = CallSite(
            provider, _APIS.get(named, "chat.completions"), call.operation, call.host, call.port
        )
        params = dict(call.params)
        facts = RequestFacts(params or None, call.is_stream, call.asked)
        if span.status == ERROR and call.usage is None:
            self._last_error = _error(span)
            self._events.add_failed_call(
                span.start, span.end, site, self._last_error, model=call.asked or "unknown",
                dialog=dialog.number, upto=dialog.last, facts=facts,
            )  # fmt: skip
            return
        content = call.answer or Content("assistant")
        self._last_text = content.text or self._last_text
        name, own = call.response_id, self._events.source.session_id
        if name and self._owners.is_elsewhere_at(name, own, began=span.start, ended=span.end):
            self.repeated += 1
            number = self._events.add_message(span.end, dialog.number, content, was_paid=True)
            self._messages.enter(dialog, number, content)
            return
        answer = Answer(
            content=content,
            finish=call.finish,
            model=call.model or call.asked or "unknown",
            finish_raw=call.finish_raw,
            response_id=call.response_id,
            service_tier=call.service_tier,
            fingerprint=call.fingerprint,
            usage_raw=call.usage_raw,
            usage=call.usage,
            billed=call.billed,
            first_token=call.first_token,
        )
        number = self._events.add_call(
            span.start, span.end, site, answer, dialog=dialog.number, upto=dialog.last,
            facts=facts, with_tools=False,
        )  # fmt: skip
        self._messages.enter(dialog, number, content)
        for one in content.tool_calls:
            self._asked[one.id or f"{number} {one.name}"] = _Asked(
                self._events.last_request, one, dialog, span.end
            )

    def _close_tools(self, call: ModelCall, runs: set[str], time: int) -> None:
        """Record the runs of tools that have no span, from their results in the next request."""
        for content in call.sent:
            asked = self._asked.get(content.call_id or "")
            if content.role == "tool" and asked is not None and asked.call.id not in runs:
                del self._asked[asked.call.id]
                self._events.call_tool(
                    asked.ended, asked.call, arguments_of(asked.call), request=asked.request
                )
                self._result(time, asked, content, is_error=False)

    # -- runs of tools

    def _run(self, step: TraceStep, run: ToolRun) -> None:
        span = step.span
        asked = self._asked_for(run)
        call_id = run.call_id or (asked.call.id if asked is not None else "")
        if run.result is not None:
            content = Content("tool", (Part("text", run.result),), call_id=call_id or None)
        else:
            content = self._results.get(call_id) or Content("tool", call_id=call_id or None)
        arguments = run.arguments
        if arguments is None and asked is not None:
            arguments = arguments_of(asked.call)
        # without an id, the number of the span keeps runs apart
        call = ToolCall(call_id or span.span_id, run.name, "")
        self.tools[span.span_id] = self._events.call_tool(
            span.start, call, arguments, request=0 if asked is None else asked.request
        )
        is_error = span.status == ERROR
        if is_error and not content.parts:
            content = Content.of("tool", _error(span).message)
        content = Content(content.role, content.parts, call_id=call.id)
        if asked is not None:
            self._result(span.end, asked, content, is_error=is_error)
        else:
            self._events.add_result(span.end, 0, content, is_error=is_error)

    def _asked_for(self, run: ToolRun) -> _Asked | None:
        """Find the answer that asked for a run: by the id of the call, or by the tool's name."""
        if run.call_id:
            return self._asked.pop(run.call_id, None)
        for key, asked in self._asked.items():
            if asked.call.name == run.name:
                return self._asked.pop(key)
        return None

    def _result(self, time: int, asked: _Asked, content: Content, *, is_error: bool) -> None:
        number = self._events.add_result(time, asked.dialog.number, content, is_error=is_error)
        self._messages.enter(asked.dialog, number, content)


def _results_in(planned: PlannedSession) -> dict[str, Content]:
    """Find the results of tools in the requests, by the id of the call."""
    return {
        content.call_id: content
        for step in planned.steps
        if step.reading.call is not None
        for content in step.reading.call.sent
        if content.role == "tool" and content.call_id
    }


def _error(span: Span) -> Error:
    """Describe the error of a span."""
    raised = next((one for one in reversed(span.events) if one.name == "exception"), None)
    about = raised.attributes if raised is not None else {}
    type_ = text_in(span.attributes, "error.type") or text_in(about, "exception.type")
    message = span.status_message or text_in(about, "exception.message")
    status = span.attributes.get("http.response.status_code")
    return Error(
        type_ or "Error",
        message or text_of(span.attributes.get("error.type")) or "The span does not say why.",
        traceback=text_in(about, "exception.stacktrace"),
        status=status if isinstance(status, int) and not isinstance(status, bool) else None,
    )
