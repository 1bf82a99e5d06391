"""Stores like those of a team that has used lllm for a month, made in bulk.

The events are the Structs of `lllm.events.model`, encoded and sealed as a Recorder does it, and
appended by the thousand. A few sessions are always under way at once, so their events lie between
each other's in the log. The same seed makes the same store, but for salts and ids.

What is realistic: about 24 events a session, messages of about 500 bytes, three tags of which one
is rare, tactics that some call much more than others, children in one session of eight, failed
calls, failed sessions, and tags that somebody added later.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from lllm.events import codec
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
    LLMRequested,
    LLMResponded,
    MessageAdded,
    Price,
    Producer,
    RetryScheduled,
    SessionFailed,
    SessionStarted,
    SessionSucceeded,
    SessionTagged,
    ToolCall,
    ToolCalled,
    ToolReturned,
    Usage,
)
from lllm.events.record import NewEvent, seal
from lllm.events.recorder import new_id, new_salt

BEGIN = 1_767_225_600_000_000_000  # 2026-01-01, in nanoseconds UTC
MONTH = 30 * 86_400_000_000_000
MESSAGE_BYTES = 500  # of a message, in the middle
_APPENDED = 5_000  # events appended at once
_AT_ONCE = 6  # sessions under way

Moment = Sequence[Event]  # what one append of a Recorder would hold
Tags = dict[str, str]

# The two tags that never meet; each has a good share of all sessions.
APART: tuple[tuple[str, str], tuple[str, str]] = (("env", "staging"), ("experiment", "v2"))
CHILD = "shop::lookup"
_TACTICS = {
    "shop::analyzer": 50,
    "shop::support": 25,
    "lab::researcher": 15,
    "lab::judge": 7,
    "ops::digest": 3,
}
_ENVIRONMENTS = {"prod": 80, "staging": 15, "dev": 5}
_EXPERIMENTS = {f"v{n}": 120 // n for n in range(1, 41)}
_USERS = {f"user-{n}": 6_000 // n + 1 for n in range(1, 2_001)}
_RATES = {"gpt-4o-mini": (150, 600), "gpt-4o": (2_500, 10_000), "claude-haiku-4-5": (1_000, 5_000)}
_LIMITS = Limits(3, 3, 10)
_PRODUCER = Producer("0.1.0", "3.11.7")
_PROSE = (
    "the order was placed on Monday and has not arrived customers who ask about refunds expect an "
    "answer within a day the table shows revenue by region for each quarter please summarise what "
    "changed between versions and say which of them is risky according to this source it depends"
)
WORDS = tuple(_PROSE.split())
_TRACEBACK = "Traceback (most recent call last):\n" + "".join(
    f'  File "/srv/app/shop/{name}.py", line {line}, in {name}\n    return self.{name}(task)\n'
    for name, line in (("call", 31), ("respond", 88), ("parse", 12), ("price", 140))
)


class Generated(msgspec.Struct, frozen=True):
    """What was made: roots, all sessions with the children, events and bytes of payload."""

    roots: int
    sessions: int
    events: int
    payload_bytes: int


def fill(log: LogBackend, roots: int, *, seed: int = 1) -> Generated:
    """Append the events of `roots` top-level sessions, and of their children, to a log."""
    chance = random.Random(seed)
    writer = _Writer(log)
    made = _Sessions(chance)
    writer.write(BEGIN, f"definition-{_DEFINITION}", b"", 1, AGENT)
    waiting = (made.session(writer, BEGIN + MONTH * n // roots) for n in range(roots))
    running = list(itertools.islice(waiting, _AT_ONCE))
    while running:
        place = chance.randrange(len(running))
        if next(running[place], None) is None:
            following = next(waiting, None)
            if following is None:
                del running[place]
            else:
                running[place] = following
    writer.flush()
    return Generated(roots, made.count, writer.events, writer.bytes)


def one_session(log: LogBackend, number: int, *, agents: int = 2) -> str:
    """Append one more session, the `number`th after those of `fill`, in one append; returns its id.

    agents: each makes about eleven events.
    """
    chance = random.Random(number)
    made = _Sessions(chance)
    writer = _Writer(log)
    time = BEGIN + MONTH + number * 1_000_000_000
    stream, salt = new_id(time), new_salt()
    seq = itertools.count(1)
    for moment in conversation(
        CHILD, (), salt, made.tags(), chance, made.texts, made.answers, agents=agents
    ):
        for event in moment:
            writer.write(time, stream, salt, next(seq), event)
    writer.flush()
    return stream


class _Writer:
    """Seals events and appends them many at a time."""

    def __init__(self, log: LogBackend) -> None:
        self.events = 0
        self.bytes = 0
        self._log = log
        self._waiting: list[NewEvent] = []

    def write(self, time: int, stream: str, salt: bytes, seq: int, event: Event) -> None:
        """The event `seq` of a stream."""
        data = codec.encode(event)
        self._waiting.append(seal(salt, stream, seq, time, event.type, event.version, data))
        self.events += 1
        self.bytes += len(data)
        if len(self._waiting) >= _APPENDED:
            self.flush()

    def flush(self) -> None:
        """Append what waits."""
        self._log.append(self._waiting)
        self._waiting = []


AGENT = AgentDefined(
    name="analyst",
    system="You are a careful analyst. Answer from the sources only.",
    provider="openai",
    model="gpt-4o-mini",
    params={"temperature": 0.2},
)
_DEFINITION = hashlib.sha256(codec.encode(AGENT)).hexdigest()


class _Sessions:
    """Makes sessions, each an iterator that writes one moment of it at every step."""

    def __init__(self, chance: random.Random) -> None:
        self.count = 0
        self._chance = chance
        self._tactics = _cycle(chance, _TACTICS)
        self._environments = _cycle(chance, _ENVIRONMENTS)
        self._experiments = _cycle(chance, _EXPERIMENTS)
        self._users = _cycle(chance, _USERS)
        texts = [_text(chance) for _ in range(2_000)]
        self.texts = itertools.cycle([Content.of("user", text) for text in texts])
        self.answers = itertools.cycle([Content.of("assistant", text) for text in texts])

    def session(
        self, writer: _Writer, time: int, above: tuple[Ancestor, ...] = ()
    ) -> Iterator[bool]:
        """Write one session, with its children in the middle; yields after each moment."""
        self.count += 1
        chance = self._chance
        stream, salt = new_id(time), new_salt()
        tactic = CHILD if above else next(self._tactics)
        seq = itertools.count(1)
        moments = conversation(
            tactic, above, salt, self.tags() if not above else {}, chance, self.texts, self.answers
        )
        child_at = 3 if not above and chance.random() < 0.12 else 0
        for number, moment in enumerate(moments, 1):
            for event in moment:
                writer.write(time, stream, salt, next(seq), event)
            time += chance.randrange(20_000_000, 2_000_000_000)
            yield True
            if number == child_at:
                lineage = (*above, Ancestor(stream, tactic))
                yield from self.session(writer, time, lineage)
        if chance.random() < 0.02:
            tagged = SessionTagged(about=stream, set={"reviewed": "yes"}, by="alice", salt=salt)
            writer.write(time, f"tagged-{new_id(time)}", salt, 1, tagged)

    def tags(self) -> Tags:
        """Those of the next root."""
        env, experiment = next(self._environments), next(self._experiments)
        if {"env": env, "experiment": experiment}.items() == dict(APART).items():
            experiment = "v1"
        return {"env": env, "experiment": experiment, "user": next(self._users)}


def conversation(
    tactic: str,
    ancestors: tuple[Ancestor, ...],
    salt: bytes,
    tags: Tags,
    chance: random.Random,
    texts: Iterator[Content],
    answers: Iterator[Content],
    *,
    agents: int = 2,
) -> Iterator[Moment]:
    """The moments of one session: agents that each use a tool or two and answer."""
    task = next(texts).text
    started = SessionStarted(
        tactic_path=tactic, name=tactic.rpartition("::")[2], task=task, tags=tags,
        ancestors=ancestors, ordinal=1 if ancestors else None, owner="b3f09a7712cd4e10-2a1f",
        host="worker-3", pid=4711, producer=_PRODUCER, salt=salt,
    )  # fmt: skip
    yield [started]
    counter = _Counter()
    pending: list[Event] = []
    for number in range(1, agents + 1):
        for moment in _agent_call(f"analyst-{number}", counter, chance, texts, answers):
            yield [*pending, *moment[:-1]]
            pending = [moment[-1]]
    if chance.random() < 0.06:
        error = Error("ValueError", "no price for SKU 4711 in region EU", _TRACEBACK)
        yield [*pending, SessionFailed(error=error, elapsed=9_120_000_000)]
    else:
        delivery = next(answers).text
        yield [*pending, SessionSucceeded(delivery=delivery, elapsed=9_120_000_000)]


class _Counter:
    """The ordinals of one session."""

    def __init__(self) -> None:
        self.message = 0
        self.request = 0
        self.tool = 0
        self.call = 0

    def next(self, kind: Literal["message", "request", "tool", "call"]) -> int:
        """The next number of its kind."""
        number = int(getattr(self, kind)) + 1
        setattr(self, kind, number)
        return number


def _agent_call(
    agent: str,
    counter: _Counter,
    chance: random.Random,
    texts: Iterator[Content],
    answers: Iterator[Content],
) -> Iterator[list[Event]]:
    """The moments of one `respond()`, the last event of each still to be joined by others."""
    call = counter.next("call")
    model = chance.choice(tuple(_RATES))
    events: list[Event] = [DialogOpened(dialog=call, agent=agent, alias="main")]
    for content, why in ((Content.of("system", AGENT.system), "system"), (next(texts), "user")):
        message = counter.next("message")
        events.append(MessageAdded(message=message, dialog=call, content=content, why=why))
    events.append(
        AgentStarted(
            call=call, agent=agent, definition=f"definition-{_DEFINITION}", dialog=call, ordinal=1,
            limits=_LIMITS,
        )
    )  # fmt: skip
    tools = chance.choice((0, 1, 1, 1, 2))
    for step in range(1, tools + 2):
        if chance.random() < 0.08:
            request = _request(counter, call, step, 1, model)
            yield [*events, request]
            events = [*_failed(agent, request, call)]
        request = _request(counter, call, step, 2 if len(events) == 2 else 1, model)
        yield [*events, request]
        answer = next(answers)
        if step <= tools:
            wish = ToolCall(f"call_{counter.tool + 1}", "search", '{"query": "last week"}')
            answer = Content("assistant", (), (wish,))
            events = [_responded(counter, agent, request, answer, "tool_calls", chance)]
            tool = counter.next("tool")
            arguments = {"query": "last week"}
            called = ToolCalled(
                tool=tool, request=request.request, call_id=wish.id, name="search",
                arguments=arguments,
            )  # fmt: skip
            yield [*events, called]
            found = Content("tool", next(texts).parts, (), wish.id)
            message = counter.next("message")
            events = [ToolReturned(tool=tool, message=message, content=found, elapsed=31_000_000)]
        else:
            events = [_responded(counter, agent, request, answer, "stop", chance)]
    yield [*events, AgentSucceeded(call=call, answer=counter.message, elapsed=4_200_000_000)]


def _request(counter: _Counter, call: int, step: int, attempt: int, model: str) -> LLMRequested:
    return LLMRequested(
        request=counter.next("request"), call=call, step=step, attempt=attempt, provider="openai",
        api="chat.completions", host="api.openai.com", model=model,
        dialog=call, upto=counter.message, definition=f"definition-{_DEFINITION}",
        digest=_DEFINITION,
    )  # fmt: skip


def _responded(
    counter: _Counter,
    agent: str,
    request: LLMRequested,
    content: Content,
    finish: str,
    chance: random.Random,
) -> LLMResponded:
    usage = Usage(input=chance.randrange(300, 4_000), output=chance.randrange(40, 600))
    raw = {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
    }
    return LLMResponded(
        request=request.request, message=counter.next("message"), content=content, finish=finish,
        agent=agent, asked=request.model, model=f"{request.model}-2026-01-01",
        response_id="chatcmpl-9f8a7b6c5d4e3f2a1b0c", usage_raw=raw, usage=usage,
        price=_price(request.model, usage), elapsed=chance.randrange(300_000_000, 4_000_000_000),
    )  # fmt: skip


def _price(model: str, usage: Usage) -> Price:
    into, out = _RATES[model]
    parts = {"input": usage.input * into, "output": usage.output * out}
    rates = {"input": f"{into / 1e9:.9f}", "output": f"{out / 1e9:.9f}"}
    return Price("priced", sum(parts.values()), parts, rates, "genai-prices", "0.0.30")


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


def _cycle(chance: random.Random, weights: dict[str, int]) -> Iterator[str]:
    """Names in random order, each as often as its weight says, without end."""
    while True:
        yield from chance.choices(tuple(weights), tuple(weights.values()), k=10_000)


def _text(chance: random.Random) -> str:
    words = []
    length = 0
    wanted = chance.lognormvariate(0, 0.6) * MESSAGE_BYTES
    while length < wanted:
        words.append(chance.choice(WORDS))
        length += len(words[-1]) + 1
    return " ".join(words)
