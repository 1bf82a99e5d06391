"""What projecting costs: all rows anew, one session more, nothing new; and what the rows weigh."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

from benchmarks.generate import one_session
from benchmarks.measure import Bar, Figure, Spread, in_rounds, median_shown, milliseconds
from lllm import LogStore, SQLiteBackend
from lllm.projections.engine.projector import Projector
from lllm.projections.engine.rebuild import rebuild
from lllm.projections.table_names import generation_table
from lllm.projections.view import View
from lllm.projections.views.calls import CallsView
from lllm.projections.views.costs import CostsView
from lllm.projections.views.sessions import SessionsView
from lllm.projections.views.tags import TagsView

AREA = "project"
_PAGE = 500  # rows fetched at once, as the library does


def rebuilds(store: LogStore, path: Path, *, quick: bool) -> Iterator[Figure]:
    """Every row anew but those of the search index, beside the mere reading of the same log."""
    store.rebuild(search=False)
    with closing(sqlite3.connect(path)) as bare:
        events = bare.execute("SELECT count(*) FROM events").fetchone()[0]
        taken = in_rounds(
            {"rebuild": store.rebuild, "read": lambda: _read(bare)}, 3 if quick else 5, warm_up=1
        )
    rates = Spread.of(events * 1e9 / time for time in taken["rebuild"])
    yield Figure(
        AREA, f"rebuild of all views, {events:,} events", rates, "events/s",
        f"reading them {median_shown(taken['read'])}; rebuild {median_shown(taken['rebuild'])}",
        Bar(250_000, "at least"),
    )  # fmt: skip


_REBUILD = """
import re, resource, sys
from lllm import LogStore, SQLiteBackend
with LogStore(SQLiteBackend({path!r})) as store:
    store.rebuild()
if sys.platform == "linux":  # getrusage counts the parent's memory in, from before the exec
    with open("/proc/self/status") as status:
        print(int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read())[1]) * 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS
"""


def memory(path: Path, roots: int) -> Figure:
    """What a process that builds all rows anew takes at most."""
    run = [sys.executable, "-c", _REBUILD.format(path=str(path))]
    peak = int(subprocess.run(run, check=True, capture_output=True).stdout) / 1e6
    return Figure(
        AREA, f"memory of a rebuild of {roots:,} sessions, at most", Spread.of([peak]), "MB",
        bar=Bar(150, "at most"),
    )  # fmt: skip


def _read(bare: sqlite3.Connection) -> None:
    rows = bare.execute(
        "SELECT position, stream, seq, time, type, version, CAST(data AS BLOB), digest FROM events"
    )
    while rows.fetchmany(_PAGE):
        pass


def catching_up(path: Path, *, quick: bool) -> Iterator[Figure]:
    """What a read waits for before it answers, when one session has ended since the last."""
    log = SQLiteBackend(path)
    views: tuple[View, ...] = (SessionsView(), TagsView(), CostsView(), CallsView())
    projector = Projector(log, log.rows_database(), views)
    rebuild(projector)
    numbers = count(1)

    def add_one() -> None:
        one_session(log, next(numbers))

    def between() -> None:
        projector.catch_up()
        add_one()

    add_one()
    rounds = 100 if quick else 500
    one = in_rounds({"one": projector.catch_up}, rounds, between=between)["one"]
    projector.catch_up()
    none = in_rounds({"none": projector.catch_up}, rounds)["none"]
    yield Figure(
        AREA, "catching up with one session", milliseconds(one), "ms", bar=Bar(0.25, "at most")
    )
    yield Figure(
        AREA, "catching up with nothing new", milliseconds(none), "ms", bar=Bar(0.01, "at most")
    )
    log.close()


def weights(path: Path, folder: Path) -> Iterator[Figure]:
    """The bytes that each view's rows and indexes take for a session, packed as VACUUM would."""
    for view in (SessionsView(), TagsView(), CostsView()):
        packed = folder / f"{view.name}.db"
        with closing(sqlite3.connect(path)) as connection:
            sessions = connection.execute("SELECT count(*) FROM sessions").fetchone()[0]
            connection.execute("ATTACH ? AS packed", (str(packed),))
            _copy(connection, view)
        size = packed.stat().st_size / sessions
        packed.unlink()
        yield Figure(
            AREA, f"rows and indexes of the view {view.name}", Spread(size, size, size),
            "bytes a session", bar=Bar(120, "at most") if view.name == TagsView.name else None,
        )  # fmt: skip


def _copy(connection: sqlite3.Connection, view: View) -> None:
    found = connection.execute(
        "SELECT generation FROM checkpoints WHERE view = ?", (view.name,)
    ).fetchone()
    for table in view.tables:
        name = generation_table(table.name, found[0])
        statements = connection.execute(
            "SELECT sql FROM main.sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL"
            " ORDER BY type DESC",
            (name,),
        ).fetchall()
        for (sql,) in statements:
            kind, _, rest = str(sql).partition(name)
            connection.execute(f"{kind}packed.{name}{rest}")
        connection.execute(f"INSERT INTO packed.{name} SELECT * FROM main.{name}")
    connection.commit()
