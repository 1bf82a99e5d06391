"""A small store whose sums, times and counts are known: what analysts' questions are tried on."""

from __future__ import annotations

import datetime as dt
import itertools

from lllm.events import codec
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.ids import new_id, new_salt
from lllm.events.log import LogBackend
from lllm.events.model import (
    AgentDefined,
    AgentStarted,
    AgentSucceeded,
    Ancestor,
    Content,
    DialogOpened,
    Error,
    Event,
    Limits,
    LLMFailed,
    LLMRefused,
    LLMRequested,
    LLMResponded,
    MessageAdded,
    Part,
    Price,
    RetryScheduled,
    SessionStarted,
    SessionSucceeded,
    SessionTagged,
    ToolCall,
    ToolCalled,
    ToolFailed,
    ToolReturned,
    Usage,
)

MS = 1_000_000
CENT = 10_000_000  # nano-dollars
VERSIONS = ("definition-a", "definition-b")


def at(text: str) -> int:
    """A time in UTC, as nanoseconds."""
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()) * 10**9


class Stream:
    """One session, whose events are appended one by one, at the times that they are given."""

    def __init__(
        self, log: LogBackend, tactic: str, time: int, tags: dict[str, str], above: Stream | None
    ) -> None:
        self.id, self.tactic = new_id(time), tactic
        self.log, self._salt = log, new_salt()
        self._lineage: tuple[Ancestor, ...] = (
            () if above is None else (*above._lineage, Ancestor(above.id, above.tactic))
        )
        self._seq = itertools.count(1)
        self._requests, self._messages = itertools.count(1), itertools.count(1)
        self._tools = itertools.count(1)
        self.add(
            time,
            SessionStarted(
                tactic_path=tactic, name=tactic.rpartition(":")[2], task=f"Task of {tactic}",
                tags=tags, ancestors=self._lineage, salt=self._salt,
            ),
        )  # fmt: skip

    def add(self, time: int, event: Event) -> None:
        """Append an event."""
        self.log.append([sealed(self._salt, self.id, next(self._seq), time, event)])

    def agent(self, time: int, call: int, definition: str) -> None:
        """An agent begins, with a dialog and a question."""
        self.add(time, DialogOpened(dialog=call, agent="clerk", alias="main"))
        message = next(self._messages)
        self.add(time, MessageAdded(message=message, dialog=call, why="user", prompt="shop/ask",
                                    content=Content.of("user", "How much?")))  # fmt: skip
        self.add(time, AgentStarted(call=call, agent="clerk", definition=definition, dialog=call,
                                    ordinal=call, limits=Limits(3, 3, 10)))  # fmt: skip

    def ask(
        self,
        time: int,
        *,
        model: str = "gpt-4o-mini",
        call: int | None = 1,
        elapsed: int = 1_000,
        first_token: int | None = None,
        usage: Usage | None = None,
        cents: int | None = 1,
        status: int | None = None,
        attempt: int = 1,
        tools: tuple[ToolCall, ...] = (),
        reasoning: str = "",
        end: bool = True,
    ) -> int:
        """An attempt to call a model, which takes `elapsed` milliseconds."""
        request = next(self._requests)
        agent = "" if call is None else "clerk"
        self.add(time, LLMRequested(
            request=request, call=call, step=1, attempt=attempt, provider="openai",
            api="chat.completions", host="api.example", model=model, dialog=call, digest="d",
        ))  # fmt: skip
        if not end:
            return request
        ended = time + elapsed * MS
        if status is not None:
            error = Error("RateLimitError", "Slow down.", code="rate_limit", status=status)
            self.add(ended, LLMFailed(request=request, agent=agent, asked=model, error=error,
                                      elapsed=elapsed * MS))  # fmt: skip
            if call is not None:
                self.add(ended, RetryScheduled(call=call, request=request, kind="llm_recall",
                                               attempt=1, limit=3, reason="429"))  # fmt: skip
            return request
        price = (
            Price("unpriced", reason="no such model") if cents is None
            else Price("priced", nanos=cents * CENT, parts={"input": cents * CENT})
        )  # fmt: skip
        parts = (*((Part("reasoning", reasoning),) if reasoning else ()), Part("text", "Three."))
        self.add(ended, LLMResponded(
            request=request, message=next(self._messages), finish="stop", agent=agent,
            content=Content("assistant", parts, tools), asked=model, model=f"{model}-2026",
            usage=usage or Usage(1_000, 100), price=price, elapsed=elapsed * MS,
            first_token=None if first_token is None else first_token * MS,
        ))  # fmt: skip
        return request

    def tool(self, time: int, request: int, name: str, *, fails: bool = False) -> None:
        """A tool runs for half a second."""
        number, message = next(self._tools), next(self._messages)
        self.add(time, ToolCalled(tool=number, request=request, call_id=f"c{number}", name=name,
                                  arguments={"city": "Berlin"}))  # fmt: skip
        content = Content("tool", (Part("text", "no" if fails else "3.7"),), call_id=f"c{number}")
        end = time + 500 * MS
        if fails:
            self.add(end, ToolFailed(tool=number, message=message, content=content,
                                     error=Error("KeyError", "no"), elapsed=500 * MS))  # fmt: skip
        else:
            self.add(end, ToolReturned(tool=number, message=message, content=content,
                                       elapsed=500 * MS))  # fmt: skip

    def refuse(self, time: int, request: int, cents: int, model: str = "gpt-4o-mini") -> None:
        """The answer of an attempt can't be used."""
        self.add(time, LLMRefused(request=request, agent="clerk", asked=model, cost=cents * CENT,
                                  reason="not JSON"))  # fmt: skip

    def end_agent(self, time: int, call: int = 1) -> None:
        """The agent has its answer."""
        self.add(time, AgentSucceeded(call=call, answer=1, elapsed=5_000 * MS))

    def end(self, time: int) -> None:
        """The session succeeds."""
        self.add(time, SessionSucceeded(delivery="Three.", elapsed=9_000 * MS))


