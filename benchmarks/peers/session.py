"""The one session that everybody stores: two agents, four calls to a model, two tools, one retry.

A researcher uses two tools and answers. A writer's model answers 429 at first; asked again, it
turns what was found into a letter. Written down here event by event, so that it is the same for
ever; messages are of about 500 bytes and differ from each other.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence

from lllm.events import codec
from lllm.events.model import (
    AgentDefined,
    AgentStarted,
    AgentSucceeded,
    Content,
    DialogOpened,
    Error,
    Event,
    Limits,
    LLMFailed,
    LLMRequested,
    LLMResponded,
    MessageAdded,
    Part,
    Price,
    RetryScheduled,
    SessionStarted,
    SessionSucceeded,
    ToolCall,
    ToolCalled,
    ToolReturned,
    Usage,
)

Moment = list[Event]

TACTIC = "shop::support"
TAGS = {"env": "prod", "experiment": "v2"}
AGENT = AgentDefined(
    name="analyst",
    system="You are a careful analyst. Answer from the sources only.",
    provider="openai",
    model="gpt-4o-mini",
    params={"temperature": 0.2},
)
_DIGEST = hashlib.sha256(codec.encode(AGENT)).hexdigest()
_DEFINITION = f"definition-{_DIGEST}"
_LIMITS = Limits(3, 3, 10)
_PROSE = (
    "the order was placed on Monday and has not arrived customers who ask about refunds expect an "
    "answer within a day the table shows revenue by region for each quarter please summarise what "
    "changed between versions and say which of them is risky according to this source it depends"
)
_WORDS = _PROSE.split()
_WORDS_EACH = 85
_SECOND = 1_000_000_000


def texts(seed: int) -> Iterator[str]:
    """Messages without end, the same for the same seed."""
    chance = random.Random(seed)
    while True:
        yield " ".join(chance.choices(_WORDS, k=_WORDS_EACH))


def moments() -> Iterator[Moment]:
    """Its events, those together that the runtime makes durable together: what leads to a call
    outside before that call, what it brought before the caller goes on."""
    told = texts(1)
    task = next(told)
    yield [SessionStarted(tactic_path=TACTIC, name="support", task=task, tags=TAGS, salt=bytes(32))]
    yield [*_begins(1, "researcher", task), _requested(1, call=1, step=1, upto=2)]
    yield [_asks_for_tool(1, message=3), _called(1)]
    yield [_returned(1, 4, next(told)), _requested(2, call=1, step=2, upto=4)]
    yield [_asks_for_tool(2, message=5), _called(2)]
    yield [_returned(2, 6, next(told)), _requested(3, call=1, step=3, upto=6)]
    found = next(told)
    yield [_answers(3, 7, "researcher", found), _succeeded(1, answer=7)]
    yield [*_begins(2, "writer", found), _requested(4, call=2, step=1, upto=9)]
    yield list(_fails(4))
    yield [_requested(5, call=2, step=1, upto=9, attempt=2)]
    letter = next(told)
    yield [_answers(5, 10, "writer", letter), _succeeded(2, answer=10)]
    yield [SessionSucceeded(delivery=letter, elapsed=9 * _SECOND)]


def _begins(call: int, agent: str, question: str) -> Sequence[Event]:
    first = 7 * call - 6  # the researcher's dialog has seven messages
    return (
        DialogOpened(dialog=call, agent=agent, alias="main"),
        MessageAdded(
            message=first, dialog=call, content=Content.of("system", AGENT.system), why="system"
        ),
        MessageAdded(
            message=first + 1, dialog=call, content=Content.of("user", question), why="user"
        ),
        AgentStarted(
            call=call, agent=agent, definition=_DEFINITION, dialog=call, ordinal=1, limits=_LIMITS
        ),
    )


def _requested(request: int, *, call: int, step: int, upto: int, attempt: int = 1) -> Event:
    return LLMRequested(
        request=request, call=call, step=step, attempt=attempt, provider="openai",
        api="chat.completions", host="api.openai.com", model=AGENT.model, dialog=call, upto=upto,
        definition=_DEFINITION, digest=_DIGEST,
    )  # fmt: skip


def _asks_for_tool(request: int, message: int) -> Event:
    wish = ToolCall(f"call_{request}", "search", f'{{"query": "order {request}"}}')
    return _responded(
        request, message, "researcher", Content("assistant", tool_calls=(wish,)), "tool_calls"
    )


def _answers(request: int, message: int, agent: str, text: str) -> Event:
    return _responded(request, message, agent, Content.of("assistant", text), "stop")


def _responded(request: int, message: int, agent: str, content: Content, finish: str) -> Event:
    usage = Usage(input=500 * request, output=120)
    parts = {"input": usage.input * 150, "output": usage.output * 600}
    return LLMResponded(
        request=request, message=message, content=content, finish=finish, agent=agent,
        asked=AGENT.model, model=f"{AGENT.model}-2024-07-18",
        response_id=f"chatcmpl-9f8a7b6c5d4e3f2a1b{request}",
        usage_raw={
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": usage.input + usage.output,
        },
        usage=usage,
        price=Price(
            "priced", sum(parts.values()), parts,
            {"input": "0.00000015", "output": "0.0000006"}, "genai-prices", "0.0.30",
        ),
        elapsed=_SECOND,
    )  # fmt: skip


def _called(tool: int) -> Event:
    return ToolCalled(
        tool=tool, request=tool, call_id=f"call_{tool}", name="search",
        arguments={"query": f"order {tool}"},
    )  # fmt: skip


def _returned(tool: int, message: int, text: str) -> Event:
    content = Content("tool", (Part("text", text),), call_id=f"call_{tool}")
    return ToolReturned(tool=tool, message=message, content=content, elapsed=31_000_000)


def _fails(request: int) -> Iterator[Event]:
    reason = "the provider answered 429, too many requests"
    error = Error("lllm.events.errors.InvokeError", reason, None, "rate_limit_exceeded", 429)
    yield LLMFailed(
        request=request, agent="writer", asked=AGENT.model, error=error, elapsed=_SECOND // 5
    )
    yield RetryScheduled(
        call=2, request=request, kind="llm_recall", attempt=1, limit=3, wait=_SECOND, reason=reason
    )


def _succeeded(call: int, answer: int) -> Event:
    return AgentSucceeded(call=call, answer=answer, elapsed=4 * _SECOND)
