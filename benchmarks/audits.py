"""What evidence costs: the Merkle tree while writing and in a rebuild, seals, proofs, verifying.

What erasing costs is in `erasures`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import msgspec

from benchmarks import replays
from benchmarks.generate import fill, one_session
from benchmarks.measure import Bar, Figure, Spread, in_rounds, median_shown, milliseconds, ratio
from lllm import LogStore, SQLiteBackend
from lllm.audit.checkpoint import parse_checkpoint
from lllm.events.integrity.verified_tree import VerifiedTree
from lllm.events.integrity.verify import verify
from lllm.projections.engine.projector import Projector
from lllm.projections.engine.rebuild import rebuild
from lllm.projections.view import View
from lllm.projections.views.calls import CallsView
from lllm.projections.views.costs import CostsView
from lllm.projections.views.merkle import MerkleView
from lllm.projections.views.sessions import SessionsView
from lllm.projections.views.tags import TagsView

AREA = "audit"
_GUARD = "events_are_never_replaced"  # the trigger that INSERT OR REPLACE fails on


def figures(folder: Path, sessions: int, *, rounds: int) -> Iterator[Figure]:
    """All that is measured of a log as evidence.

    rounds: of what takes milliseconds; there are more of what takes less, and fewer of the rest.
    """
    folder.mkdir()
    few = 1 + rounds // 10
    yield _live(folder, 10 * rounds)
    path = folder / "runs.db"
    session = _made(path, sessions)
    yield _rebuilt(path, few)
    yield from _sealed_and_proven(path, session, rounds, few)
    yield from _verified(path, few)


def _made(path: Path, sessions: int) -> str:
    """Make a store; returns the id of a session in its middle that proves itself whole."""
    with LogStore(SQLiteBackend(path)) as store:
        fill(store.backend, sessions // 2)
        tactic = replays.asking(["On Monday."] * replays.ASKS, store)
        proven = tactic(replays.ASKS, return_session=True)
        fill(store.backend, sessions - sessions // 2, seed=2)
    return proven.session_id


def _views() -> tuple[View, ...]:
    """The views that a store has at any rate, but for the tree."""
    return SessionsView(), TagsView(), CostsView(), CallsView()


def _live(folder: Path, rounds: int) -> Figure:
    """Sessions are written and projected, with the tree and the guard and without."""
    with (
        closing(SQLiteBackend(folder / "with.db")) as log,
        closing(SQLiteBackend(folder / "without.db")) as other,
    ):
        with closing(sqlite3.connect(folder / "without.db")) as connection:
            connection.execute(f"DROP TRIGGER {_GUARD}")
        tree = Projector(log, log.rows_database(), (*_views(), MerkleView()))
        none = Projector(other, other.rows_database(), _views())
        for projector in (tree, none):
            rebuild(projector)
        numbers = {id(tree): count(), id(none): count()}

        def write(projector: Projector) -> None:
            one_session(projector.log, next(numbers[id(projector)]))
            projector.catch_up()

        taken = in_rounds({"with": lambda: write(tree), "without": lambda: write(none)}, rounds)
        events = log.head() / next(numbers[id(tree)])
    more = [one - other for one, other in zip(taken["with"], taken["without"], strict=True)]
    return Figure(
        AREA, "tree and guard, for each event that is written and projected",
        Spread.of(more).times(1e-3 / events), "µs more",
        f"a session of {events:.0f} events: {median_shown(taken['without'])} without, "
        f"{median_shown(taken['with'])} with", Bar(8, "at most"),
    )  # fmt: skip


def _rebuilt(path: Path, rounds: int) -> Figure:
    with closing(SQLiteBackend(path)) as log:
        tree = Projector(log, log.rows_database(), (*_views(), MerkleView()))
        none = Projector(log, log.rows_database(), _views())
        taken = in_rounds(
            {"with": lambda: rebuild(tree), "without": lambda: rebuild(none)}, rounds, warm_up=1
        )
        events = log.head()
    slower = ratio(taken["with"], taken["without"])
    return Figure(
        AREA, f"rebuild with the tree, {events:,} events",
        Spread(*(100 * (one - 1) for one in (slower.median, slower.low, slower.high))), "% slower",
        f"{median_shown(taken['without'])} without", Bar(10, "at most"),
    )  # fmt: skip


def _sealed_and_proven(path: Path, session: str, rounds: int, few: int) -> Iterator[Figure]:
    with LogStore(SQLiteBackend(path)) as store:
        store.list_sessions(limit=1)  # catches up
        events = store.backend.head()
        taken = in_rounds({"seal": store.seal}, rounds)["seal"]
        yield Figure(
            AREA, f"seal, {events:,} events", milliseconds(taken), "ms", bar=Bar(50, "at most")
        )
        seal = store.seal()
        taken = in_rounds({"prove": lambda: store.prove(session, seal)}, rounds)["prove"]
        what = f"proof of one session, {events:,} events"
        yield Figure(AREA, what, milliseconds(taken), "ms", bar=Bar(20, "at most"))
        proof = store.prove(session, seal)
        size = len(msgspec.structs.replace(proof, streams=()).text())
        yield Figure(
            AREA, f"the same, beside the {len(proof.streams[0].events)} events themselves",
            Spread.of([size]), "bytes", bar=Bar(2_048, "at most"),
        )  # fmt: skip
    first = [_first_proof(path, session, seal) for _ in range(few)]
    yield Figure(
        AREA, f"{what}, the first in a process that opened the store", milliseconds(first), "ms",
        bar=Bar(20, "at most"),
    )  # fmt: skip


def _first_proof(path: Path, session: str, seal: str) -> int:
    with LogStore(SQLiteBackend(path)) as store:
        store.list_sessions(limit=1)
        return in_rounds({"one": lambda: store.prove(session, seal)}, 1, warm_up=0)["one"][0]


def _verified(path: Path, rounds: int) -> Iterator[Figure]:
    with LogStore(SQLiteBackend(path)) as store:
        size = parse_checkpoint(store.seal()).size
    with closing(SQLiteBackend(path)) as log:
        taken = in_rounds(
            {
                "alone": lambda: verify(log),
                "with a checkpoint": lambda: verify(log, tree=VerifiedTree(log, [size])),
            },
            rounds,
            warm_up=1,
        )
    for name, times in taken.items():
        yield Figure(
            AREA, f"verify {name}, {size:,} events", Spread.of(size * 1e9 / one for one in times),
            "events/s", median_shown(times), Bar(200_000, "at least"),
        )  # fmt: skip
