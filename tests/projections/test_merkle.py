"""The stored Merkle tree is that of the log's digests, however the log came about."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.backend import LogBackend, read_digests
from lllm.events.backends.memory import MemoryBackend
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.errors import LogDamaged, StoreError
from lllm.events.integrity.merkle import (
    EMPTY_ROOT,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    is_included,
    root_of,
)
from lllm.events.integrity.verified_tree import TILE
from lllm.projections.engine import projector, rebuild
from lllm.projections.queries.merkle import StoredTree

BACKENDS = ["sqlite", "jsonl", "memory"]


def opened(kind: str, folder: Path) -> LogBackend:
    """A log of one of the kinds."""
    if kind == "sqlite":
        return SQLiteBackend(folder / "runs.db")
    return (
        LocalFileBackend(folder / "logs", segment_bytes=65_536)
        if kind == "jsonl"
        else MemoryBackend()
    )


def events(first: int, count: int) -> list[NewEvent]:
    """Events of a type that no view knows, as newer writers write, all of one stream."""
    return [
        seal(b"s" * 32, "stream", number, 1_000 + number, "new.kind", 1, b'{"n":%d}' % number)
        for number in range(first, first + count)
    ]


def tree_of(store: LogStore) -> StoredTree:
    """The tree with all that the log has."""
    assert store._rows.catch_up()
    return StoredTree(store.log, store._rows.database)


def digests_of(log: LogBackend) -> list[bytes]:
    return [event.digest for event in log.read()]


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStore]:
    """An empty store."""
    with LogStore(opened(request.param, tmp_path)) as one:
        yield one


def test_an_empty_log(store: LogStore) -> None:
    """It has a tree without leaves."""
    tree = tree_of(store)
    assert (tree.edge.size, tree.edge.root(), tree.last_position) == (0, EMPTY_ROOT, 0)


def test_the_tree_of_a_log(store: LogStore) -> None:
    """Root and proofs at every stage are those of the digests, of whatever types."""
    written, stages = 0, [0]
    for count in (1, 200, 55, 1, 300, 256, 700):
        store.log.append(events(written + 1, count))
        written += count
        stages.append(written)
        tree = tree_of(store)
        leaves = digests_of(store.log)
        assert tree.edge.size == written == len(leaves)
        assert tree.edge.root() == root_of(leaves)
        assert tree.last_position == store.log.head()
    for old, new in pairwise(stages):
        path = consistency_proof(old, new, tree.read)
        assert is_consistent(old, root_of(leaves[:old]), new, root_of(leaves[:new]), path)
    for index in (0, 1, 255, 256, 700, 1_279, 1_280, written - 1):
        path = inclusion_proof(index, written, tree.read)
        assert is_included(leaves[index], index, written, path, tree.edge.root())


def test_a_proof_reads_few_digests(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads those of two tiles at most, however long the log is."""
    store.log.append(events(1, 5 * TILE + 40))
    tree = tree_of(store)
    read: list[int] = []

    def counted(*arguments: object, **named: object) -> Iterator[object]:
        for page in read_digests(*arguments, **named):  # type: ignore[arg-type]
            read.append(len(page))
            yield page

    monkeypatch.setattr("lllm.events.integrity.leaves.read_digests", counted)
    inclusion_proof(2 * TILE + 7, tree.edge.size, tree.read)
    assert read == [40, TILE] or read == [TILE, 40]


@pytest.mark.parametrize("size", [1, 3, 7, 400])
@pytest.mark.parametrize("kind", BACKENDS)
def test_batches_of_any_size(
    kind: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that follow the log are those of a rebuild, wherever a batch ends."""
    monkeypatch.setattr(projector, "BATCH", size)
    monkeypatch.setattr(rebuild, "_BATCH", size)
    with LogStore(opened(kind, tmp_path)) as store:
        for number in range(5):
            with store.session(f"session {number}"):
                pass
            store.log.append(events(1 + 60 * number, 60))
            tree = tree_of(store)
            assert tree.edge.root() == root_of(digests_of(store.log))
        assert store.rebuild(check=True).difference is None
        store.rebuild()
        assert tree_of(store).edge.hashes == tree.edge.hashes
        assert inclusion_proof(7, 300, tree_of(store).read) == inclusion_proof(7, 300, tree.read)


def test_a_changed_tree_is_found_and_mended(tmp_path: Path) -> None:
    """A rebuild compares the tree with the log, as all rows, and makes it anew."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        store.log.append(events(1, 600))
        root = tree_of(store).edge.root()
        with store._rows.database.write() as connection:
            assert connection is not None
            connection.execute("UPDATE merkle_nodes_v1 SET hash = zeroblob(32) WHERE node = 1")
        difference = store.rebuild(check=True).difference
        assert difference is not None
        assert (difference.table, difference.key) == ("merkle_nodes", {"level": 8, "node": 1})
        store.rebuild()
        assert store.rebuild(check=True).difference is None
        assert tree_of(store).edge.root() == root


@pytest.mark.parametrize(
    "column", ["size = 7", "size = 'x'", "hashes = 'x'", "last_position = NULL"]
)
def test_an_edge_that_no_lllm_writes(tmp_path: Path, column: str) -> None:
    """It is an error that says what to do, and lists go on without the tree."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        store.log.append(events(1, 5))
        assert store._rows.catch_up()
        with store._rows.database.write() as connection:
            assert connection is not None
            connection.execute(f"UPDATE merkle_edge_v1 SET {column}")
        with pytest.raises(StoreError, match="lllm rebuild"):
            StoredTree(store.log, store._rows.database)
        with store.session("after"):
            pass
        assert len(store.list_sessions()) == 1
        store.rebuild()
        assert tree_of(store).edge.root() == root_of(digests_of(store.log))


def test_digests_around_damage(tmp_path: Path) -> None:
    """What stands before a missing event is given first, then where it is missing."""
    log = SQLiteBackend(tmp_path / "runs.db")
    log.append(events(1, 20))
    digests = digests_of(log)
    with log.database.write() as connection:
        assert connection is not None
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("DELETE FROM events WHERE position = 9")
    pages = read_digests(log)
    assert [digest for _, digest in next(pages)] == digests[:8]
    with pytest.raises(LogDamaged) as raised:
        next(pages)
    assert raised.value.position == 9
    assert [digest for page in read_digests(log, after=9) for _, digest in page] == digests[9:]
    log.close()


@pytest.mark.parametrize("count", [1, TILE - 1, TILE, TILE + 1, 2 * TILE, 2 * TILE + 77])
@pytest.mark.parametrize("kind", BACKENDS)
def test_the_leaf_of_a_position(kind: str, count: int, tmp_path: Path) -> None:
    """It is found by the position of its event; other positions have none."""
    with LogStore(opened(kind, tmp_path)) as store:
        store.backend.append(events(1, count))
        tree = tree_of(store)
        log = list(store.log.read())
        asked = {*range(0, count, 17), *range(count - 2, count)} & {*range(count)}
        for index in asked:
            assert tree.leaf(log[index].position) == (index, log[index].digest)
        wrong = [-1, 0, log[-1].position + 1]
        wrong += [log[0].position + 1] if kind == "jsonl" else []
        assert [tree.leaf(position) for position in wrong] == [None] * len(wrong)
