"""Lists what happened in a session, step by step, so that two sessions can be compared.

Steps of two sessions are matched by their place, never by their time. Ids that a provider draws
anew for each call are left out, and so is reasoning that only the provider can read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal, TypeAlias

import msgspec

from lllm.events.model import (
    AgentDefined,
    Content,
    LLMFailed,
    LLMRequested,
    LLMResponded,
    SessionFailed,
    SessionSucceeded,
    ToolFailed,
)
from lllm.replay.comparison import content_of, json_lines, message_lines, setting_lines
from lllm.replay.divergence import ReplayPlace
from lllm.replay.recorded_agents import MessageEvent, RecordedAttempt, RecordedTool
from lllm.replay.recorded_clients import ClientAttempt, ClientCall
from lllm.replay.recorded_session import RecordedSession

StepKind = Literal["session", "request", "answer", "tool", "end"]
Key: TypeAlias = tuple[object, ...]
Lines: TypeAlias = tuple[str, ...]
# The compared parts by name. Each part is a list of texts in lines, such as one for each message.
Parts: TypeAlias = Mapping[str, Sequence[Lines]]


class SessionStep(msgspec.Struct, frozen=True):
    """One step: a session begins or ends, a model is asked or answers, a tool gives its result.

    Attributes:
        key: Identifies the step; the same step of another session has an equal key.
        kind: What happens: "session" (it begins), "request", "answer", "tool" or "end".
        place: The place of the step, by tactic, agent, dialog and step.
        position: The position of the step in the log.
        parts: A function that gives the parts to compare, by their names.
    """

    key: Key
    kind: StepKind
    place: ReplayPlace
    position: int
    parts: Callable[[], Parts]


class StepReader:
    """Reads the steps of one of two compared sessions, and of the sessions below it.

    Args:
        root: The top session of this side.
    """

    def __init__(self, root: RecordedSession) -> None:
        self._root = root
        self._messages: dict[int, Lines] = {}  # by id() of the event, which the session keeps alive

    def asked(self, session: RecordedSession, client: ClientCall) -> Hashable:
        """Make a key of a captured client's request, by which an equal call can be found.

        Args:
            session: The session that made the call.
            client: The call of the captured client.
        """
        parts = self._request(session, client.requested, client.definition)
        return tuple((name, tuple(lines)) for name, lines in parts.items())

    def steps_of(
        self, session: RecordedSession, path: Key, clients: Mapping[int, int]
    ) -> Iterator[SessionStep]:
        """Iterate over the steps of one session, without the sessions below it.

        Args:
            session: The session to read.
            path: The beginning of the keys of the session's steps.
            clients: The numbers of the captured clients' calls by their step, as `client_numbers`
                gives them; the same call of another session has the same number.
        """
        place = ReplayPlace(
            tactic=session.tactic_path,
            child=None if session is self._root else session.started.ordinal,
        )
        yield SessionStep(
            (*path, "session"), "session", place, session.first, partial(_start, session)
        )
        for attempt in session.attempts():
            call, requested = attempt.call, attempt.requested
            here = msgspec.structs.replace(
                place, agent=call.started.agent, dialog=call.alias, respond=call.nth,
                step=requested.step, attempt=requested.attempt,
            )  # fmt: skip
            key = (*path, "agent", here.agent, here.dialog, here.respond, here.step, here.attempt)
            yield from self._attempt(session, attempt, attempt.definition, key, here)
            for index, tool in enumerate(attempt.tools):
                there = msgspec.structs.replace(here, tool=tool.called.name)
                at = tool.ended or attempt.position
                yield SessionStep((*key, index), "tool", there, at, partial(_tool, tool))
        for client in session.captured.values():
            for one in client.attempts.values():
                here = msgspec.structs.replace(
                    place, client=one.requested.operation, dialog=client.place, step=client.step,
                    attempt=one.requested.attempt,
                )  # fmt: skip
                key = (*path, "client", clients[client.step], here.attempt)
                yield from self._attempt(session, one, client.definition, key, here)
        last = session.first if session.last is None else session.last.position
        yield SessionStep((*path, "end"), "end", place, last, partial(_end, session.end))

    def _attempt(
        self,
        session: RecordedSession,
        attempt: RecordedAttempt | ClientAttempt,
        definition: AgentDefined | None,
        key: Key,
        place: ReplayPlace,
    ) -> Iterator[SessionStep]:
        asked = partial(self._request, session, attempt.requested, definition)
        yield SessionStep((*key, "request"), "request", place, attempt.position, asked)
        if attempt.end is not None:
            answered = partial(_answer, attempt.end)
            yield SessionStep((*key, "answer"), "answer", place, attempt.position, answered)

    def _request(
        self, session: RecordedSession, requested: LLMRequested, definition: AgentDefined | None
    ) -> Parts:
        messages = [event for _, event in session.messages(requested)]
        roles = [content_of(event).role for event in messages]
        said = next((at for at, role in enumerate(roles) if role != "system"), len(roles))
        lines = [*map(self._message, messages)]
        parts: Parts = {"system prompt": lines[:said], "messages": lines[said:]}
        return {**parts, **_settings(requested, definition)}

    def _message(self, event: MessageEvent) -> Lines:
        lines = self._messages.get(id(event))
        if lines is None:
            lines = self._messages[id(event)] = _message_lines(content_of(event))
        return lines


# -- lines


def _lines(value: object) -> Lines:
    return () if value is None else tuple(json_lines(value))


def _start(session: RecordedSession) -> Parts:
    return {
        "tactic": [(session.tactic_path,)],
        "task": [_lines(session.started.task)],
        "options": [_lines(session.started.options)],
    }


def _message_lines(content: Content) -> Lines:
    return tuple(message_lines(_comparable(content)))


def _comparable(content: Content) -> object:
    """Give a message as JSON values, without the ids that a provider draws anew."""
    plain: dict[str, object] = {"role": content.role}
    plain["parts"] = [
        {"kind": part.kind, "text": part.text}
        if part.kind == "reasoning"
        else msgspec.to_builtins(part)
        for part in content.parts
    ]
    plain["tool_calls"] = [
        {"name": call.name, "arguments": call.arguments, "id": ""} for call in content.tool_calls
    ]
    return plain


def _settings(requested: LLMRequested, definition: AgentDefined | None) -> Parts:
    params = requested.params
    if definition is not None and params is None:
        params = definition.params
    elif definition is not None and isinstance(params, dict):
        params = {**(definition.params if isinstance(definition.params, dict) else {}), **params}
    tools = () if definition is None else definition.tools
    found: dict[str, object] = {
        "model": requested.model,
        "params": params or None,
        "tools": msgspec.to_builtins(tools) or None,
        "output schema": None if definition is None else definition.output_schema,
        "tool choice": requested.tool_choice,
    }
    return {
        name: [] if value is None else [tuple(setting_lines(name, value))]
        for name, value in found.items()
    }


def _answer(end: LLMResponded | LLMFailed) -> Parts:
    if isinstance(end, LLMResponded):
        return {"answer": [_message_lines(end.content)], "error": []}
    return {"answer": [], "error": [_error(end.error.type, end.error.message)]}


def _error(kind: str, message: str) -> Lines:
    return (f"{kind}:", *message.splitlines())


def _tool(tool: RecordedTool) -> Parts:
    end = tool.end
    result: Lines = ("(it has no end)",) if end is None else tuple(end.content.text.splitlines())
    return {
        "arguments": [_lines(tool.called.arguments)],
        "result": [result],
        "error": [(end.error.type,)] if isinstance(end, ToolFailed) else [],
    }


def _end(end: SessionSucceeded | SessionFailed | None) -> Parts:
    delivery = None if end is None else end.delivery
    failed = end if isinstance(end, SessionFailed) else None
    return {
        "delivery": [_lines(delivery)],
        "error": [] if failed is None else [_error(failed.error.type, failed.error.message)],
        "state": [("it has no end",)] if end is None else [],
    }
