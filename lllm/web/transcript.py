"""Arranges one session for its page: an outline, and the steps in order of time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from lllm.cli.render.formats import cut
from lllm.events.model import (
    Content,
    Error,
    Event,
    LLMResponded,
    RetryScheduled,
    SessionAnnotated,
    SessionEdited,
    SessionStarted,
    State,
)
from lllm.projections.session.annotations import Annotation, annotations_in
from lllm.projections.session.call_session import (
    AgentCallSession,
    InvokeTrace,
    TacticCallSession,
    ToolInterrupt,
)
from lllm.projections.session.exchanges import EXCHANGED, NOTHING, SentAndGot, exchanges_of
from lllm.projections.session.step_names import numbered_calls, step_name
from lllm.projections.views.task_summary import first_line
from lllm.store.loaded_session import LoadedSession
from lllm.store.summaries import SessionRecord
from lllm.tools.results import result_text
from lllm.web.html_text import task_line

OPEN_ALL = 8  # steps; a session with no more is shown unfolded
_SPOKEN: frozenset[type[Event]] = EXCHANGED | {RetryScheduled, SessionEdited}
_ARRANGED: frozenset[type[Event]] = _SPOKEN | {SessionStarted, SessionAnnotated}
_ASKED = 80  # characters of a message of the user, in a heading
_TITLE = 120  # characters of what was asked, in a heading
_GAP = 1_000_000_000  # nanoseconds without anything that is marked


class Step(msgspec.Struct, kw_only=True, gc=False):
    """One attempt to call a model, with what was sent, answered and run.

    Attributes:
        session_id: The id of the session with the attempt.
        depth: The number of sessions and agent calls around it, from 0.
        agent: The name of the agent; "" if there is none.
        trace: The attempt itself.
        exchange: The messages that it was the first to send; outside of agents, also tool results.
        tools: The tools that lllm ran because the answer requested them.
        retry: The reason why the call was repeated after it; None if it was not.
        edit: What a fork changed at this point; None for no change.
        unfolded: True if the page shows it unfolded at first.
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
        """A name of this step that is unique on the page."""
        return f"{self.session_id}.{self.trace.request}"

    @property
    def name(self) -> str:
        """Its name within its agent call, as `lllm show` has it."""
        trace = self.trace
        return step_name(trace.request, trace.step, trace.attempt, trace.state)

    @property
    def full_name(self) -> str:
        """Its name with that of its agent."""
        trace = self.trace
        return step_name(trace.request, trace.step, trace.attempt, trace.state, self.agent)

    @property
    def asked(self) -> str:
        """The first line of the last message of the user that it was the first to send; or ""."""
        for content in reversed(self.exchange.sent):
            if content.role == "user":
                return cut(first_line(content.text) or "", _ASKED)
        return ""

    @property
    def wasted(self) -> bool:
        """True if money was wasted on it, or may have been."""
        return self.trace.wasted and (
            self.trace.cost.cost > 0 or self.trace.cost.unpriced_calls > 0
        )


class Heading(msgspec.Struct, kw_only=True, gc=False):
    """The beginning of an agent call, or of a child session.

    Attributes:
        session_id: The id of the session that has the agent call, or of the session that begins.
        depth: The number of sessions and agent calls around it, from 0.
        entry: The agent call, or the session.
        name: The name of the agent, with the number of the call if there are several; or a tactic.
    """

    session_id: str
    depth: int
    entry: AgentCallSession | TacticCallSession
    name: str

    @property
    def key(self) -> str:
        """A name of this heading that is unique on the page."""
        if isinstance(self.entry, AgentCallSession):
            return f"{self.session_id}.agent.{self.entry.call}"
        return f"{self.session_id}.session"


class AgentOutcome(msgspec.Struct, kw_only=True, gc=False):
    """The end of an agent call: its result, or the error.

    Attributes:
        key: A name of this part that is unique on the page.
        depth: The number of sessions and agent calls around it, from 0.
        delivery: The result; None if the call failed.
        error: The error; None if the call succeeded.
    """

    key: str
    depth: int
    delivery: object = None
    error: Error | None = None


class QuietTime(msgspec.Struct, kw_only=True, gc=False):
    """A period in which nothing was recorded.

    Attributes:
        key: A name of this part that is unique on the page.
        depth: The number of sessions and agent calls around it, from 0.
        took: The length of the period, in nanoseconds.
    """

    key: str
    depth: int
    took: int


Block = Step | Heading | AgentOutcome | QuietTime


