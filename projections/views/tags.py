"""The view of tags: finds the sessions with a given tag, state, tactic or partition.

Each such property is a facet, which has a small number. One table, (facet, started, session),
serves every filter, newest first: the rarest facet is read in order, and the others are looked up.
The number of sessions of each facet tells which is the rarest.

The roots, which are the calls that a plain list shows, are in a table of their own. A further table
has the outermost calls of a tactic below a root, which a list by tactic shows too. It contains the
position of their root, since they are filtered by the root's tags as well as by their own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import get_args

from lllm.events.model import (
    SessionAnnotated,
    SessionArchived,
    SessionErased,
    SessionFailed,
    SessionHeld,
    SessionInterrupted,
    SessionReleased,
    SessionRestored,
    SessionStarted,
    SessionSucceeded,
    SessionTagged,
    State,
)
from lllm.projections.view import (
    ARCHIVED,
    ERASED,
    RESTORED,
    Rows,
    SessionContext,
    Table,
    ViewEvent,
    storable,
)
from lllm.projections.views.dispatch import Handlers, hand_out, number_of

# kind (tag, state, tactic, partition; "named" means any tag of that name), name, value
Facet = tuple[str, str, str]
_OF_TAGS = ("tag", "named")  # facets of all children, whether a list by tactic shows them or not
_COUNTS = ("roots", "children", "replays")
NO_PARTITION = ""  # the default partition is no facet: the rows of sessions tell it

_FACETS = Table(
    "facets",
    {"facet": "INTEGER", "started": "INTEGER", "session": "INTEGER"},
    key=("facet", "started", "session"),
    about=(
        "For lists of root sessions: the sessions with each tag, state, tactic or partition "
        "(facet_numbers), by their start."
    ),
)
_CHILD_FACETS = Table(
    "child_facets",
    {
        "facet": "INTEGER",
        "started": "INTEGER",
        "session": "INTEGER",
        "root_started": "INTEGER",
        "root": "INTEGER",
    },
    key=("facet", "started", "session"),
    about="The same for sessions below others, with the number of each root.",
)
# The number of a facet, and of its sessions. A facet without sessions has no row.
_FACET_NUMBERS = Table(
    "facet_numbers",
    {
        "kind": "TEXT",
        "name": "TEXT",
        "value": "TEXT",
        "facet": "INTEGER",
        "roots": "INTEGER",
        "children": "INTEGER",
        "replays": "INTEGER",
    },
    key=("kind", "name", "value"),
    about=(
        "The number of each tag, state, tactic and partition, and how many sessions have it: root "
        "sessions, child sessions, and replays, which no filter finds by it."
    ),
)
_TAG_NAMES = Table(
    "tag_names",
    {"facet": "INTEGER", "name": "TEXT", "value": "TEXT"},
    key=("facet",),
    about="Name and value of each tag, by its number.",
)
# The tags of a session itself: the numbers of their facets, each between two spaces.
_SESSION_TAGS = Table(
    "session_tags",
    {"session": "INTEGER", "facets": "TEXT"},
    key=("session",),
    about=(
        "The tags of a session itself: their numbers (tag_names), each between two spaces. Child "
        "sessions also inherit the tags of their root."
    ),
)
# Later statements about a session; each has a stream of its own.
_STATEMENTS = Table(
    "statements",
    {"session": "INTEGER", "position": "INTEGER", "stream": "TEXT"},
    key=("session", "position"),
    about=(
        "The later statements about a session, such as tags: their positions in the log and their "
        "streams."
    ),
)


class TagsView:
    """The facets (tags, state, tactic, partition) of every session."""

    name = "tags"
    version = 7
    tables: Sequence[Table] = (
        _FACETS,
        _CHILD_FACETS,
        _FACET_NUMBERS,
        _TAG_NAMES,
        _SESSION_TAGS,
        _STATEMENTS,
    )
    types: Collection[str] = (
        "session.started",
        "session.succeeded",
        "session.failed",
        "session.interrupted",
        "session.tagged",
        "session.annotated",
        "session.held",
        "session.released",
        ERASED,
        ARCHIVED,
        RESTORED,
    )

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """Update the facets for some events; see `View.apply`."""
        facets = _Facets(rows)
        handlers: Handlers = {
            SessionStarted: facets.begin,
            SessionSucceeded: facets.end,
            SessionFailed: facets.end,
            SessionInterrupted: facets.interrupt,
            SessionTagged: facets.tag,
            SessionAnnotated: facets.keep_statement,
            SessionHeld: facets.keep_statement,
            SessionReleased: facets.keep_statement,
            SessionErased: facets.erase,
            SessionArchived: facets.archive,
            SessionRestored: facets.restore,
        }
        hand_out(batch, handlers)
        facets.write()


def numbers_in(facets: object) -> list[int]:
    """Parse the numbers of facets in a row.

    Args:
        facets: The value of the column `facets` of `session_tags`; None if the session has no row
            there.

    Returns:
        The numbers of the session's tags.
    """
    try:
        return list(map(int, str(facets or "").split()))
    except ValueError:
        return []  # lllm never writes such a row


class _Entries:
    """The number of a facet, and how its number of sessions changes in a batch."""

    __slots__ = ("children", "may_be_unused", "number", "replays", "roots")

    def __init__(self, number: int, *, is_new: bool) -> None:
        self.number = number
        self.roots = 0
        self.children = 0
        self.replays = 0
        self.may_be_unused = is_new


class _Facets:
    """The facets in one batch; each number is looked up once, and each count is written once."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._entries: dict[Facet, _Entries] = {}
        # Most sessions end in the batch in which they begin: only their last state is written.
        self._new: dict[int, tuple[SessionContext, str]] = {}

    def begin(self, session: SessionContext, started: SessionStarted, _: ViewEvent) -> None:
        """Add a new session to its first facets."""
        self._begin(session, "running")
        if started.tags:
            self._set_tags(session, [], started.tags, ())

    def _begin(self, session: SessionContext, state: str) -> None:
        listed = session.parent is None or session.outermost
        if listed and not session.is_replay:  # replays are found without facets
            self._new[session.number] = (session, state)
            self._enter(session, ("tactic", "", session.tactic_path))
            if session.partition != NO_PARTITION:
                self._enter(session, ("partition", "", session.partition))

    def end(
        self, session: SessionContext, end: SessionSucceeded | SessionFailed, _: ViewEvent
    ) -> None:
        """Add a session to the facet of its final state."""
        state = "success" if isinstance(end, SessionSucceeded) else "failure"
        self._move(session, ("running", "interrupted"), state)

    def interrupt(
        self, session: SessionContext, interrupted: SessionInterrupted, one: ViewEvent
    ) -> None:
        """Change the state of a running session to interrupted."""
        self.keep_statement(session, interrupted, one)
        self._move(session, ("running",), "interrupted")

    def tag(self, session: SessionContext, change: SessionTagged, one: ViewEvent) -> None:
        """Change a session's own tags."""
        self.keep_statement(session, change, one)
        self._set_tags(session, self._tags_of(session), change.set, change.removed)

    def erase(self, session: SessionContext, erased: SessionErased, one: ViewEvent) -> None:
        """Remove a session's tags and the statements about it; its state and tactic stay."""
        if one.is_residue and not self._has_begun(session):
            self._begin(session, erased.state)
        self._remove_tags(session)
        self.keep_statement(session, erased, one)

    def archive(self, session: SessionContext, archived: SessionArchived, one: ViewEvent) -> None:
        """Remove the statements about a session, which left the log; all else stays."""
        if one.is_residue and not self._has_begun(session):
            self._begin(session, archived.state)
        self._remove_tags(session)
        if archived.tags:
            self._set_tags(session, [], archived.tags, ())
        self.keep_statement(session, archived, one)

    def restore(self, session: SessionContext, _: SessionRestored, __: ViewEvent) -> None:
        """Remove all of an archived session; what follows adds it again."""
        self._remove_tags(session)
        self._rows.delete_under("statements", session.number)
        begun = self._new.pop(session.number, None)
        if begun is None:
            for state in get_args(State):
                self._leave(session, ("state", "", state))
        self._leave(session, ("tactic", "", session.tactic_path))
        if session.partition != NO_PARTITION:
            self._leave(session, ("partition", "", session.partition))

    def _remove_tags(self, session: SessionContext) -> None:
        """Remove a session's tags and the statements about it."""
        before = self._tags_of(session)
        names = [self._rows.get("tag_names", (number,)) for number in before]
        self._set_tags(session, before, {}, [str(row["name"]) for row in names if row])
        self._rows.delete("session_tags", (session.number,))
        self._rows.delete_under("statements", session.number)

    def _has_begun(self, session: SessionContext) -> bool:
        """True if the session has a state, in this batch or in the rows."""
        if session.number in self._new:
            return True
        table = "facets" if session.parent is None else "child_facets"
        for state in get_args(State):
            row = self._rows.get("facet_numbers", ("state", "", state))
            key = row and (row["facet"], session.started, session.number)
            if key and self._rows.get(table, key) is not None:
                return True
        return False

    def keep_statement(self, session: SessionContext, _: object, one: ViewEvent) -> None:
        """Store the position of a statement about a session."""
        event = one.event
        self._rows.put("statements", (session.number, event.position), stream=event.stream)

    def _tags_of(self, session: SessionContext) -> list[int]:
        row = self._rows.get("session_tags", (session.number,))
        return numbers_in(row["facets"]) if row else []

    def _set_tags(
        self,
        session: SessionContext,
        before: Sequence[int],
        changes: Mapping[str, str],
        removed: Collection[str],
    ) -> None:
        """Remove the tags with some names from a session, and add others."""
        numbers = list(before)
        gone = {storable(name) for name in (*changes, *removed)} if before else set()
        for number in before:
            found = self._rows.get("tag_names", (number,))
            if found is not None and found["name"] in gone:
                numbers.remove(number)
                name, value = str(found["name"]), str(found["value"])
                self._leave(session, ("tag", name, value))
                if session.parent is not None:
                    self._leave(session, ("named", name, ""))
        for name, value in {storable(name): storable(changes[name]) for name in changes}.items():
            numbers.append(self._enter(session, ("tag", name, value)))
            if session.parent is not None:
                self._enter(session, ("named", name, ""))
        facets = f" {' '.join(map(str, sorted(numbers)))} " if numbers else ""
        self._rows.put("session_tags", (session.number,), facets=facets)

    def _move(self, session: SessionContext, before: Collection[str], after: str) -> None:
        """Change the state of a session, if it is one of the expected states."""
        begun = self._new.get(session.number)
        if begun is not None:
            if begun[1] in before:
                self._new[session.number] = (session, after)
        elif any(self._leave(session, ("state", "", state)) for state in before):
            self._enter(session, ("state", "", after))

    def _enter(self, session: SessionContext, facet: Facet) -> int:
        """Add a session to a facet, if it is not in it and lists show it there.

        It returns the number of the facet.
        """
        entries = self._of(facet)
        key = (entries.number, session.started, session.number)
        if session.is_replay:
            entries.replays += 1
            return entries.number  # its tags are shown, but no filter finds it by them
        if session.parent is None:
            entries.roots += 1
            self._rows.put("facets", key)
        elif session.outermost or facet[0] in _OF_TAGS:
            entries.children += 1
            root = session.root
            self._rows.put("child_facets", key, root_started=root.started, root=root.number)
        return entries.number

    def _leave(self, session: SessionContext, facet: Facet) -> bool:
        """Remove a session from a facet; False if it was not there."""
        table = "facets" if session.parent is None else "child_facets"
        if facet not in self._entries and self._rows.get("facet_numbers", facet) is None:
            return False
        entries = self._of(facet)
        key = (entries.number, session.started, session.number)
        if session.is_replay and facet[0] in _OF_TAGS:
            entries.replays -= 1
            entries.may_be_unused = True
        if self._rows.get(table, key) is None:
            return False
        self._rows.delete(table, key)
        entries.may_be_unused = True
        if session.parent is None:
            entries.roots -= 1
        else:
            entries.children -= 1
        return True

    def _of(self, facet: Facet) -> _Entries:
        """Find the entries of a facet, which are looked up once."""
        entries = self._entries.get(facet)
        if entries is None:
            table = _FACET_NUMBERS.name
            number, new = number_of(self._rows, table, facet, "facet")
            if new:
                self._rows.put(table, facet, roots=0, children=0, replays=0)
                kind, name, value = facet
                if kind == "tag":
                    self._rows.put("tag_names", (number,), name=name, value=value)
            entries = self._entries[facet] = _Entries(number, is_new=new)
        return entries

    def write(self) -> None:
        """Write states and session counts at the end of the batch."""
        for session, state in self._new.values():
            self._enter(session, ("state", "", state))
        for facet, entries in self._entries.items():
            counts = {name: count for name in _COUNTS if (count := getattr(entries, name))}
            if counts:
                self._rows.add("facet_numbers", facet, **counts)
            if entries.may_be_unused:
                self._drop_unused(facet, entries.number)

    def _drop_unused(self, facet: Facet, number: int) -> None:
        """Delete the name and value of a facet that no session has any more."""
        row = self._rows.get("facet_numbers", facet)
        if row is not None and not any(row[name] for name in _COUNTS):
            self._rows.delete("facet_numbers", facet)
            self._rows.delete("tag_names", (number,))
