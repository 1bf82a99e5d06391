"""Damage to a log moves no leaf of its Merkle tree, and a rebuild forgets none."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.backend import LogBackend
from lllm.events.errors import LogDamaged
from lllm.events.integrity.leaves import UNREADABLE_LEAF, leaf_pages
from lllm.events.integrity.merkle import inclusion_proof, is_included, root_of
from lllm.projections.queries import merkle as queries
from lllm.projections.queries.merkle import StoredTree
from lllm.projections.views import merkle as views
from tests.projections.test_merkle import events

KINDS = ["sqlite", "jsonl"]
DAMAGES = [
    "DELETE FROM events WHERE position = ?",
    "UPDATE events SET digest = 'x' WHERE position = ?",
    "UPDATE events SET digest = zeroblob(31) WHERE position = ?",
]


class Damageable:
    """A log whose events can be made unreadable, and the leaves that its tree should have."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.path = folder / ("runs.db" if kind == "sqlite" else "logs")
        self.backend: LogBackend = (
            SQLiteBackend(self.path) if kind == "sqlite" else LocalFileBackend(self.path)
        )
        self.store = LogStore(self.backend)
        self.appends: list[list[int]] = []  # positions
        self.digests: dict[int, bytes] = {}
        self.lost: set[int] = set()
        self.leaves: list[bytes] = []

    def append(self, count: int) -> None:
        new = events(len(self.digests) + 1, count)
        positions = list(self.store.log.append(new))
        self.appends.append(positions)
        self.digests |= {
            position: event.digest for position, event in zip(positions, new, strict=True)
        }

    def damage(self, number: int, how: int = 0) -> None:
        """Make an event unreadable; in JSON lines those of its append are lost with it.

        But a broken first line of one is a line alone, since nothing says that it belonged there.
        """
        inner = [one for append in self.appends[:-1] for one in append]  # the end is told apart
        if not inner:
            return
        position = inner[number % len(inner)]
        if self.kind == "sqlite":
            with closing(sqlite3.connect(self.path)) as connection:
                _drop_triggers(connection)
                connection.execute(DAMAGES[how % len(DAMAGES)], (position,))
                connection.commit()
            self.lost.add(position)
            return
        file = self.path / "00000000000000000000.jsonl"
        content = bytearray(file.read_bytes())
        begin = content.rfind(b"\n", 0, position - 1) + 1
        content[begin : position - 1] = b"#" * (position - 1 - begin)
        file.write_bytes(content)
        append = next(append for append in self.appends if position in append)
        self.lost |= {position} if position == self._first_left(append) else set(append)

    def _first_left(self, append: list[int]) -> int:
        """The first event of an append behind those that are lost already."""
        return next((one for one in append if one not in self.lost), 0)

    def tree(self) -> StoredTree:
        """The tree with all that the log has; the model gets the leaves that it should have."""
        assert self.store._rows.catch_up()
        for position in sorted(self.digests)[len(self.leaves) :]:
            lost = position in self.lost
            self.leaves.append(UNREADABLE_LEAF if lost else self.digests[position])
        return StoredTree(self.store.log, self.store._rows.database)

    def check(self) -> None:
        tree = self.tree()
        assert tree.edge.size == len(self.leaves)
        assert tree.edge.root() == root_of(self.leaves)
        assert tree.unreadable() == self.leaves.count(UNREADABLE_LEAF)


def _drop_triggers(connection: sqlite3.Connection) -> None:
    triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    for (name,) in triggers.fetchall():
        connection.execute(f"DROP TRIGGER {name}")


@contextmanager
def damageable(kind: str) -> Iterator[Damageable]:
    """A log, and tiles of four leaves."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for module in (views, queries):
            patch.setattr(module, "TILE_LEVEL", 2)
            patch.setattr(module, "TILE", 4)
        log = Damageable(kind, Path(folder))
        try:
            yield log
        finally:
            log.store.close()


STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 6)),
    st.tuples(st.just("damage"), st.integers(0, 60)),
    st.tuples(st.sampled_from(["tree", "rebuild"]), st.just(0)),
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(steps=st.lists(STEPS, max_size=10), how=st.integers(0, 2))
@settings(max_examples=15, deadline=None)
def test_any_history_with_damage(kind: str, steps: list[tuple[str, int]], how: int) -> None:
    """The leaves are those that were readable when they were due, after every rebuild, too."""
    with damageable(kind) as log:
        log.append(5)
        for step, number in [*steps, ("rebuild", 0)]:
            if step == "append":
                log.append(number)
            elif step == "damage":
                log.damage(number, how)
            else:
                log.check()
                if step == "rebuild":
                    assert log.store.rebuild(check=True).difference is None
                    log.store.rebuild()
                    log.check()


@pytest.mark.parametrize("kind", KINDS)
def test_proofs_beside_damage(kind: str) -> None:
    """All tiles but the damaged one go on to prove their events; of that one it is said."""
    with damageable(kind) as log:
        for _ in range(10):
            log.append(2)
        root = log.tree().edge.root()
        log.damage(9)
        log.store.rebuild()
        tree = log.tree()
        assert tree.edge.root() == root
        for index, leaf in enumerate(log.leaves):
            if index // 4 == 2:
                with pytest.raises(LogDamaged, match="Nothing can be proven of the events from"):
                    inclusion_proof(index, 20, tree.read)
            else:
                path = inclusion_proof(index, 20, tree.read)
                assert is_included(leaf, index, 20, path, root)


def test_a_changed_leaf_proves_nothing() -> None:
    """A digest that is another than when the tree was built makes no wrong proof."""
    with damageable("sqlite") as log:
        log.append(12)
        tree = log.tree()
        with closing(sqlite3.connect(log.path)) as connection:
            _drop_triggers(connection)
            connection.execute("UPDATE events SET digest = zeroblob(32) WHERE position = 6")
            connection.commit()
        with pytest.raises(LogDamaged, match="one of them is not what it was"):
            inclusion_proof(4, 12, tree.read)
        inclusion_proof(3, 12, tree.read)
        difference = log.store.rebuild(check=True).difference
        assert difference is not None
        assert difference.key == {"level": 2, "node": 1}


@pytest.mark.parametrize(
    ("column", "value"), [("time", "'x'"), ("type", "x'ff'"), ("seq", "'?'"), ("data", "'{'")]
)
def test_a_field_of_the_wrong_kind(column: str, value: str) -> None:
    """Its digest can still be read, and what stands before it in the page, too."""
    with damageable("sqlite") as log:
        log.append(12)
        with closing(sqlite3.connect(log.path)) as connection:
            _drop_triggers(connection)
            connection.execute(f"UPDATE events SET {column} = {value} WHERE position = 6")
            connection.commit()
        log.check()
        log.store.rebuild()
        log.check()
        assert [d for page in leaf_pages(log.store.log) for _, d in page] == log.leaves
        if column != "data":
            read = log.store.log.read()
            assert [next(read).position for _ in range(5)] == [1, 2, 3, 4, 5]
            with pytest.raises(LogDamaged):
                next(read)
