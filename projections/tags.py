"""The tag index: which sessions have a tag, a state, a tactic or a partition.

Each such property is a facet with a small number of its own. One table, (facet, started, session),
answers every filter newest first, by walking the rarest facet and looking the others up; another
counts the sessions of each facet, which tells the rarest.

Two scopes are kept apart: `root` for the calls that a plain list shows, `child` for the outermost
calls of a tactic below a root, which a list by tactic shows too. Children carry where their root
stands, since they are filtered by its tags as well as by their own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lllm.events.model import SessionStarted, SessionTagged
from lllm.projections.view import Happened, Rows, SessionContext, Table, storable

Facet = tuple[str, str, str]  # kind (all, tag, state, tactic, partition), name, value

_FACETS = Table(
    "facets",
    {
        "facet": "INTEGER",
        "started": "INTEGER",
        "session": "INTEGER",
        "root_started": "INTEGER",
        "root": "INTEGER",
    },
    key=("facet", "started", "session"),
)
_FACET_NAMES = Table(
    "facet_names",
    {
        "scope": "TEXT",
        "kind": "TEXT",
        "name": "TEXT",
        "value": "TEXT",
        "facet": "INTEGER",
        "sessions": "INTEGER",
    },
    key=("scope", "kind", "name", "value"),
)
_FACET_COUNTER = Table("facet_counter", {"id": "INTEGER", "last": "INTEGER"}, key=("id",))
_SESSION_TAGS = Table(
    "session_tags",
    {"session": "INTEGER", "name": "TEXT", "value": "TEXT"},
    key=("session", "name"),
)
# What others said of a session later; each is a stream of its own.
_STATEMENTS = Table(
    "statements",
    {"session": "INTEGER", "position": "INTEGER", "stream": "TEXT"},
    key=("session", "position"),
)
_STATES = {"session.succeeded": "success", "session.failed": "failure"}


class TagsView:
    """The facets of every session that a list can show."""

    name = "tags"
    version = 1
    tables: Sequence[Table] = (_FACETS, _FACET_NAMES, _FACET_COUNTER, _SESSION_TAGS, _STATEMENTS)
    types: Collection[str] = (
        "session.started",
        "session.succeeded",
        "session.failed",
        "session.interrupted",
        "session.tagged",
    )

    def apply(self, rows: Rows, batch: Sequence[Happened]) -> None:
        """See View."""
        for happened in batch:
            if happened.session is not None:
                _apply(rows, happened, happened.session)


def _apply(rows: Rows, happened: Happened, session: SessionContext) -> None:
    event, payload = happened.event, happened.payload
    if isinstance(payload, SessionStarted):
        _started(rows, payload, session)
    elif event.type in _STATES:
        _move(rows, session, ("running", "interrupted"), _STATES[event.type])
    elif event.type == "session.interrupted":
        _statement(rows, happened, session)
        _move(rows, session, ("running",), "interrupted")
    elif isinstance(payload, SessionTagged):
        _statement(rows, happened, session)
        for name in payload.removed:
            _untag(rows, session, name)
        for name, value in payload.set.items():
            _untag(rows, session, name)
            _tag(rows, session, name, value)


def _statement(rows: Rows, happened: Happened, session: SessionContext) -> None:
    event = happened.event
    rows.put("statements", (session.number, event.position), stream=event.stream)


def _started(rows: Rows, started: SessionStarted, session: SessionContext) -> None:
    _enter(rows, session, ("all", "", ""))
    _enter(rows, session, ("state", "", "running"))
    _enter(rows, session, ("tactic", "", session.tactic_path))
    _enter(rows, session, ("partition", "", session.partition))
    for name, value in started.tags.items():
        _tag(rows, session, name, value)


def _tag(rows: Rows, session: SessionContext, name: str, value: str) -> None:
    name, value = storable(name), storable(value)
    rows.put("session_tags", (session.number, name), value=value)
    _enter(rows, session, ("tag", name, value))


def _untag(rows: Rows, session: SessionContext, name: str) -> None:
    name = storable(name)
    row = rows.get("session_tags", (session.number, name))
    if row is not None:
        rows.delete("session_tags", (session.number, name))
        _leave(rows, session, ("tag", name, str(row["value"])))


def _move(rows: Rows, session: SessionContext, before: Sequence[str], after: str) -> None:
    for state in before:
        if _leave(rows, session, ("state", "", state)):
            _enter(rows, session, ("state", "", after))
            return


def scope(session: SessionContext) -> str | None:
    """The lists that can show a session; None for a call inside a call of the same tactic."""
    if session.parent is None:
        return "root"
    return "child" if session.outermost else None


def _enter(rows: Rows, session: SessionContext, facet: Facet) -> None:
    where = scope(session)
    if where is None:
        return
    key = (where, *facet)
    row = rows.get("facet_names", key)
    if row is None:
        counter = rows.get("facet_counter", (0,))
        number = (int(counter["last"] or 0) if counter else 0) + 1
        rows.put("facet_counter", (0,), last=number)
        rows.put("facet_names", key, facet=number)
    else:
        number = int(row["facet"] or 0)
    rows.add("facet_names", key, sessions=1)
    if where == "root":
        rows.put("facets", (number, session.started, session.number))
    else:
        rows.put(
            "facets",
            (number, session.started, session.number),
            root_started=session.root.started,
            root=session.root.number,
        )


def _leave(rows: Rows, session: SessionContext, facet: Facet) -> bool:
    where = scope(session)
    row = rows.get("facet_names", (where, *facet)) if where else None
    if row is None:
        return False
    key = (row["facet"], session.started, session.number)
    if rows.get("facets", key) is None:
        return False
    rows.delete("facets", key)
    rows.add("facet_names", (where, *facet), sessions=-1)
    return True