class Opening(msgspec.Struct, frozen=True):
    """What the heading of a session says. Its row has all of it.

    Attributes:
        session_id: The id of the session.
        state: Its state.
        tactic_path: The path of its tactic.
        task: The first line of what was asked; None if there is none.
    """

    session_id: str
    state: State
    tactic_path: str
    task: str | None

    @property
    def title(self) -> str:
        """What was asked, on one line; without a task, the path of the tactic."""
        return cut(task_line(self.task), _TITLE) if self.task else self.tactic_path


class Transcript(msgspec.Struct):
    """A session, arranged for its page.

    Attributes:
        record: The session with what the store knows about it.
        start: The payload of its first event.
        notes: What was judged, by the session and the number of an attempt in it, None for all.
        blocks: The headings, steps and results, in the order in which they began.
        sessions: The number of sessions, the top-level one included.
    """

    record: SessionRecord
    start: SessionStarted
    notes: dict[tuple[str, int | None], list[Annotation]]
    blocks: list[Block] = []
    sessions: int = 1

    @property
    def opening(self) -> Opening:
        """What is known of it before its events are read, too."""
        session, task = self.record.session, self.record.task
        line = None if task is None else first_line(result_text(task))
        return Opening(session.session_id, session.state, session.tactic_path, line)

    @property
    def definitions(self) -> set[str]:
        """The streams of the definitions of the agents that were called."""
        entries = (block.entry for block in self.blocks if isinstance(block, Heading))
        return {one.definition for one in entries if isinstance(one, AgentCallSession)}

    @property
    def dearest(self) -> Step | None:
        """The attempt that cost most; None if none of several is known to have cost anything."""
        priced = [step for step in self.steps if step.trace.cost.cost]
        return max(priced, key=lambda step: step.trace.cost.cost) if len(priced) > 1 else None

    @property
    def steps(self) -> list[Step]:
        """The steps of the session, in order."""
        return [block for block in self.blocks if isinstance(block, Step)]


class _Spoken(msgspec.Struct):
    """What the events of one session contain and the loaded session does not."""

    exchanges: dict[int, SentAndGot] = {}
    retries: dict[int, RetryScheduled] = {}
    edits: dict[tuple[int, int, int], SessionEdited] = {}


def is_arranged(payload: Event) -> bool:
    """Tell whether `transcript_of` reads a payload beside the session itself.

    Args:
        payload: A payload of the session.
    """
    if isinstance(payload, LLMResponded):
        return bool(payload.content.tool_calls)  # their results are in later messages
    return type(payload) in _ARRANGED


def transcript_of(loaded: LoadedSession) -> Transcript:
    """Arrange a session and all its descendants.

    Args:
        loaded: The session with its events.

    Returns:
        The transcript.
    """
    session = loaded.session
    spoken = {name: _spoken(said) for name, said in loaded.payloads_by_session(_SPOKEN).items()}
    made = Transcript(loaded.record, loaded.start, _notes(loaded))
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
            heading = Heading(
                session_id=below.session_id, depth=depth, entry=below, name=below.tactic_path
            )
            made.blocks.append(heading)
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


def _notes(loaded: LoadedSession) -> dict[tuple[str, int | None], list[Annotation]]:
    about = [said.about for said in loaded.payloads if isinstance(said, SessionAnnotated)]
    found: dict[tuple[str, int | None], list[Annotation]] = defaultdict(list)
    for session_id in dict.fromkeys(about):
        for note in annotations_in(loaded.events, session_id):
            found[session_id, note.step].append(note)
    return found


def _blocks_of(
    session: TacticCallSession, depth: int, spoken: _Spoken
) -> Iterator[Block | tuple[TacticCallSession, int]]:
    """Yield the parts of one session; a child session is yielded with its depth."""
    calls = [call for calls in session.agent_sessions.values() for call in calls]
    below = [one for sessions in session.sub_tactic_sessions.values() for one in sessions]
    entries: list[AgentCallSession | TacticCallSession | InvokeTrace]
    entries = sorted([*calls, *below, *session.invoke_traces], key=lambda entry: entry.started)
    names = numbered_calls(calls)
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
            yield Heading(
                session_id=session.session_id, depth=depth, entry=entry, name=names[entry.call]
            )
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
    """Return the result of a tool in a captured call, which a later request contains.

    Args:
        step: The step whose answer requested tools.
        place: The number of the tool among them, from 0.
    """
    results = step.exchange.results
    return results[place] if place < len(results) else None
