"""Arranges one session for the page: an outline, and its steps in the order of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from lllm.cli.render.messages import EXCHANGED, NOTHING, SentAndGot, exchanges_of
from lllm.events.model import Content, Error, Event, RetryScheduled, SessionEdited, SessionStarted
from lllm.projections.session.call_session import (
    AgentCallSession,
    InvokeTrace,
    TacticCallSession,
    ToolInterrupt,
)
from lllm.store.loaded_session import LoadedSession
from lllm.store.summaries import SessionRecord

OPEN_ALL = 8  # steps; a session with no more is shown unfolded
_SPOKEN: frozenset[type[Event]] = EXCHANGED | {RetryScheduled, SessionEdited}
_GAP = 1_000_000_000  # nanoseconds without anything that is marked


class Step(msgspec.Struct, kw_only=True, gc=False):
    """One attempt to call a model, with what was sent, answered and run.

    Attributes:
        session_id: The session that it belongs to.
        depth: How many sessions and agents it stands in, from 0.
        agent: The agent's name, "" for none.
        trace: The attempt.
        exchange: What it was the first to send, and, outside of agents, what tools returned.
        tools: The tools that lllm ran for the answer.
        retry: Why the call was made again after it, None where it was not.
        edit: What a fork changed here, None for nothing.
        unfolded: True if it is shown unfolded from the start.
    """

    session_id: str
    depth: int
    agent: str
    trace: InvokeTrace
    exchange: SentAndGot = NOTHING
    tools: list[ToolInterrupt] = []
    retry: RetryScheduled | None = None
    edit: SessionEdited | None = None
    unfolded: bool = False

    @property
    def key(self) -> str:
        """A name for this step that no other one on the page has."""
        return f"{self.session_id}.{self.trace.request}"


class Heading(msgspec.Struct, kw_only=True, gc=False):
    """The begin of an agent's call or of a session below.

    Attributes:
        session_id: The session that it belongs to, or that begins.
        depth: How many sessions and agents it stands in, from 0.
        entry: The agent's call, or the session.
    """

    session_id: str
    depth: int
    entry: AgentCallSession | TacticCallSession

    @property
    def key(self) -> str:
        """A name for this heading that no other one on the page has."""
        if isinstance(self.entry, AgentCallSession):
            return f"{self.session_id}.agent.{self.entry.call}"
        return f"{self.session_id}.session"


class AgentOutcome(msgspec.Struct, kw_only=True, gc=False):
    """The end of an agent's call: what it delivered, or why it failed.

    Attributes:
        key: A name for it that no other one on the page has.
        depth: How many sessions and agents it stands in, from 0.
        delivery: What it delivered.
        error: Why it failed.
    """

    key: str
    depth: int
    delivery: object = None
    error: Error | None = None


class QuietTime(msgspec.Struct, kw_only=True, gc=False):
    """A time in which nothing was recorded.

    Attributes:
        key: A name for it that no other one on the page has.
        depth: How many sessions and agents it stands in, from 0.
        took: Nanoseconds.
    """

    key: str
    depth: int
    took: int


Block = Step | Heading | AgentOutcome | QuietTime


class Transcript(msgspec.Struct):
    """A session as the page shows it.

    Attributes:
        record: The session.
        start: What was recorded when it began.
        blocks: Headings, steps and answers, in the order of their begin.
        sessions: How many sessions there are, the one at the top included.
    """

    record: SessionRecord
    start: SessionStarted
    blocks: list[Block] = []
    sessions: int = 1

    @property
    def steps(self) -> list[Step]:
        """The steps, in their order."""
        return [block for block in self.blocks if isinstance(block, Step)]


class _Spoken(msgspec.Struct):
    """What the events of one session say beside the session itself."""

    exchanges: dict[int, SentAndGot] = {}
    retries: dict[int, RetryScheduled] = {}
    edits: dict[tuple[int, int, int], SessionEdited] = {}


def transcript_of(loaded: LoadedSession) -> Transcript:
    """Arrange a session and all sessions below it.

    Args:
        loaded: The session, with its events.

    Returns:
        The transcript.
    """
    session = loaded.session
    spoken = {name: _spoken(said) for name, said in loaded.payloads_by_session(_SPOKEN).items()}
    made = Transcript(loaded.record, loaded.start)
    waiting: list[Iterator[Block | tuple[TacticCallSession, int]]] = [
        _blocks_of(session, 0, spoken[session.session_id])
    ]
    seen = {session.session_id}
    while waiting:  # a log may hold more levels than a stack
        for entry in waiting[-1]:
            if not isinstance(entry, tuple):
                made.blocks.append(entry)
                continue
            below, depth = entry
            made.blocks.append(Heading(session_id=below.session_id, depth=depth, entry=below))
            if below.session_id not in seen:
                seen.add(below.session_id)
                made.sessions += 1
                waiting.append(_blocks_of(below, depth + 1, spoken[below.session_id]))
                break
        else:
            waiting.pop()
    steps = made.steps
    for step in steps:
        step.unfolded = (
            len(steps) <= OPEN_ALL
            or step.trace.error is not None
            or step.retry is not None
            or any(tool.error is not None for tool in step.tools)
        )
    return made


def _blocks_of(
    session: TacticCallSession, depth: int, spoken: _Spoken
) -> Iterator[Block | tuple[TacticCallSession, int]]:
    """Iterate over what is in one session; a session below is yielded with its depth."""
    calls = [call for calls in session.agent_sessions.values() for call in calls]
    below = [one for sessions in session.sub_tactic_sessions.values() for one in sessions]
    entries: list[AgentCallSession | TacticCallSession | InvokeTrace]
    entries = sorted([*calls, *below, *session.invoke_traces], key=lambda entry: entry.started)
    quiet_since = session.started
    for entry in entries:
        gap = entry.started - quiet_since
        if gap >= _GAP:
            key = f"{session.session_id}.gap.{entry.started}"
            yield QuietTime(key=key, depth=depth, took=gap)
        quiet_since = max(quiet_since, entry.started + (entry.elapsed or 0))
        if isinstance(entry, TacticCallSession):
            yield entry, depth
        elif isinstance(entry, AgentCallSession):
            yield Heading(session_id=session.session_id, depth=depth, entry=entry)
            yield from _agent_steps(session.session_id, entry, depth + 1, spoken)
        else:
            yield _step(session.session_id, "", depth, entry, spoken)


def _agent_steps(
    session_id: str, call: AgentCallSession, depth: int, spoken: _Spoken
) -> Iterator[Block]:
    for number, traces in call.invoke_traces.items():
        for trace in traces:
            step = _step(session_id, call.agent_name, depth, trace, spoken)
            if trace is traces[-1]:
                step.tools = call.interrupts.get(number, [])
            step.edit = spoken.edits.get((call.call, number, trace.attempt))
            yield step
    if call.state != "running":
        yield AgentOutcome(
            key=f"{session_id}.answer.{call.call}",
            depth=depth,
            delivery=call.delivery,
            error=call.error,
        )


def _step(session_id: str, agent: str, depth: int, trace: InvokeTrace, spoken: _Spoken) -> Step:
    return Step(
        session_id=session_id,
        depth=depth,
        agent=agent,
        trace=trace,
        exchange=spoken.exchanges.get(trace.request, NOTHING),
        retry=spoken.retries.get(trace.request),
    )


def _spoken(payloads: Sequence[Event]) -> _Spoken:
    found = _Spoken(dict(exchanges_of(payloads)), {}, {})
    for payload in payloads:
        if isinstance(payload, RetryScheduled):
            found.retries[payload.request] = payload
        elif isinstance(payload, SessionEdited):
            found.edits[payload.call, payload.step, payload.attempt] = payload
    return found


def result_of(step: Step, place: int) -> Content | None:
    """What a tool of a captured call returned, as a later request sent it.

    Args:
        step: The step whose answer asked for tools.
        place: Which of them, from 0.
    """
    results = step.exchange.results
    return results[place] if place < len(results) else None
