"""Reads the facts about one session from its events, for a report.

A step that began and never ended is in the report, too, with that state.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import ClassVar, Literal

import msgspec

from lllm.events import codec, model
from lllm.events.envelope import Recorded
from lllm.events.model import AgentDefined, Content, Error, Event

StepState = Literal["done", "failed", "refused", "never ended"]

_VERSION = 12  # hex digits of a digest that name a version


class RecordedStep(msgspec.Struct):
    """A step of a session: a model call, a tool or another action.

    Attributes:
        seq: The number of the event with which the step began.
        time: The time at which the step began, in nanoseconds UTC.
        what: A description of the step.
        result: The result; "" if there is none yet.
        state: The state in which the step ended.
        nanos: The cost in nano-dollars; None if it is unknown, or this kind of step has no price.
    """

    seq: int
    time: int
    what: str
    result: str = ""
    state: StepState = "never ended"
    nanos: int | None = None


class Intervention(msgspec.Struct, frozen=True):
    """A later action on a session: a tag, a hold, an erasure, a comment.

    Attributes:
        time: The time of the action, in nanoseconds UTC.
        type: The type of the event, for example "session.tagged".
        by: Who did it; "" if that was not recorded.
        what: A description of the action.
    """

    time: int
    type: str
    by: str
    what: str


class AgentUsed(msgspec.Struct, frozen=True):
    """The definition of an agent at the time when the session used it.

    Attributes:
        name: The agent's name.
        model: The model that the agent calls.
        prompt: The version of its system prompt: the first hex digits of the text's SHA-256.
        prompts: The paths of its other prompts.
        tools: Each tool's name with its version: the first hex digits of the SHA-256 of its
            definition as JSON.
        definition: The name of the event stream with the complete definition.
    """

    name: str
    model: str
    prompt: str
    prompts: tuple[str, ...]
    tools: tuple[str, ...]
    definition: str


class SessionFacts(msgspec.Struct):
    """The facts about one session.

    Attributes:
        session_id: The whole id of the session.
        started: The payload of its first event; None if it was erased, lost, or written by a newer
            lllm.
        start_time: The time of the first event, in nanoseconds UTC.
        end: The payload of its last event; None if the session runs or was interrupted.
        end_time: The time of the last event, in nanoseconds UTC.
        steps: The steps of the session, in order.
        agents: The agents that the session used.
        interventions: Later actions on the session, in order.
        interrupted: True if its process was found dead, and the session did not end later.
        unpriced: One reason for each attempt without a price.
        nanos: The cost of its attempts in nano-dollars, without the unpriced ones.
        events: The number of its events.
        missing: The number of events that are missing between them, according to their numbers.
        unread: The number of events that a newer lllm wrote, which this one can't read.
        erased: What an erasure left of the session; None if it was not erased.
    """

    session_id: str
    started: model.SessionStarted | None = None
    start_time: int = 0
    end: model.SessionSucceeded | model.SessionFailed | None = None
    end_time: int | None = None
    steps: list[RecordedStep] = []
    agents: list[AgentUsed] = []
    interventions: list[Intervention] = []
    interrupted: bool = False
    unpriced: list[str] = []
    nanos: int = 0
    events: int = 0
    missing: int = 0
    unread: int = 0
    erased: model.SessionErased | None = None

    @property
    def state(self) -> str:
        """The state: "success", "failure", "cancelled", "interrupted" or "running"."""
        if self.erased is not None:
            return self.erased.state
        if isinstance(self.end, model.SessionSucceeded):
            return "success"
        if isinstance(self.end, model.SessionFailed):
            return "cancelled" if self.end.cancelled else "failure"
        return "interrupted" if self.interrupted else "running"


ReadDefinition = Callable[[str], AgentDefined | None]


def read_facts(
    events: Iterable[Recorded], session_id: str, read_definition: ReadDefinition
) -> SessionFacts:
    """Read the facts about a session from its events.

    Args:
        events: The events of the session and the statements about it, in log order.
        session_id: The whole id of the session.
        read_definition: Reads the definition of an agent by the name of its stream.

    Returns:
        The facts about the session.
    """
    reading = _Reading(session_id, read_definition)
    for event in events:
        payload = codec.decode(event)
        if event.stream == session_id:
            reading.take(event, payload)
        else:
            reading.hear(event, payload)
    return reading.facts


class _Reading:
    """Collects the facts from the events of one session, one by one."""

    _handlers: ClassVar[dict[type[Event], Callable[..., None]]] = {}

    def __init__(self, session_id: str, read_definition: ReadDefinition) -> None:
        self.facts = SessionFacts(session_id)
        self._read_definition = read_definition
        self._open: dict[tuple[str, int], RecordedStep] = {}
        self._definitions: set[str] = set()
        self._seq = 0

    def take(self, event: Recorded, payload: Event) -> None:
        """Process an event of the session's own stream."""
        facts = self.facts
        facts.start_time = facts.start_time or event.time
        facts.events += 1
        facts.missing += max(0, event.seq - self._seq - 1)
        self._seq = max(self._seq, event.seq)
        handle = _HANDLERS.get(type(payload))
        if handle is not None:
            handle(self, event, payload)
        elif type(payload) not in _KNOWN:
            facts.unread += 1

    def hear(self, event: Recorded, payload: Event) -> None:
        """Process a statement about the session."""
        if isinstance(payload, model.SessionInterrupted):
            self.facts.interrupted = True
            return
        if isinstance(payload, model.SessionErased):
            self._erased(payload)
        values = codec.values(event.data)
        said = values if isinstance(values, dict) and type(payload) is not model.Erased else {}
        by = said.get("by")
        self.facts.interventions.append(
            Intervention(
                event.time, event.type, by if isinstance(by, str) else "", _told(said, payload)
            )
        )

    def _erased(self, residue: model.SessionErased) -> None:
        facts = self.facts
        facts.erased, facts.end_time = residue, residue.ended
        facts.nanos = sum(cell.nanos for cell in residue.cost)
        facts.unpriced = [
            f"{cell.model}: {cell.unpriced:,} calls" for cell in residue.cost if cell.unpriced
        ]

    def _begin(self, event: Recorded, kind: str, number: int, what: str) -> RecordedStep:
        step = self._open[kind, number] = RecordedStep(event.seq, event.time, what)
        self.facts.steps.append(step)
        return step

    def _end(self, kind: str, number: int, state: StepState, result: str) -> RecordedStep | None:
        step = self._open.get((kind, number))
        if step is not None:
            step.state, step.result = state, result
        return step

    def _note(self, event: Recorded, what: str, result: str = "") -> None:
        self.facts.steps.append(RecordedStep(event.seq, event.time, what, result, "done"))

    # -- the session

    def started(self, _: Recorded, payload: model.SessionStarted) -> None:
        self.facts.started = payload

    def ended(self, event: Recorded, end: model.SessionSucceeded | model.SessionFailed) -> None:
        self.facts.end, self.facts.end_time = end, event.time

    def edited(self, event: Recorded, payload: model.SessionEdited) -> None:
        changed = {
            name: getattr(payload, name)
            for name in ("message", "tool", "model", "params", "prompt")
            if getattr(payload, name) is not None
        }
        self._note(event, f"a fork changes {', '.join(changed)}", as_json(changed))

    # -- agents and messages

    def agent_started(self, event: Recorded, payload: model.AgentStarted) -> None:
        self._use(payload.definition)
        self._begin(event, "agent", payload.call, f"agent {payload.agent} is asked")

    def agent_succeeded(self, _: Recorded, payload: model.AgentSucceeded) -> None:
        result = "" if payload.parsed is None else as_json(payload.parsed)
        self._end("agent", payload.call, "done", result or "it answers")

    def agent_failed(self, _: Recorded, payload: model.AgentFailed) -> None:
        self._end("agent", payload.call, "failed", error_text(payload.error))

    def message(self, event: Recorded, payload: model.MessageAdded) -> None:
        source = "" if payload.prompt is None else f", of the prompt {payload.prompt}"
        self._note(event, f"message ({payload.why}{source})", content_text(payload.content))

    # -- models

    def requested(self, event: Recorded, payload: model.LLMRequested) -> None:
        if payload.definition is not None:
            self._use(payload.definition)
        attempt = "" if payload.attempt == 1 else f", try {payload.attempt}"
        what = f"model {payload.model} of {payload.provider} is asked{attempt}"
        self._begin(event, "request", payload.request, what)

    def responded(self, _: Recorded, payload: model.LLMResponded) -> None:
        self._bill(payload.asked, payload.price)
        text = content_text(payload.content)
        if payload.model != payload.asked:
            text = f"[{payload.model}] {text}"
        if payload.finish not in ("stop", "tool_calls"):
            text = f"{text} [stopped: {payload.finish}]"
        step = self._end("request", payload.request, "done", text)
        if step is not None:
            step.nanos = payload.price.nanos

    def request_failed(self, _: Recorded, payload: model.LLMFailed) -> None:
        text = error_text(payload.error)
        if payload.partial is not None:
            text = f"{text}; by then: {content_text(payload.partial)}"
        step = self._end("request", payload.request, "failed", text)
        if payload.price is not None:
            self._bill(payload.asked, payload.price)
            if step is not None:
                step.nanos = payload.price.nanos

    def refused(self, _: Recorded, payload: model.LLMRefused) -> None:
        step = self._open.get(("request", payload.request))
        if step is not None:
            step.state = "refused"
            step.result = f"{step.result} [refused: {payload.reason}]"

    def retried(self, event: Recorded, payload: model.RetryScheduled) -> None:
        why = "the answer was no good" if payload.kind == "exception" else "the call failed"
        what = f"asking again ({payload.attempt} of {payload.limit}), since {why}"
        self._note(event, what, payload.reason)

    def _bill(self, asked: str, price: model.Price) -> None:
        if price.nanos is None:
            self.facts.unpriced.append(f"{asked}: {price.reason or 'no price is known'}")
        else:
            self.facts.nanos += price.nanos

    # -- tools

    def tool_called(self, event: Recorded, payload: model.ToolCalled) -> None:
        arguments = "" if payload.arguments is None else as_json(payload.arguments)
        self._begin(event, "tool", payload.tool, f"tool {payload.name}({arguments})")

    def tool_returned(self, _: Recorded, payload: model.ToolReturned) -> None:
        result = content_text(payload.content)
        if payload.repeats is not None:
            result = f"{result} [the result of tool call {payload.repeats} again]"
        self._end("tool", payload.tool, "done", result)

    def tool_failed(self, _: Recorded, payload: model.ToolFailed) -> None:
        self._end("tool", payload.tool, "failed", error_text(payload.error))

    def _use(self, stream: str) -> None:
        if stream in self._definitions:
            return
        self._definitions.add(stream)
        defined = self._read_definition(stream)
        if defined is None:
            used = AgentUsed("?", "?", "not in the log", (), (), stream)
        else:
            tools = (f"{tool.name} {version_of(tool)}" for tool in defined.tools)
            used = AgentUsed(
                defined.name, defined.model, version_of(defined.system), defined.prompts,
                tuple(tools), stream,
            )  # fmt: skip
        self.facts.agents.append(used)


