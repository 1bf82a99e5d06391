"""The session rows: everything that a list shows, so that no list ever reads a payload.

A session's number is the position of its first event. Its counts and costs include the sessions
below it, in whichever thread or process they ran.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from lllm.events.model import (
    Event,
    LLMFailed,
    LLMResponded,
    Price,
    SessionFailed,
    SessionInterrupted,
    SessionStarted,
    SessionSucceeded,
    Usage,
)
from lllm.projections.view import Happened, Index, Rows, SessionContext, Table, storable

_SESSIONS = Table(
    "sessions",
    {
        "number": "INTEGER",
        "id": "TEXT",
        "tactic": "TEXT",
        "name": "TEXT",
        "kind": "TEXT",
        "partition": "TEXT",
        "state": "TEXT",
        "started": "INTEGER",
        "ended": "INTEGER",
        "elapsed": "INTEGER",
        "last_position": "INTEGER",
        "root": "INTEGER",
        "parent": "INTEGER",
        "ordinal": "INTEGER",
        "error_type": "TEXT",
        "error_message": "TEXT",
        "calls": "INTEGER",
        "failed_calls": "INTEGER",
        "unpriced_calls": "INTEGER",
        "cost_nanos": "INTEGER",
        "input_tokens": "INTEGER",
        "output_tokens": "INTEGER",
    },
    key=("number",),
    indexes=(Index(("id",), unique=True), Index(("root",), where="parent IS NOT NULL")),
)

_SUMMED = (
    "calls", "failed_calls", "unpriced_calls", "cost_nanos", "input_tokens", "output_tokens",
)  # fmt: skip

# Few rows, ever: who is asked for, when a reader looks for writers that died.
_RUNNING = Table(
    "running", {"session": "INTEGER", "owner": "TEXT", "host": "TEXT"}, key=("session",)
)

# Where a definition stands, for logs that can't look a stream up.
_DEFINITIONS = Table("definitions", {"stream": "TEXT", "position": "INTEGER"}, key=("stream",))


class SessionsView:
    """One row a session."""

    name = "sessions"
    version = 1
    tables: Sequence[Table] = (_SESSIONS, _RUNNING, _DEFINITIONS)

    def __init__(self) -> None:
        self._on: dict[str, Callable[[Rows, Happened, SessionContext], None]] = {
            "session.started": _started,
            "session.succeeded": _finished,
            "session.failed": _finished,
            "session.interrupted": _interrupted,
            "llm.responded": _called,
            "llm.failed": _called,
        }
        self.types: Collection[str] = (*self._on, "agent.defined")

    def apply(self, rows: Rows, batch: Sequence[Happened]) -> None:
        """See View."""
        for happened in batch:
            event = happened.event
            if event.type == "agent.defined":
                rows.put("definitions", (event.stream,), position=event.position)
            elif happened.session is not None and event.type in self._on:
                self._on[event.type](rows, happened, happened.session)


def _started(rows: Rows, happened: Happened, session: SessionContext) -> None:
    started = happened.payload
    if not isinstance(started, SessionStarted):
        return
    key = (session.number,)
    rows.put(
        "sessions",
        key,
        id=session.session_id,
        tactic=session.tactic_path,
        name=storable(started.name),
        kind=storable(started.kind),
        partition=session.partition,
        state="running",
        started=session.started,
        root=session.root.number,
    )
    if session.parent is not None:
        rows.put("sessions", key, parent=session.parent.number, ordinal=started.ordinal)
    rows.put("running", key, owner=storable(started.owner), host=storable(started.host))


def _finished(rows: Rows, happened: Happened, session: SessionContext) -> None:
    end = happened.payload
    if not isinstance(end, SessionSucceeded | SessionFailed):
        return
    key = (session.number,)
    rows.put(
        "sessions",
        key,
        state="success" if isinstance(end, SessionSucceeded) else "failure",
        ended=happened.event.time,
        elapsed=end.elapsed,
        last_position=happened.event.position,
    )
    if isinstance(end, SessionFailed):
        kind, message = storable(end.error.type), storable(end.error.message)
        rows.put("sessions", key, error_type=kind, error_message=message)
    rows.delete("running", key)


def _interrupted(rows: Rows, happened: Happened, session: SessionContext) -> None:
    row = rows.get("sessions", (session.number,))
    found = isinstance(happened.payload, SessionInterrupted)
    if found and row is not None and row["state"] == "running":
        rows.put("sessions", (session.number,), state="interrupted")
        rows.delete("running", (session.number,))


def _called(rows: Rows, happened: Happened, session: SessionContext) -> None:
    deltas = attempt(happened.payload)
    if deltas is None:
        return
    total = {name: deltas[name] for name in _SUMMED if name in deltas}
    for above in session.chain():
        rows.add("sessions", (above.number,), **total)


def attempt(payload: Event) -> dict[str, int] | None:
    """What one attempt to call a model adds to every count and cost, without what it adds nothing
    to; None for other events."""
    if isinstance(payload, LLMResponded):
        price, usage = payload.price, payload.usage
        deltas = {"calls": 1}
    elif isinstance(payload, LLMFailed):
        price, usage = payload.price or _UNKNOWN, payload.usage
        deltas = {"failed_calls": 1}
        if usage is None:
            return deltas  # nobody said that it used anything
    else:
        return None
    if price.nanos is None:
        deltas["unpriced_calls"] = 1
    elif price.nanos:
        deltas["cost_nanos"] = price.nanos
    if usage is not None:
        _add_usage(deltas, usage)
    return deltas


_UNKNOWN = Price("unpriced")


def _add_usage(deltas: dict[str, int], usage: Usage) -> None:
    if usage.input:
        deltas["input_tokens"] = usage.input
    if usage.output:
        deltas["output_tokens"] = usage.output
    if usage.cache_read:
        deltas["cache_read_tokens"] = usage.cache_read
    if usage.cache_write_5m or usage.cache_write_1h:
        deltas["cache_write_tokens"] = usage.cache_write_5m + usage.cache_write_1h
    if usage.reasoning:
        deltas["reasoning_tokens"] = usage.reasoning
    if usage.audio_in:
        deltas["audio_input_tokens"] = usage.audio_in
    if usage.audio_out:
        deltas["audio_output_tokens"] = usage.audio_out
