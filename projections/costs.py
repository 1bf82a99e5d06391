"""The cost cube: what was spent, by day, tactic, model and agent, in exact nano-dollars.

`session_costs` keeps the cells of each session that a summary can select: the roots, and the
outermost call of each tactic, each with everything below it. `costs` is the same summed over all
sessions of a scope: the empty scope is everything there is, a tactic's scope its outermost calls
with all below them. So a summary never counts a child both by itself and in its parent.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from lllm.events.model import SessionStarted
from lllm.projections.spent import ATTEMPTS, Spent
from lllm.projections.view import (
    ColumnType,
    Happened,
    Index,
    Key,
    Rows,
    SessionContext,
    Table,
    storable,
)

SUMS = Spent.__struct_fields__
_SUMS: dict[str, ColumnType] = dict.fromkeys(SUMS, "INTEGER")

_CELLS = Table(
    "cost_cells",
    {"tactic": "TEXT", "model": "TEXT", "agent": "TEXT", "cell": "INTEGER"},
    key=("tactic", "model", "agent"),
    indexes=(Index(("cell",), unique=True),),
)
_CELL_COUNTER = Table("cost_cell_counter", {"id": "INTEGER", "last": "INTEGER"}, key=("id",))
_SESSION_COSTS = Table(
    "session_costs",
    {"session": "INTEGER", "cell": "INTEGER", "day": "INTEGER", **_SUMS},
    key=("session", "cell", "day"),
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
)
# How many sessions a summary of a scope is about; a tactic's scope counts its outermost calls.
_SESSION_COUNTS = Table(
    "session_counts",
    {"scope": "TEXT", "partition": "TEXT", "sessions": "INTEGER"},
    key=("scope", "partition"),
)

_Place = tuple[int, int, str, str]  # where something was spent: session, day, model, agent


class CostsView:
    """What every attempt to call a model cost, summed in every way that a summary asks for."""

    name = "costs"
    version = 1
    tables: Sequence[Table] = (
        _CELLS,
        _CELL_COUNTER,
        _SESSION_COSTS,
        _COSTS,
        _SESSION_COUNTS,
    )
    types: Collection[str] = ("session.started", "llm.responded", "llm.failed")

    def apply(self, rows: Rows, batch: Sequence[Happened]) -> None:
        """See View."""
        spent: dict[_Place, tuple[SessionContext, Spent]] = {}
        for happened in batch:
            payload, session = happened.payload, happened.session
            if session is None:
                continue
            if isinstance(payload, ATTEMPTS):
                place = (session.number, day_of(happened.event.time), payload.asked, payload.agent)
                found = spent.get(place)
                if found is None:
                    found = spent[place] = (session, Spent())
                found[1].count(payload)
            elif isinstance(payload, SessionStarted):
                _count(rows, session)
        totals: defaultdict[Key, Spent] = defaultdict(Spent)
        for place, (session, sums) in spent.items():
            _add(rows, totals, session, place, sums)
        for key, sums in totals.items():
            rows.add("costs", key, **sums.columns(SUMS))


def _count(rows: Rows, session: SessionContext) -> None:
    if session.parent is None:
        rows.add("session_counts", ("", session.partition), sessions=1)
    if session.outermost:
        rows.add("session_counts", (session.tactic_path, session.partition), sessions=1)


def _add(
    rows: Rows, totals: Mapping[Key, Spent], session: SessionContext, place: _Place, sums: Spent
) -> None:
    """Add what was spent in one place to everything that includes it."""
    _, day, model, agent = place
    own = (session.tactic_path, storable(model), storable(agent))
    cell = _cell(rows, own)
    columns = sums.columns(SUMS)
    chain = session.chain()
    totals["", chain[-1].partition, day, *own].include(sums)
    for above in chain:
        if above.parent is None or above.outermost:
            rows.add("session_costs", (above.number, cell, day), **columns)
            totals[above.tactic_path, above.partition, day, *own].include(sums)


def _cell(rows: Rows, key: tuple[str, str, str]) -> int:
    row = rows.get("cost_cells", key)
    if row is not None:
        return int(row["cell"] or 0)
    counter = rows.get("cost_cell_counter", (0,))
    number = (int(counter["last"] or 0) if counter else 0) + 1
    rows.put("cost_cell_counter", (0,), last=number)
    rows.put("cost_cells", key, cell=number)
    return number


_days: dict[int, int] = {}


def day_of(time: int) -> int:
    """The UTC day of a time in nanoseconds, as the number YYYYMMDD, which sorts and reads well."""
    days = time // 86_400_000_000_000
    if days not in _days:
        # A clock that is out of its mind must not stop a projection.
        date = dt.date.fromordinal(min(max(_EPOCH + days, 1), dt.date.max.toordinal()))
        _days[days] = date.year * 10_000 + date.month * 100 + date.day
    return _days[days]


_EPOCH = dt.date(1970, 1, 1).toordinal()
