"""Makes the rows of calls, attempts, messages and tools from the events of a session."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from lllm.analytics.arrow_batches import TableRow
from lllm.analytics.columns import TableName
from lllm.analytics.payload_columns import (
    NO_TOKENS,
    error_columns,
    json_text,
    price_columns,
    text_columns,
    token_columns,
)
from lllm.events import codec
from lllm.events.envelope import Recorded
from lllm.events.model import (
    AgentFailed,
    AgentStarted,
    AgentSucceeded,
    Content,
    Error,
    Event,
    LLMFailed,
    LLMRefused,
    LLMRequested,
    LLMResponded,
    MessageAdded,
    RetryScheduled,
    State,
    ToolCalled,
    ToolFailed,
    ToolReturned,
)

AddRow = Callable[[TableRow], object]
VersionOf = Callable[[str], int | None]

_AGENTS = ("agent.started", "agent.succeeded", "agent.failed")
_MODELS = ("llm.requested", "llm.responded", "llm.failed", "llm.refused")
_TOOLS = ("tool.called", "tool.returned", "tool.failed")
TYPES: dict[TableName, tuple[str, ...]] = {
    "calls": (*_AGENTS, "llm.requested", "tool.called", "retry.scheduled"),
    "attempts": (*_AGENTS, *_MODELS),
    "messages": ("message.added", *_AGENTS, *_MODELS, *_TOOLS),
    "tools": (*_AGENTS, "llm.requested", *_TOOLS),
}
"""The events that each table is made of."""

_WASTED = -3  # the place of this column in a row of an attempt
_WAITING = 1_000  # ended attempts outside of agents whose answer may still be rejected


class _OpenCall:
    """A call of an agent that has not ended, and the rows of its ended attempts."""

    __slots__ = ("attempts", "began", "retries", "started", "tool_calls", "waiting")

    def __init__(self, time: int, started: AgentStarted) -> None:
        self.began = time
        self.started = started
        self.attempts = self.retries = self.tool_calls = 0
        self.waiting: dict[int, list[object]] = {}  # by the number of the request


class EventRows:
    """Takes the events of one session in order, and adds rows.

    The row of an attempt waits until its agent's call has ended, because an answer can be rejected
    later; outside of agents it waits for the next thousand attempts.

    Args:
        where: The ids of the session and its root, and the path of its tactic.
        state: The state of the session; what has not ended then is running or interrupted.
        add: A function that adds a row to a table, for each table that is wanted.
        version_of: Returns which version of its agent a definition is.
    """

    def __init__(
        self,
        where: tuple[str, str, str],
        state: State,
        add: Mapping[TableName, AddRow],
        version_of: VersionOf,
    ) -> None:
        self._where = where
        self._unended: State = "running" if state == "running" else "interrupted"
        self._attempt = add.get("attempts", _drop)
        self._call = add.get("calls", _drop)
        self._message = add.get("messages", _drop)
        self._tool = add.get("tools", _drop)
        self._version_of = version_of
        self._calls: dict[int, _OpenCall] = {}
        self._waiting: dict[int, list[object]] = {}  # ended attempts outside of open calls
        self._agents: dict[int, str] = {}  # the names of all agents, by the number of their call
        self._asked: dict[int, tuple[int, LLMRequested]] = {}  # attempts that have not ended
        self._turns: dict[int, tuple[int | None, int | None]] = {}  # request -> call, dialog
        self._tools: dict[int, tuple[int, ToolCalled]] = {}  # tools that have not returned

    def take(self, event: Recorded) -> None:
        """Take the next event; one of another type changes nothing."""
        payload = codec.decode(event)
        handler = _HANDLERS.get(type(payload))
        if handler is not None:
            handler(self, payload, event.time)

    def finish(self) -> None:
        """Add the rows of what has not ended."""
        for request, (time, asked) in self._asked.items():
            self._keep(asked.call, request, self._attempt_row(request, time, asked, None, None))
        for tool, (time, called) in self._tools.items():
            self._add_tool(tool, time, called, self._unended, None, None, None, None, None)
        for call in self._calls.values():
            self._add_call(call, self._unended, None, None, None, False)
        for row in self._waiting.values():
            self._attempt(row)

    # -- Agents

    def _begin_call(self, started: AgentStarted, time: int) -> None:
        self._agents[started.call] = started.agent
        self._calls[started.call] = _OpenCall(time, started)

    def _succeed_call(self, ended: AgentSucceeded, time: int) -> None:
        call = self._calls.pop(ended.call, None)
        if call is not None:
            self._add_call(call, "success", time, ended.elapsed, None, False)

    def _fail_call(self, ended: AgentFailed, time: int) -> None:
        call = self._calls.pop(ended.call, None)
        if call is not None:
            self._add_call(call, "failure", time, ended.elapsed, ended.error, ended.cancelled)

    def _add_call(
        self,
        call: _OpenCall,
        state: State,
        ended: int | None,
        elapsed: int | None,
        error: Error | None,
        cancelled: bool,
    ) -> None:
        for row in call.waiting.values():
            self._attempt(row)
        started = call.started
        self._call((
            *self._where, started.call, started.agent, started.definition,
            self._version_of(started.definition), started.dialog, state,
            call.began, ended, elapsed, call.attempts, call.retries, call.tool_calls, cancelled,
            *error_columns(error),
        ))  # fmt: skip

    def _retry(self, retry: RetryScheduled, _: int) -> None:
        call = self._calls.get(retry.call)
        if call is not None:
            call.retries += 1

    # -- Models

    def _ask(self, asked: LLMRequested, time: int) -> None:
        self._asked[asked.request] = (time, asked)
        self._turns[asked.request] = (asked.call, asked.dialog)
        call = None if asked.call is None else self._calls.get(asked.call)
        if call is not None:
            call.attempts += 1

    def _answer(self, ended: LLMResponded, time: int) -> None:
        self._end_attempt(ended, time)
        _, dialog = self._turns.get(ended.request, (None, None))
        self._add_message(
            ended.message, dialog, "answer", time, ended.request, None, None, ended.content
        )

    def _end_attempt(self, ended: LLMResponded | LLMFailed, time: int) -> None:
        began, asked = self._asked.pop(ended.request, (time - ended.elapsed, None))
        row = self._attempt_row(ended.request, began, asked, ended, time)
        self._keep(None if asked is None else asked.call, ended.request, row)

    def _keep(self, call: int | None, request: int, row: list[object]) -> None:
        """Let a row wait in case that its answer is rejected."""
        open_call = None if call is None else self._calls.get(call)
        waiting = self._waiting if open_call is None else open_call.waiting
        waiting[request] = row
        if len(waiting) > _WAITING:
            self._attempt(waiting.pop(next(iter(waiting))))

    def _refuse(self, refused: LLMRefused, _: int) -> None:
        for waiting in (self._waiting, *(call.waiting for call in self._calls.values())):
            if refused.request in waiting:
                waiting[refused.request][_WASTED] = True

    def _attempt_row(
        self,
        request: int,
        began: int,
        asked: LLMRequested | None,
        ended: LLMResponded | LLMFailed | None,
        time: int | None,
    ) -> list[object]:
        call = None if asked is None else asked.call
        agent = self._agents.get(call, "") if call is not None else ""
        definition = None if asked is None else asked.definition
        if definition is None and call in self._calls:
            definition = self._calls[call].started.definition
        version = None if definition is None else self._version_of(definition)
        row: list[object] = [*self._where, request, call, ended.agent if ended else agent]
        if asked is None:  # the request can't be read; the attempt counts all the same
            row += [0, 1, definition, version, "", "", "", None, None]
            row += [ended.asked if ended else "", ended.model if ended else None, False]
        else:
            row += [
                asked.step, asked.attempt, definition, version, asked.operation, asked.provider,
                asked.api, asked.host, asked.region, asked.model, ended.model if ended else None,
                asked.stream,
            ]  # fmt: skip
        if ended is None:
            row += [None, self._unended, False, None, None, None, None, None, began, None, None]
            row += [None, *NO_TOKENS, None, None, None, False, None, None]
            return row
        row.append(ended.service_tier)
        if isinstance(ended, LLMResponded):
            row += ["success", False, ended.finish, None, None, None, None]
            first_token, response_id, wasted = ended.first_token, ended.response_id, False
        else:
            error = ended.error
            row += ["failure", ended.cancelled, None, error.status, error.code]
            row += [error.type, error.message]
            first_token, response_id, wasted = None, None, True
        row += [began, time, ended.elapsed, first_token, *token_columns(ended.usage)]
        row += [*price_columns(ended.price, ended.usage), wasted, response_id, ended.request_id]
        return row

    # -- Messages

    def _hear(self, added: MessageAdded, time: int) -> None:
        self._add_message(
            added.message, added.dialog, added.why, time, None, None, added.prompt, added.content
        )

    def _add_message(
        self,
        message: int,
        dialog: int | None,
        why: str,
        time: int,
        request: int | None,
        tool: int | None,
        prompt: str | None,
        content: Content,
    ) -> None:
        self._message((
            *self._where, message, dialog, content.role, why, time, request, tool, prompt,
            *text_columns(content),
        ))  # fmt: skip

    # -- Tools

    def _call_tool(self, called: ToolCalled, time: int) -> None:
        self._tools[called.tool] = (time, called)
        number, _ = self._turns.get(called.request, (None, None))
        call = None if number is None else self._calls.get(number)
        if call is not None:
            call.tool_calls += 1

    def _end_tool(self, ended: ToolReturned | ToolFailed, time: int) -> None:
        began, called = self._tools.pop(ended.tool, (time, None))
        if called is not None:
            failed = isinstance(ended, ToolFailed)
            self._add_tool(
                ended.tool, began, called, "failure" if failed else "success", time, ended.elapsed,
                ended.content.text, None if isinstance(ended, ToolFailed) else ended.repeats,
                ended.error if isinstance(ended, ToolFailed) else None,
            )  # fmt: skip
        request = None if called is None else called.request
        _, dialog = (None, None) if request is None else self._turns.get(request, (None, None))
        self._add_message(
            ended.message, dialog, "tool", time, request, ended.tool, None, ended.content
        )

    def _add_tool(
        self,
        tool: int,
        began: int,
        called: ToolCalled,
        state: State,
        ended: int | None,
        elapsed: int | None,
        result: str | None,
        repeats: int | None,
        error: Error | None,
    ) -> None:
        call, _ = self._turns.get(called.request, (None, None))
        agent = "" if call is None else self._agents.get(call, "")
        arguments = None if called.arguments is None else json_text(called.arguments)
        self._tool((
            *self._where, tool, called.request, call, agent, called.name, called.call_id, state,
            began, ended, elapsed, arguments, result, repeats, *error_columns(error),
        ))  # fmt: skip


# Each handler takes the events of its own type.
_HANDLERS: dict[type[Event], Callable[[EventRows, Any, int], None]] = {
    AgentStarted: EventRows._begin_call,
    AgentSucceeded: EventRows._succeed_call,
    AgentFailed: EventRows._fail_call,
    RetryScheduled: EventRows._retry,
    LLMRequested: EventRows._ask,
    LLMResponded: EventRows._answer,
    LLMFailed: EventRows._end_attempt,
    LLMRefused: EventRows._refuse,
    MessageAdded: EventRows._hear,
    ToolCalled: EventRows._call_tool,
    ToolReturned: EventRows._end_tool,
    ToolFailed: EventRows._end_tool,
}


def types_of(tables: Collection[TableName]) -> list[str]:
    """List the types of the events that some tables are made of.

    Args:
        tables: The names of the tables.

    Returns:
        The types, sorted; none for tables that are made of rows alone.
    """
    return sorted({kind for table in tables for kind in TYPES.get(table, ())})


def _drop(_: TableRow) -> None:
    """Add a row to a table that is not wanted."""
