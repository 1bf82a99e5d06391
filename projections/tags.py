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

from lllm.events.model import (
    SessionFailed,
    SessionInterrupted,
    SessionStarted,
    SessionSucceeded,
    SessionTagged,
)
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
_NO_ROOT = 0  # above a root; sqlite3 takes a number without ado, and None only after a search
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
        facets = _Facets(rows)
        for happened in batch:
            if happened.session is not None:
                _apply(rows, facets, happened, happened.session)
        facets.write()


def _apply(rows: Rows, facets: _Facets, happened: Happened, session: SessionContext) -> None:
    payload = happened.payload
    if isinstance(payload, SessionStarted):
        facets.begin(session)
        for name, value in payload.tags.items():
            _tag(rows, facets, session, name, value)
    elif isinstance(payload, SessionSucceeded):
        facets.move(session, ("running", "interrupted"), "success")
    elif isinstance(payload, SessionFailed):
        facets.move(session, ("running", "interrupted"), "failure")
    elif isinstance(payload, SessionInterrupted):
        _statement(rows, happened, session)
        facets.move(session, ("running",), "interrupted")
    elif isinstance(payload, SessionTagged):
        _statement(rows, happened, session)
        for name in payload.removed:
            _untag(rows, facets, session, name)
        for name, value in payload.set.items():
            _untag(rows, facets, session, name)
            _tag(rows, facets, session, name, value)


def _statement(rows: Rows, happened: Happened, session: SessionContext) -> None:
    event = happened.event
    rows.put("statements", (session.number, event.position), stream=event.stream)


def _tag(rows: Rows, facets: _Facets, session: SessionContext, name: str, value: str) -> None:
    name, value = storable(name), storable(value)
    rows.put("session_tags", (session.number, name), value=value)
    facets.enter(session, "tag", name, value)


def _untag(rows: Rows, facets: _Facets, session: SessionContext, name: str) -> None:
    name = storable(name)
    row = rows.get("session_tags", (session.number, name))
    if row is not None:
        rows.delete("session_tags", (session.number, name))
        facets.leave(session, "tag", name, str(row["value"]))


def scope(session: SessionContext) -> str | None:
    """The lists that can show a session; None for a call inside a call of the same tactic."""
    if session.parent is None:
        return "root"
    return "child" if session.outermost else None


class _Entries:
    """How many sessions one batch puts under a facet and takes from under it."""

    __slots__ = ("number", "sessions")

    def __init__(self, number: int) -> None:
        self.number = number  # of the facet; 0 while it has none
        self.sessions = 0


class _Facets:
    """The facets of one batch: each one's number is looked up once, and its count added to once."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._entries: dict[tuple[str, str, str, str], _Entries] = {}
        # Most sessions end in the batch that they begin in: only their last state is written.
        self._begun: dict[int, tuple[SessionContext, str]] = {}

    def begin(self, session: SessionContext) -> None:
        """Put a new session under the facets that every session has."""
        self.enter(session, "all", "", "")
        self._begun[session.number] = (session, "running")
        self._entries_of(session, "state", "", "running", make=True)
        self.enter(session, "tactic", "", session.tactic_path)
        self.enter(session, "partition", "", session.partition)

    def move(self, session: SessionContext, before: Collection[str], after: str) -> None:
        """Put a session under another state, if it is under one of those before."""
        begun = self._begun.get(session.number)
        if begun is None:
            if self._leave_any(session, before):
                self.enter(session, "state", "", after)
        elif begun[1] in before:
            self._begun[session.number] = (session, after)
            self._entries_of(session, "state", "", after, make=True)

    def _leave_any(self, session: SessionContext, states: Collection[str]) -> bool:
        return any(self.leave(session, "state", "", state) for state in states)

    def enter(self, session: SessionContext, kind: str, name: str, value: str) -> None:
        """Put a session under a facet, which it must not be under already."""
        entries = self._entries_of(session, kind, name, value, make=True)
        if entries is None:
            return
        entries.sessions += 1
        root = None if session.parent is None else session.root
        self._rows.put(
            "facets",
            (entries.number, session.started, session.number),
            root_started=root.started if root else _NO_ROOT,
            root=root.number if root else _NO_ROOT,
        )

    def leave(self, session: SessionContext, kind: str, name: str, value: str) -> bool:
        """Take a session from under a facet; False where it was not there."""
        entries = self._entries_of(session, kind, name, value, make=False)
        if entries is None or not entries.number:
            return False
        key = (entries.number, session.started, session.number)
        if self._rows.get("facets", key) is None:
            return False
        self._rows.delete("facets", key)
        entries.sessions -= 1
        return True

    def _entries_of(
        self, session: SessionContext, kind: str, name: str, value: str, *, make: bool
    ) -> _Entries | None:
        """Those of a facet, in the lists that can show the session. With `make`, a facet that has
        no number gets the next: numbers follow the events, wherever a batch ends."""
        where = scope(session)
        if where is None:
            return None
        facet = (where, kind, name, value)
        entries = self._entries.get(facet)
        if entries is None:
            row = self._rows.get("facet_names", facet)
            entries = self._entries[facet] = _Entries(int(row["facet"] or 0) if row else 0)
        if make and not entries.number:
            entries.number = self._new_number(facet)
        return entries

    def _new_number(self, facet: tuple[str, str, str, str]) -> int:
        counter = self._rows.get("facet_counter", (0,))
        number = (int(counter["last"] or 0) if counter else 0) + 1
        self._rows.put("facet_counter", (0,), last=number)
        self._rows.put("facet_names", facet, facet=number, sessions=0)
        return number

    def write(self) -> None:
        """Say what is known only at the end: states, and how many sessions each facet has."""
        for session, state in self._begun.values():
            self.enter(session, "state", "", state)
        for facet, entries in self._entries.items():
            if entries.sessions:
                self._rows.add("facet_names", facet, sessions=entries.sessions)
