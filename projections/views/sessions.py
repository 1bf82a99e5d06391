"""The view of sessions: everything that a list of sessions shows, so lists read no payload.

The number of a session is the position of its first event. Its costs are in the tables of the costs
view.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

from lllm.events.envelope import Recorded
from lllm.events.model import (
    AgentDefined,
    AgentStarted,
    Erased,
    LLMRequested,
    MessageAdded,
    SessionArchived,
    SessionErased,
    SessionFailed,
    SessionInterrupted,
    SessionResidue,
    SessionRestored,
    SessionStarted,
    SessionSucceeded,
)
from lllm.projections.view import (
    ARCHIVED,
    ERASED,
    RESTORED,
    Index,
    Rows,
    SessionContext,
    Table,
    ViewEvent,
    forked_from,
    replayed_by,
    storable,
)
from lllm.projections.views import readable_views
from lllm.projections.views.task_summary import first_line, task_line

_OF_ROOTS = "parent IS NULL AND replays IS NULL"


def _in_order_of(name: str, value: str) -> Index:
    """The root sessions in the order of a value. In SQLite, all of them are sorted instead."""
    return Index((f"({value})", "number"), where=_OF_ROOTS, name=name, postgres=True)


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
        "task": "TEXT",
        "agent_calls": "INTEGER",
        "replays": "TEXT",
        "forks": "TEXT",
        "erased": "INTEGER",
        "erased_by": "TEXT",
        "erased_reason": "TEXT",
        "erasure": "INTEGER",
        "archived": "INTEGER",
        "archive": "TEXT",
        "archival": "INTEGER",
    },
    key=("number",),
    indexes=(
        Index(("id",), unique=True),
        Index(("root", "parent"), where="parent IS NOT NULL"),
        Index(("started",), where=_OF_ROOTS),
        Index(("replays", "started"), where="replays IS NOT NULL"),
        Index(("forks",), where="forks IS NOT NULL"),
        Index(("erasure",), where="erasure IS NOT NULL"),
        Index(("archive",), where="archive IS NOT NULL"),
        _in_order_of("elapsed", "coalesce(elapsed, -1)"),
        _in_order_of("state", "state"),
        _in_order_of("tactic", "tactic"),
        _in_order_of("task", "coalesce(task, '')"),
    ),
    about=(
        "Every call of a tactic and every captured session, at any depth. number is the position "
        "of its first event, and identifies it in all tables; parent and root are such numbers. "
        "started and ended are nanoseconds UTC, elapsed nanoseconds. replays is the id of the "
        "session that a replay repeats, forks the id of the session that a fork continues; both "
        "are NULL for other sessions. erased is the time of an erasure (nanoseconds UTC), erasure "
        "the position of its event; both are NULL for sessions that are not erased. "
        "archived, archive and archival are the time (nanoseconds UTC) at which the events of a "
        "session left the log, the archive file that has them, and the position of the event that "
        "says so."
    ),
)

_ENDS = (SessionSucceeded, SessionFailed)

# Always few rows: the owners of running sessions, which are checked for writers that died.
_RUNNING = Table(
    "running",
    {"session": "INTEGER", "owner": "TEXT", "host": "TEXT"},
    key=("session",),
    about="The sessions that have not ended, with the lock file of the process that writes each.",
)

# The position of each agent definition, for logs that can't look up a stream.
_DEFINITIONS = Table(
    "definitions",
    {"stream": "TEXT", "position": "INTEGER", "name": "TEXT", "time": "INTEGER"},
    key=("stream",),
    indexes=(Index(("name", "position")),),
    about=(
        "The position in the log of each definition of an agent, the agent's name, and the time at "
        "which the log met it (nanoseconds UTC)."
    ),
)


# Which sessions use a definition, so that it is erased with the last of them.
_DEFINITION_USES = Table(
    "definition_uses",
    {"session": "INTEGER", "definition": "TEXT"},
    key=("session", "definition"),
    indexes=(Index(("definition",)),),
    about="Which sessions use which definition of an agent.",
)


class SessionsView:
    """One row for each session."""

    name = "sessions"
    version = 8
    tables: Sequence[Table] = (_SESSIONS, _RUNNING, _DEFINITIONS, _DEFINITION_USES)
    readable = readable_views.SESSIONS
    types: Collection[str] = (
        "session.started",
        "session.succeeded",
        "session.failed",
        "session.interrupted",
        ERASED,
        ARCHIVED,
        RESTORED,
        "agent.defined",
        "agent.started",
        "message.added",
        "llm.requested",
    )

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """Update the rows of sessions for some events; see `View.apply`."""
        running, asked = _RunningSessions(), _TaskLines(rows)
        for one in batch:
            if one.session is not None and isinstance(one.payload, LLMRequested):
                asked.use(one.session, one.payload.definition)
            elif one.session is not None:
                _take(rows, running, asked, one, one.session)
            elif one.event.type == AgentDefined.type:
                stream, payload = storable(one.event.stream), one.payload
                name = payload.name if isinstance(payload, AgentDefined) else ""
                rows.put(
                    "definitions",
                    (stream,),
                    position=one.event.position,
                    name=storable(name),
                    time=one.event.time,
                )
        running.write(rows)
        asked.write()


def _take(
    rows: Rows,
    running: _RunningSessions,
    asked: _TaskLines,
    one: ViewEvent,
    session: SessionContext,
) -> None:
    payload, event = one.payload, one.event
    if isinstance(payload, SessionStarted):
        running.begin(session, payload)
        _put_start(rows, payload, session)
        asked.begin(session, payload)
    elif isinstance(payload, MessageAdded):
        asked.hear(session, payload)
    elif isinstance(payload, AgentStarted):
        asked.agent_calls[session.number] += 1
        asked.use(session, payload.definition)
    elif isinstance(payload, _ENDS):
        running.end(session)
        _put_end(rows, event, payload, session)
    elif isinstance(payload, SessionInterrupted):
        running.end(session)
        row = rows.get("sessions", (session.number,))
        if row is not None and row["state"] == "running":
            rows.put("sessions", (session.number,), state="interrupted")
    elif isinstance(payload, Erased):
        _put_envelope(rows, event, session)
    else:
        _take_removal(rows, running, asked, one, session)


def _take_removal(
    rows: Rows,
    running: _RunningSessions,
    asked: _TaskLines,
    one: ViewEvent,
    session: SessionContext,
) -> None:
    """Take that a session was erased or archived, or comes back."""
    payload, event = one.payload, one.event
    if isinstance(payload, SessionErased):
        running.end(session)
        asked.forget(session)
        rows.delete_under("definition_uses", session.number)
        for stream in payload.streams:
            rows.delete("definitions", (storable(stream),))
        _put_residue(rows, payload, session, event)
    elif isinstance(payload, SessionArchived):
        running.end(session)
        asked.forget(session)
        rows.delete_under("definition_uses", session.number)
        for stream in payload.definitions:
            asked.use(session, stream)
        _put_residue(rows, payload, session, event)
    elif isinstance(payload, SessionRestored):
        asked.forget(session)
        rows.delete_under("definition_uses", session.number)
        rows.delete("sessions", (session.number,))


class _TaskLines:
    """The task of each session in a batch, and which agents it called, how often.

    For a session without a task, the first message of its user is used.
    """

    def __init__(self, rows: Rows) -> None:
        self.agent_calls: Counter[int] = Counter()
        self._rows = rows
        self._tasks: dict[int, str] = {}
        self._known: dict[int, bool] = {}  # session -> True if it has a task
        self._uses: defaultdict[int, set[str]] = defaultdict(set)

    def begin(self, session: SessionContext, started: SessionStarted) -> None:
        self._take(session.number, task_line(started.task))

    def hear(self, session: SessionContext, added: MessageAdded) -> None:
        if added.why == "user" and not self._has_task(session.number):
            self._take(session.number, first_line(added.content.text))

    def use(self, session: SessionContext, definition: str | None) -> None:
        if definition is not None:
            self._uses[session.number].add(definition)

    def forget(self, session: SessionContext) -> None:
        self._uses.pop(session.number, None)
        self.agent_calls.pop(session.number, None)
        self._tasks.pop(session.number, None)

    def _take(self, number: int, line: str | None) -> None:
        self._known[number] = line is not None
        if line is not None:
            self._tasks[number] = storable(line)

    def _has_task(self, number: int) -> bool:
        known = self._known.get(number)
        if known is None:
            row = self._rows.get("sessions", (number,))
            known = self._known[number] = row is not None and row["task"] is not None
        return known

    def write(self) -> None:
        for number, task in self._tasks.items():
            self._rows.put("sessions", (number,), task=task)
        for number, calls in self.agent_calls.items():
            self._rows.add("sessions", (number,), agent_calls=calls)
        for number, definitions in self._uses.items():
            for definition in definitions:
                self._rows.put("definition_uses", (number, storable(definition)))


class _RunningSessions:
    """The sessions that are still running after a batch."""

    def __init__(self) -> None:
        self._new: dict[int, SessionStarted] = {}
        self._ended: list[int] = []

    def begin(self, session: SessionContext, started: SessionStarted) -> None:
        self._new[session.number] = started

    def end(self, session: SessionContext) -> None:
        if self._new.pop(session.number, None) is None:
            self._ended.append(session.number)

    def write(self, rows: Rows) -> None:
        for number in self._ended:
            rows.delete("running", (number,))
        for number, started in self._new.items():
            owner, host = storable(started.owner), storable(started.host)
            rows.put("running", (number,), owner=owner, host=host)


def _put_start(rows: Rows, started: SessionStarted, session: SessionContext) -> None:
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
    replays = replayed_by(started)
    if replays is not None:
        rows.put("sessions", key, replays=storable(replays))
    forks = forked_from(started)
    if forks is not None:
        rows.put("sessions", key, forks=storable(forks))
    if session.parent is not None:
        rows.put("sessions", key, parent=session.parent.number, ordinal=started.ordinal)


def _put_envelope(rows: Rows, event: Recorded, session: SessionContext) -> None:
    """Store what the envelope of an erased event tells, until the `session.erased` comes."""
    key = (session.number,)
    if event.type == SessionStarted.type:
        rows.put("sessions", key, id=session.session_id, started=session.started)
    elif event.type in (SessionSucceeded.type, SessionFailed.type):
        rows.put("sessions", key, last_position=event.position)


def _put_residue(
    rows: Rows, left: SessionResidue, session: SessionContext, event: Recorded
) -> None:
    """Replace the row of a session by what the event of its erasure or archiving keeps."""
    key = (session.number,)
    before = rows.get("sessions", key) or {}
    last_position = None if left.positions else before.get("last_position")
    rows.delete("sessions", key)
    rows.put(
        "sessions",
        key,
        id=session.session_id,
        tactic=session.tactic_path,
        name=storable(left.name),
        kind=storable(left.kind),
        partition=session.partition,
        state=left.state,
        started=session.started,
        ended=left.ended,
        elapsed=left.elapsed,
        last_position=last_position,
        root=session.root.number,
        parent=None if session.parent is None else session.parent.number,
        ordinal=None if session.parent is None else left.ordinal,
        replays=_storable(replayed_by(left)),
        forks=_storable(forked_from(left)),
    )
    if isinstance(left, SessionErased):
        rows.put(
            "sessions",
            key,
            erased=event.time,
            erased_by=storable(left.by),
            erased_reason=storable(left.reason),
            erasure=event.position,
        )
    elif isinstance(left, SessionArchived):
        archive = storable(left.archive)
        rows.put("sessions", key, archived=event.time, archive=archive, archival=event.position)


def _storable(text: str | None) -> str | None:
    return None if text is None else storable(text)


def _put_end(
    rows: Rows, event: Recorded, end: SessionSucceeded | SessionFailed, session: SessionContext
) -> None:
    key = (session.number,)
    rows.put(
        "sessions",
        key,
        state="success" if isinstance(end, SessionSucceeded) else "failure",
        ended=event.time,
        elapsed=end.elapsed,
        last_position=event.position,
    )
    if isinstance(end, SessionFailed):
        kind, message = storable(end.error.type), storable(end.error.message)
        rows.put("sessions", key, error_type=kind, error_message=message)