_HANDLERS: dict[type[Event], Callable[..., None]] = {
    model.SessionStarted: _Reading.started,
    model.SessionSucceeded: _Reading.ended,
    model.SessionFailed: _Reading.ended,
    model.SessionEdited: _Reading.edited,
    model.AgentStarted: _Reading.agent_started,
    model.AgentSucceeded: _Reading.agent_succeeded,
    model.AgentFailed: _Reading.agent_failed,
    model.MessageAdded: _Reading.message,
    model.LLMRequested: _Reading.requested,
    model.LLMResponded: _Reading.responded,
    model.LLMFailed: _Reading.request_failed,
    model.LLMRefused: _Reading.refused,
    model.RetryScheduled: _Reading.retried,
    model.ToolCalled: _Reading.tool_called,
    model.ToolReturned: _Reading.tool_returned,
    model.ToolFailed: _Reading.tool_failed,
}
# The last three of these decide nothing, or nothing is left to decide.
_KNOWN = {*_HANDLERS, model.DialogOpened, model.ValueDrawn, model.Erased}


def version_of(definition: object) -> str:
    """Compute the version of a prompt or tool, which changes whenever its content changes.

    Args:
        definition: The text of a prompt, or the definition of a tool as the model gets it.

    Returns:
        The first 12 hex digits of the SHA-256 of the text, or of the JSON.
    """
    data = definition.encode("utf-8", "surrogatepass") if isinstance(definition, str) else (
        codec.encode(definition)
    )  # fmt: skip
    return sha256(data).hexdigest()[:_VERSION]