def sealed(salt: bytes, stream: str, seq: int, time: int, event: Event) -> NewEvent:
    """An event as a log takes it."""
    return seal(salt, stream, seq, time, event.type, event.version, codec.encode(event))


def tag(log: LogBackend, session_id: str, name: str, value: str) -> None:
    """Give a session a tag, later."""
    time, salt = at("2026-11-20T00:00:00"), new_salt()
    event = SessionTagged(about=session_id, set={name: value}, salt=salt)
    log.append([sealed(salt, f"tagged-{new_id(time)}", 1, time, event)])


def fill(log: LogBackend) -> dict[str, str]:
    """Append the sessions; their ids by name."""
    for number, stream in enumerate(VERSIONS):
        salt = bytes([number]) * 32
        defined = AgentDefined(name="clerk", system=f"{number}", model="gpt-4o-mini", salt=salt)
        log.append([sealed(salt, stream, 1, at("2026-10-01T00:00:00"), defined)])
    ids = {}

    # October, until November: two attempts in one hour fail, and a child goes on after midnight.
    first = Stream(log, "shop::answer", at("2026-10-31T23:00:00"), {"team": "blue"}, None)
    first.agent(at("2026-10-31T23:00:01"), 1, VERSIONS[0])
    first.ask(at("2026-10-31T23:10:00"), status=429, elapsed=100)
    first.ask(at("2026-10-31T23:11:00"), status=429, elapsed=100, attempt=2)
    first.ask(at("2026-10-31T23:12:00"), attempt=3, elapsed=9_000, first_token=400,
              usage=Usage(1_000, 100, cache_read=600))  # fmt: skip
    first.end_agent(at("2026-10-31T23:13:00"))
    child = Stream(log, "shop::lookup", at("2026-10-31T23:50:00"), {"step": "2"}, first)
    child.ask(at("2026-11-01T00:10:00"), call=None, model="gpt-4o", elapsed=2_000, cents=50,
              first_token=900)  # fmt: skip
    child.end(at("2026-11-01T00:11:00"))
    first.end(at("2026-11-01T00:12:00"))
    ids |= {"october": first.id, "child": child.id}

    # November: version 2 of the prompt, tools, and an answer that could not be used.
    second = Stream(log, "shop::answer", at("2026-11-10T10:00:00"), {"team": "red"}, None)
    second.agent(at("2026-11-10T10:00:01"), 1, VERSIONS[1])
    calls = tuple(ToolCall(f"c{n}", "lookup", "{}") for n in (1, 2))
    request = second.ask(at("2026-11-10T10:01:00"), elapsed=3_000, tools=calls, cents=4,
                         reasoning="Hm.")  # fmt: skip
    second.tool(at("2026-11-10T10:02:00"), request, "lookup", fails=True)
    second.tool(at("2026-11-10T10:03:00"), request, "lookup", fails=True)
    request = second.ask(at("2026-11-10T10:04:00"), elapsed=1_000, cents=3)
    second.refuse(at("2026-11-10T10:04:02"), request, 3)
    request = second.ask(at("2026-11-10T10:05:00"), elapsed=1_000, attempt=2, cents=3)
    second.tool(at("2026-11-10T10:06:00"), request, "lookup")
    second.tool(at("2026-11-10T10:06:30"), request, "add")
    second.end_agent(at("2026-11-10T10:07:00"))
    second.end(at("2026-11-10T10:08:00"))

    # A model whose price nobody knows; and a session that still runs.
    third = Stream(log, "lab::try", at("2026-11-11T10:00:00"), {"team": "red"}, None)
    third.ask(at("2026-11-11T10:01:00"), call=None, model="local", cents=None, elapsed=20_000)
    third.end(at("2026-11-11T10:02:00"))
    fourth = Stream(log, "lab::try", at("2026-11-12T10:00:00"), {}, None)
    fourth.ask(at("2026-11-12T10:01:00"), call=None, model="gpt-4o", end=False)
    return ids | {"november": second.id, "unpriced": third.id, "running": fourth.id}
