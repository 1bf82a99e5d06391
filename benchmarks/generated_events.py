"""The events of one session, as a Recorder would write them.

A session is an iterator of moments; each is what one append of a Recorder holds. `conversation` is
the usual session, of about 24 events; `glance` is the smallest that a list or a bill can tell from
another: one call to a model, in four events.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Generator, Iterator, Sequence
from functools import cache
from typing import TypeVar

import msgspec

from benchmarks.generated_tags import Tags
from benchmarks.generated_texts import pool
from lllm.events import codec
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
    LLMRequested,
    LLMResponded,
    MessageAdded,
    Price,
    Producer,
    RetryScheduled,
    SessionFailed,
    SessionStarted,
    SessionSucceeded,
    ToolCall,
    ToolCalled,
    ToolReturned,
    Usage,
)

Moment = Sequence[Event]
_T = TypeVar("_T")

AGENT = AgentDefined(
    name="analyst",
    system="You are a careful analyst. Answer from the sources only.",
    provider="openai",
    model="gpt-4o-mini",
    params={"temperature": 0.2},
)
DIGEST = hashlib.sha256(codec.encode(AGENT)).hexdigest()
DEFINITION = f"definition-{DIGEST}"
_RATES = {"gpt-4o-mini": (150, 600), "gpt-4o": (2_500, 10_000), "claude-haiku-4-5": (1_000, 5_000)}
_MODELS = tuple(_RATES)
_BILLS = 500  # that differ, of each model
_LIMITS = Limits(3, 3, 10)
_PRODUCER = Producer("0.1.0", "3.11.7")
_SYSTEM = Content.of("system", AGENT.system)
_ELAPSED = 9_120_000_000
_TRACEBACK = "Traceback (most recent call last):\n" + "".join(
    f'  File "/srv/app/shop/{name}.py", line {line}, in {name}\n    return self.{name}(task)\n'
    for name, line in (("call", 31), ("respond", 88), ("parse", 12), ("price", 140))
)


class _Bill(msgspec.Struct, frozen=True):
    """What one answer used and cost."""

    usage: Usage
    raw: dict[str, int]
    price: Price
    elapsed: int


class Material:
    """What sessions are made of: chance, and a round of texts and of bills to draw from."""

    def __init__(self, chance: random.Random, message_bytes: int) -> None:
        self.chance = chance
        asked, answered = _contents(message_bytes)
        self.asked = _from_anywhere(asked, chance)
        self.answered = _from_anywhere(answered, chance)
        self._bills = {model: _from_anywhere(_bills(model), chance) for model in _MODELS}

    def model(self) -> str:
        """One that an agent might use."""
        return self.chance.choice(_MODELS)

    def bill(self, model: str) -> _Bill:
        """The next of a model."""
        return next(self._bills[model])


def _from_anywhere(values: Sequence[_T], chance: random.Random) -> Iterator[_T]:
    start = chance.randrange(len(values))
    return itertools.cycle([*values[start:], *values[:start]])


@cache
def _contents(message_bytes: int) -> tuple[list[Content], list[Content]]:
    texts = pool(random.Random(1), message_bytes)
    return [Content.of("user", text) for text in texts], [
        Content.of("assistant", text) for text in texts
    ]


@cache
def _bills(model: str) -> list[_Bill]:
    chance = random.Random(model)
    return [_bill(model, chance) for _ in range(_BILLS)]


def _bill(model: str, chance: random.Random) -> _Bill:
    usage = Usage(input=chance.randrange(300, 4_000), output=chance.randrange(40, 600))
    raw = {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
    }
    into, out = _RATES[model]
    parts = {"input": usage.input * into, "output": usage.output * out}
    rates = {"input": f"{into / 1e9:.9f}", "output": f"{out / 1e9:.9f}"}
    price = Price("priced", sum(parts.values()), parts, rates, "genai-prices", "0.0.30")
    return _Bill(usage, raw, price, chance.randrange(300_000_000, 4_000_000_000))


def conversation(
    tactic: str,
    salt: bytes,
    material: Material,
    *,
    tags: Tags,
    ancestors: tuple[Ancestor, ...] = (),
    agents: int = 2,
) -> Iterator[Moment]:
    """Agents that each use a tool or two and answer; each makes about eleven events."""
    chance = material.chance
    yield [_started(tactic, salt, material, tags, ancestors)]
    counter = _Counter()
    pending: list[Event] = []
    for number in range(1, agents + 1):
        pending = yield from _agent_call(f"analyst-{number}", counter, material, pending)
    if chance.random() < 0.06:
        error = Error("ValueError", "no price for SKU 4711 in region EU", _TRACEBACK)
        yield [*pending, SessionFailed(error=error, elapsed=_ELAPSED)]
    else:
        delivery = next(material.answered).text
        yield [*pending, SessionSucceeded(delivery=delivery, elapsed=_ELAPSED)]


def glance(
    tactic: str,
    salt: bytes,
    material: Material,
    *,
    tags: Tags,
    ancestors: tuple[Ancestor, ...] = (),
) -> Iterator[Moment]:
    """One call to a model and its answer, in two moments."""
    counter = _Counter()
    model = material.model()
    request = _request(counter, None, 1, 1, model)
    yield [_started(tactic, salt, material, tags, ancestors), request]
    answer = next(material.answered)
    responded = _responded(counter, "analyst-1", request, answer, "stop", material)
    if material.chance.random() < 0.06:
        error = Error("ValueError", "no price for SKU 4711 in region EU")
        yield [responded, SessionFailed(error=error, elapsed=_ELAPSED)]
    else:
        yield [responded, SessionSucceeded(delivery="done", elapsed=_ELAPSED)]


def _started(
    tactic: str, salt: bytes, material: Material, tags: Tags, ancestors: tuple[Ancestor, ...]
) -> SessionStarted:
    return SessionStarted(
        tactic_path=tactic, name=tactic.rpartition("::")[2], task=next(material.asked).text,
        tags=tags, ancestors=ancestors, ordinal=1 if ancestors else None,
        owner="b3f09a7712cd4e10-2a1f", host="worker-3", pid=4711, producer=_PRODUCER, salt=salt,
    )  # fmt: skip


class _Counter:
    """The ordinals of one session: the last of each kind."""

    __slots__ = ("call", "message", "request", "tool")

    def __init__(self) -> None:
        self.message = self.request = self.tool = self.call = 0


def _agent_call(
    agent: str, counter: _Counter, material: Material, before: list[Event]
) -> Generator[Moment, None, list[Event]]:
    """The moments of one `respond()`; returns the events of the last, which others may join.

    before: the events that the first moment joins.
    """
    chance = material.chance
    counter.call += 1
    call = counter.call
    model = material.model()
    events: list[Event] = [*before, DialogOpened(dialog=call, agent=agent, alias="main")]
    for content, why in ((_SYSTEM, "system"), (next(material.asked), "user")):
        counter.message += 1
        added = MessageAdded(message=counter.message, dialog=call, content=content, why=why)
        events.append(added)
    events.append(
        AgentStarted(
            call=call, agent=agent, definition=DEFINITION, dialog=call, ordinal=1, limits=_LIMITS
        )
    )
    tools = chance.choice((0, 1, 1, 1, 2))
    for step in range(1, tools + 2):
        attempt = 1
        if chance.random() < 0.08:
            request = _request(counter, call, step, attempt, model)
            yield [*events, request]
            events = [*_failed(agent, request, call)]
            attempt = 2
        request = _request(counter, call, step, attempt, model)
        yield [*events, request]
        answer = next(material.answered)
        if step > tools:
            events = [_responded(counter, agent, request, answer, "stop", material)]
            break
        wish = ToolCall(f"call_{counter.tool + 1}", "search", '{"query": "last week"}')
        answer = Content("assistant", (), (wish,))
        responded = _responded(counter, agent, request, answer, "tool_calls", material)
        called, returned = _tool(counter, request, wish, next(material.asked))
        yield [responded, called]
        events = [returned]
    return [*events, AgentSucceeded(call=call, answer=counter.message, elapsed=4_200_000_000)]


def _tool(
    counter: _Counter, request: LLMRequested, wish: ToolCall, found: Content
) -> tuple[ToolCalled, ToolReturned]:
    counter.tool += 1
    counter.message += 1
    called = ToolCalled(
        tool=counter.tool, request=request.request, call_id=wish.id, name="search",
        arguments={"query": "last week"},
    )  # fmt: skip
    returned = ToolReturned(
        tool=counter.tool, message=counter.message, elapsed=31_000_000,
        content=Content("tool", found.parts, (), wish.id),
    )  # fmt: skip
    return called, returned


def _request(
    counter: _Counter, call: int | None, step: int, attempt: int, model: str
) -> LLMRequested:
    counter.request += 1
    return LLMRequested(
        request=counter.request, call=call, step=step, attempt=attempt, provider="openai",
        api="chat.completions", host="api.openai.com", model=model, dialog=call,
        upto=counter.message, definition=DEFINITION, digest=DIGEST,
    )  # fmt: skip


def _responded(
    counter: _Counter,
    agent: str,
    request: LLMRequested,
    content: Content,
    finish: str,
    material: Material,
) -> LLMResponded:
    bill = material.bill(request.model)
    counter.message += 1
    return LLMResponded(
        request=request.request, message=counter.message, content=content, finish=finish,
        agent=agent, asked=request.model, model=f"{request.model}-2026-01-01",
        response_id="chatcmpl-9f8a7b6c5d4e3f2a1b0c", usage_raw=bill.raw, usage=bill.usage,
        price=bill.price, elapsed=bill.elapsed,
    )  # fmt: skip


def _failed(agent: str, request: LLMRequested, call: int) -> tuple[LLMFailed, RetryScheduled]:
    reason = "the provider answered 429, too many requests"
    error = Error("lllm.events.errors.InvokeError", reason, _TRACEBACK, "rate_limit_exceeded", 429)
    failed = LLMFailed(
        request=request.request, agent=agent, asked=request.model, error=error, elapsed=200_000_000
    )
    retry = RetryScheduled(
        call=call, request=request.request, kind="llm_recall", attempt=1, limit=3,
        wait=1_000_000_000, reason=reason,
    )  # fmt: skip
    return failed, retry