def as_json(value: object) -> str:
    """Format a recorded value as one line of JSON; a text is returned unchanged.

    Args:
        value: A value of JSON.
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def error_text(error: Error) -> str:
    """Format a recorded error as one text.

    Args:
        error: The recorded error.
    """
    status = "" if error.status is None else f" (HTTP {error.status})"
    return f"{error.type}{status}: {error.message}"


def content_text(content: Content) -> str:
    """Format the content of a message: texts, other parts, and the tools that it requests.

    Args:
        content: The content of the message.
    """
    parts = [
        part.text or "" if part.kind == "text" else f"[{part.kind}] {part.text or ''}".strip()
        for part in content.parts
    ]
    parts += [f"[asks for {call.name}({call.arguments})]" for call in content.tool_calls]
    return " ".join(part for part in parts if part)


_PLAIN = ("by", "about", "salt")


def _told(said: dict[str, object], payload: Event) -> str:
    """Format a statement, without the fields that the report shows elsewhere or nobody reads."""
    if isinstance(payload, model.Erased):
        return "(its content was erased)"
    if isinstance(payload, model.SessionErased):
        return f"reason: {payload.reason}; {payload.events:,} payloads"
    return "; ".join(
        f"{name}: {as_json(value)}" for name, value in said.items()
        if name not in _PLAIN and not name.startswith("$")
    )  # fmt: skip


def has_definition(events: Sequence[Recorded]) -> AgentDefined | None:
    """Decode the definition of an agent from its stream; None if there is none.

    Args:
        events: The events of the stream.
    """
    decoded = codec.decode(events[0]) if events else None
    return decoded if isinstance(decoded, AgentDefined) else None
