"""The cost cube: exact nano-dollars by time, tactic, model and agent.

`session_costs` stores the cells of each session that a summary can select: of the roots, and of the
outermost calls of each tactic, each including everything below it. `costs` has the same summed over
all sessions of a scope. The empty scope is all sessions; the scope of a tactic is its outermost
calls and everything below them. So a summary never counts a child twice, by itself and in its
parent.

Times are stored as quarters of an hour, from which the days of every time zone can be summed
(`days`). `costs` has days in UTC, which are few and fast to sum; `quarter_hour_costs` has the same
by the quarter, for the days of other zones. `session_totals` has the sum of each session and
everything below it over all its cells. `tag_costs` has these totals summed over the roots with a
tag.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from operator import neg

import msgspec

from lllm.events import codec
from lllm.events.model import (
    LLMFailed,
    LLMRefused,
    LLMResponded,
    SessionArchived,
    SessionErased,
    SessionResidue,
    SessionRestored,
    SessionStarted,
    SessionTagged,
)
from lllm.projections.database import Value
from lllm.projections.days import QUARTER_HOUR, day_of, quarter_of
from lllm.projections.view import (
    ARCHIVED,
    ERASED,
    RESTORED,
    ColumnType,
    Index,
    Key,
    Rows,
    SessionContext,
    Table,
    ViewEvent,
    storable,
)
from lllm.projections.views import readable_views
from lllm.projections.views.cost_totals import Billed, CostTotals
from lllm.projections.views.dispatch import Handlers, hand_out, number_of

SUMS = CostTotals.__struct_fields__
_SUMS: dict[str, ColumnType] = dict.fromkeys(SUMS, "INTEGER")

_CELLS = Table(
    "cost_cells",
    {"tactic": "TEXT", "model": "TEXT", "agent": "TEXT", "cell": "INTEGER"},
    key=("tactic", "model", "agent"),
    indexes=(Index(("cell",), unique=True),),
    about="The number of each combination of tactic, model and agent that has costs.",
    is_glossary=True,
)
_SESSION_COSTS = Table(
    "session_costs",
    {"session": "INTEGER", "cell": "INTEGER", "quarter_hour": "INTEGER", **_SUMS},
    key=("session", "cell", "quarter_hour"),
    about=(
        "The cost of each session and everything below it, by tactic, model and agent (cost_cells) "
        "and by quarter of an hour. Only for root sessions and the outermost calls of each tactic."
    ),
)
_COSTS = Table(
    "costs",
    {
        "scope": "TEXT",
        "partition": "TEXT",
        "day": "INTEGER",
        "tactic": "TEXT",
        "model": "TEXT",
        "agent": "TEXT",
        **_SUMS,
    },
    key=("scope", "partition", "day", "tactic", "model", "agent"),
    about=(
        "The cost of all sessions by day (UTC, as the number YYYYMMDD), tactic, model and agent, "
        "in nano-dollars. scope = '' has every attempt once; the scope of a tactic has its "
        "outermost calls and everything below them."
    ),
)
_QUARTER_HOUR_COSTS = Table(
    "quarter_hour_costs",
    {
        "scope": "TEXT",
        "partition": "TEXT",
        "quarter_hour": "INTEGER",
        "cell": "INTEGER",
        **_SUMS,
    },
    key=("scope", "partition", "quarter_hour", "cell"),
    about="The same as costs by quarter of an hour since 1970, for days of other time zones.",
)
# The number of sessions in a scope; a tactic's scope counts its outermost calls.
_SESSION_COUNTS = Table(
    "session_counts",
    {"scope": "TEXT", "partition": "TEXT", "sessions": "INTEGER"},
    key=("scope", "partition"),
    about="The number of sessions in each scope of the table costs.",
)


def _in_order_of(name: str, value: str) -> Index:
    """The sessions in the order of a sum. In SQLite, all of them are sorted instead."""
    return Index((f"({value})", "session"), name=name, postgres=True)


# tags: the tags of a root as JSON, which tell to which sums of `tag_costs` its calls belong.
_SESSION_TOTALS = Table(
    "session_totals",
    {"session": "INTEGER", "tags": "TEXT", **_SUMS},
    key=("session",),
    indexes=(
        _in_order_of("cost", "coalesce(cost_nanos, 0)"),
        _in_order_of("calls", "coalesce(calls, 0) + coalesce(failed_calls, 0)"),
        _in_order_of("tokens", "coalesce(input_tokens, 0) + coalesce(output_tokens, 0)"),
    ),
    about="The cost of each session and everything below it: nano-dollars, calls, tokens.",
)
_TAG_COSTS = Table(
    "tag_costs",
    {"name": "TEXT", "value": "TEXT", "partition": "TEXT", "sessions": "INTEGER", **_SUMS},
    key=("name", "value", "partition"),
    about="The cost of the root sessions with each tag, including everything below them.",
)

_Amounts = tuple[int, ...]  # numbers in the order of SUMS
_NOTHING: list[_Amounts] = [(0,) * len(SUMS)]
_Spot = tuple[int, int, str, str, str]  # quarter of an hour, cell, tactic, model, agent
_Scopes = tuple[tuple[str, str], ...]  # tactic or "", partition
_Place = tuple[int, int, str, str]  # the place of a cost: session, quarter of an hour, model, agent


class CostsView:
    """The costs of all attempts to call a model, summed for every kind of cost summary."""

    name = "costs"
    version = 7
    tables: Sequence[Table] = (
        _CELLS,
        _SESSION_COSTS,
        _COSTS,
        _QUARTER_HOUR_COSTS,
        _SESSION_COUNTS,
        _SESSION_TOTALS,
        _TAG_COSTS,
    )
    readable = readable_views.COSTS
    types: Collection[str] = (
        "session.started",
        "session.tagged",
        "llm.responded",
        "llm.failed",
        "llm.refused",
        ERASED,
        ARCHIVED,
        RESTORED,
    )

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """Update the sums for some events; see `View.apply`."""
        sums = _Sums(rows)
        handlers: Handlers = {
            SessionStarted: sums.begin,
            SessionTagged: sums.tag,
            LLMResponded: sums.count,
            LLMFailed: sums.count,
            LLMRefused: sums.count,
            SessionErased: sums.erase,
            SessionArchived: sums.archive,
            SessionRestored: sums.restore,
        }
        hand_out(batch, handlers)
        sums.write()


class _Sums:
    """Collects what a batch adds to all sums, so that each row is updated only once."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._spent: dict[_Place, tuple[SessionContext, CostTotals]] = {}
        self._sessions: Counter[Key] = Counter()
        # Roots: the new ones, the tags of all that occur, and those whose tags have changed.
        self._new_roots: dict[int, SessionContext] = {}
        self._tags: dict[int, dict[str, str]] = {}
        self._retagged: dict[int, tuple[SessionContext, dict[str, str]]] = {}
        self._gone: list[int] = []  # archived sessions that are restored

    def count(self, session: SessionContext, billed: Billed, one: ViewEvent) -> None:
        """Add an attempt, or the rejection of an answer."""
        place = (session.number, quarter_of(one.event.time), billed.asked, billed.agent)
        found = self._spent.get(place)
        if found is None:
            found = self._spent[place] = (session, CostTotals())
        found[1].count(billed)

    def erase(self, session: SessionContext, erased: SessionErased, one: ViewEvent) -> None:
        """Remove the tags of a session; its costs stay."""
        if not one.is_residue:
            if session.parent is None and not session.is_replay:
                self._retag(session, {})
            return
        self._begin(session, {})
        self._spend(session, erased)

    def archive(self, session: SessionContext, archived: SessionArchived, one: ViewEvent) -> None:
        """Keep the costs and tags of a session whose events left the log."""
        if one.is_residue:
            self._begin(session, archived.tags)
            self._spend(session, archived)
        elif session.parent is None and not session.is_replay:
            self._retag(session, _storable(archived.tags))

    def _spend(self, session: SessionContext, left: SessionResidue) -> None:
        for cell in left.cost:
            place = (session.number, cell.quarter or 0, cell.model, cell.agent)
            self._spent[place] = (session, CostTotals.of(cell))

    def restore(self, session: SessionContext, restored: SessionRestored, _: ViewEvent) -> None:
        """Take an archived session out of all sums; the events that follow add it again."""
        if not session.is_replay:
            if session.parent is None:
                self._retag(session, {})
                self._sessions["", session.partition] -= 1
            if session.outermost:
                self._sessions[session.tactic_path, session.partition] -= 1
        for cell in restored.cost:
            place = (session.number, cell.quarter or 0, cell.model, cell.agent)
            found = self._spent.setdefault(place, (session, CostTotals()))[1]
            self._spent[place] = (session, found.minus(CostTotals.of(cell)))
        self._gone.append(session.number)

    def begin(self, session: SessionContext, started: SessionStarted, _: ViewEvent) -> None:
        """Add a new session, and its tags if it is a root."""
        self._begin(session, started.tags)

    def _begin(self, session: SessionContext, given: Mapping[str, str]) -> None:
        if session.is_replay:
            return
        if session.parent is None:
            self._sessions["", session.partition] += 1
            self._new_roots[session.number] = session
            self._keep_tags(session, _storable(given))
        if session.outermost:
            self._sessions[session.tactic_path, session.partition] += 1

    def tag(self, root: SessionContext, change: SessionTagged, _: ViewEvent) -> None:
        """Change the tags of a root; its cost so far moves to the new tags."""
        if root.parent is not None or root.is_replay:
            return
        before = self._tags_of(root)
        gone = {storable(name) for name in (*change.removed, *change.set)}
        tags = {name: value for name, value in before.items() if name not in gone}
        tags |= _storable(change.set)
        self._retag(root, tags)

    def _retag(self, root: SessionContext, tags: dict[str, str]) -> None:
        before = self._tags_of(root)
        if root.number not in self._new_roots:
            self._retagged.setdefault(root.number, (root, before))
        self._keep_tags(root, tags)

    def _keep_tags(self, root: SessionContext, tags: dict[str, str]) -> None:
        self._tags[root.number] = tags
        self._rows.put("session_totals", (root.number,), tags=codec.encode(tags).decode())

    def _tags_of(self, root: SessionContext) -> dict[str, str]:
        found = self._tags.get(root.number)
        if found is None:
            row = self._rows.get("session_totals", (root.number,))
            found = self._tags[root.number] = _tags_in(row["tags"] if row else None)
        return found

    def write(self) -> None:
        """Write the collected sums."""
        roots = dict(self._new_roots)
        totals = self._add_spent(roots)
        self._add_by_tag(roots, totals)
        totals.write(self._rows)
        for scope, sessions in self._sessions.items():
            self._rows.add("session_counts", scope, sessions=sessions)
        for number in self._gone:
            self._rows.delete("session_totals", (number,))
            self._rows.delete_under("session_costs", number)

    def _add_spent(self, roots: dict[int, SessionContext]) -> _Added:
        """Update the cells and the cube; return what to add to the totals of sessions.

        The roots whose sessions spent something are added to `roots`.
        """
        cells, totals = _Added("session_costs"), _Added("session_totals")
        cube, quarters = _Added("costs"), _Added("quarter_hour_costs")
        # Many costs go to the same scopes; they are summed once for all of them.
        alike: defaultdict[tuple[_Scopes, _Spot], list[_Amounts]] = defaultdict(list)
        for (__, quarter, model, agent), (session, spent) in self._spent.items():
            sums = spent.sums()
            if session.is_replay:
                for above in session.chain():
                    totals[above.number,].append(sums)
                continue
            own = (session.tactic_path, storable(model), storable(agent))
            cell, _ = number_of(self._rows, _CELLS.name, own, "cell")
            chain = session.chain()
            root = chain[-1]
            roots[root.number] = root
            scopes = [("", root.partition)]
            for above in chain:
                totals[above.number,].append(sums)
                if above.parent is None or above.outermost:
                    cells[above.number, cell, quarter].append(sums)
                    scopes.append((above.tactic_path, above.partition))
            alike[(*scopes,), (quarter, cell, *own)].append(sums)
        for (within, (quarter, cell, tactic, model, agent)), parts in alike.items():
            sums, day = _summed(parts), day_of(quarter * QUARTER_HOUR)
            for scope in within:
                cube[(*scope, day, tactic, model, agent)].append(sums)
                quarters[(*scope, quarter, cell)].append(sums)
        for added in (cells, cube, quarters):
            added.write(self._rows)
        return totals

    def _add_by_tag(self, roots: Mapping[int, SessionContext], totals: _Added) -> None:
        """Add new costs to the tags of roots, and move stored costs between tags."""
        tags = _Added("tag_costs", ("sessions", *SUMS))
        for number, root in roots.items():
            sums = (int(number in self._new_roots), *_summed(totals.get((number,), _NOTHING)))
            tags.under(root, self._tags_of(root), sums)
        for root, before in self._retagged.values():
            stored = self._rows.get("session_totals", (root.number,)) or {}
            sums = (1, *(int(stored.get(name) or 0) for name in SUMS))
            tags.under(root, before, tuple(map(neg, sums)))
            tags.under(root, self._tags_of(root), sums)
        tags.write(self._rows)
        left = {
            (name, value, root.partition)
            for root, before in self._retagged.values()
            for name, value in before.items()
        }
        # the row of a tag that no root has any more is deleted, wherever a batch ends
        for key in left:
            row = self._rows.get("tag_costs", key)
            if row is not None and not row["sessions"]:
                self._rows.delete("tag_costs", key)


class _Added(defaultdict[Key, list[_Amounts]]):
    """The amounts to add to each row of a table."""

    def __init__(self, table: str, columns: tuple[str, ...] = SUMS) -> None:
        super().__init__(list)
        self._table = table
        self._columns = columns

    def under(self, root: SessionContext, tags: Mapping[str, str], sums: _Amounts) -> None:
        """Add amounts to each tag of a root."""
        for name, value in tags.items():
            self[name, value, root.partition].append(sums)

    def write(self, rows: Rows) -> None:
        for key, parts in self.items():
            rows.add(self._table, key, **dict(zip(self._columns, _summed(parts), strict=True)))


def _summed(parts: Sequence[_Amounts]) -> _Amounts:
    return parts[0] if len(parts) == 1 else (*map(sum, zip(*parts, strict=True)),)


def _storable(tags: Mapping[str, str]) -> dict[str, str]:
    return {storable(name): storable(value) for name, value in tags.items()}


def _tags_in(tags: Value) -> dict[str, str]:
    try:
        return msgspec.json.decode(str(tags or "{}"), type=dict[str, str])
    except (ValueError, RecursionError):
        return {}  # lllm never writes such a row
