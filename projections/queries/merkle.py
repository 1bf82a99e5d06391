"""Reads the Merkle tree of a log: its root, and the nodes that proofs consist of."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict

from lllm.events.backend import LogBackend
from lllm.events.errors import LogDamaged, StoreError
from lllm.events.integrity.leaves import Leaves, leaf_pages, marked
from lllm.events.integrity.merkle import RightEdge, root_of
from lllm.events.integrity.verified_tree import TILE, TILE_LEVEL
from lllm.projections.database import RowsDatabase
from lllm.projections.views.merkle import split_hashes

_CACHED = 64  # tiles of 40 KB; a proof needs two, one of scattered events more, and each twice


class StoredTree:
    """The Merkle tree of a log, as the rows have it at this moment.

    Args:
        log: The log, whose digests are the leaves of the tree.
        database: The database of the rows.

    Attributes:
        edge: The right edge of the tree, with its size and its root.
        last_position: The position of the last event in the tree; 0 for an empty tree.

    Raises:
        StoreError: The rows are not as lllm writes them.
        LogError: The rows can't be read.
    """

    def __init__(self, log: LogBackend, database: RowsDatabase) -> None:
        self._log = log
        self._database = database
        self._tiles: OrderedDict[int, list[tuple[int, bytes]]] = OrderedDict()
        rows = database.query(
            "SELECT size, hashes, first_position, last_position, unreadable FROM merkle_edge "
            "WHERE id = 0"
        )
        size, hashes, first, last, marks = rows[0] if rows else (0, b"", 0, 0, 0)
        if not (
            isinstance(size, int)
            and isinstance(first, int)
            and isinstance(last, int)
            and isinstance(marks, int)
        ):
            raise _damaged()
        try:
            self.edge = RightEdge(size, split_hashes(hashes))
        except ValueError as error:
            raise _damaged() from error
        self._last_tile = first, last, marks
        self.last_position = last

    def unreadable(self) -> int:
        """Count the leaves of events that could not be read when they were added.

        Returns:
            The number of these leaves.

        Raises:
            LogError: The rows can't be read.
        """
        rows = self._database.query(
            "SELECT unreadable FROM merkle_nodes WHERE level = ? AND unreadable > 0", (TILE_LEVEL,)
        )
        incomplete = self._last_tile[2] if self.edge.size % TILE else 0
        return incomplete + sum(marks for (marks,) in rows if isinstance(marks, int))

    def read(self, level: int, index: int) -> bytes:
        """Read the hash of a node of the tree; this is a `merkle.NodeReader`.

        Args:
            level: The level of the node; its subtree has 2^level leaves.
            index: The number of the node among those of its level, from 0.

        Returns:
            The hash of the node, 32 bytes.

        Raises:
            StoreError: The rows don't have the node.
            LogDamaged: An event has changed since the tree was built, or can't be read. This
                concerns only proofs for the 256 leaves of its tile.
            LogError: The rows or the log can't be read.
        """
        if level >= TILE_LEVEL:
            rows = self._database.query(
                "SELECT hash FROM merkle_nodes WHERE level = ? AND node = ?", (level, index)
            )
            if not rows or not isinstance(rows[0][0], bytes):
                raise _damaged()
            return rows[0][0]
        begin = index << level
        tile = self._tile(begin >> TILE_LEVEL)
        leaves = tile[begin % TILE : begin % TILE + (1 << level)]
        if len(leaves) != 1 << level:
            raise _damaged()
        return root_of(digest for _, digest in leaves)

    def leaf(self, position: int) -> tuple[int, bytes] | None:
        """Find the leaf of an event.

        Args:
            position: The position of the event in the log.

        Returns:
            The index of the leaf and its hash; None if the tree has no event at this position.

        Raises:
            StoreError: The rows don't have the leaf.
            LogError: The rows or the log can't be read.
        """
        if not 0 < position <= self.last_position:
            return None
        number = self.edge.size >> TILE_LEVEL
        if not self.edge.size % TILE or position < self._last_tile[0]:
            tiles = range(number)
            number = bisect_right(tiles, position, key=lambda one: self._positions(one)[0]) - 1
        tile = self._tile(number) if number >= 0 else []
        at = bisect_left(tile, (position, b""))
        if at == len(tile) or tile[at][0] != position:
            return None
        return (number << TILE_LEVEL) + at, tile[at][1]

    def _tile(self, number: int) -> list[tuple[int, bytes]]:
        """Read the digests of a tile: 256 leaves, or fewer in the last one."""
        found = self._tiles.get(number)
        if found is None:
            first, last, marks = self._positions(number)
            pages = leaf_pages(self._log, after=first - 1, upto=last)
            leaves = [leaf for page in pages for leaf in page]
            digests = marked(leaves)
            if not self._is_tile(number, digests):
                raise _unprovable(leaves, first, last, marks)
            places = (position for position, _ in leaves)
            found = self._tiles[number] = list(zip(places, digests, strict=True))
            if len(self._tiles) > _CACHED:
                self._tiles.popitem(last=False)
        return found

    def _is_tile(self, number: int, leaves: list[bytes]) -> bool:
        """True if the tree was built from these leaves."""
        if number == self.edge.size >> TILE_LEVEL:
            tile = RightEdge()
            tile.extend(leaves)
            return tile.hashes == self.edge.hashes[number.bit_count() :]
        return len(leaves) == TILE and root_of(leaves) == self.read(TILE_LEVEL, number)

    def _positions(self, tile: int) -> tuple[int, int, int]:
        """The positions of a tile's first and last event, and the number of unreadable ones."""
        if tile == self.edge.size >> TILE_LEVEL:
            return self._last_tile
        rows = self._database.query(
            "SELECT first_position, last_position, unreadable FROM merkle_nodes "
            "WHERE level = ? AND node = ?",
            (TILE_LEVEL, tile),
        )
        first, last, marks = rows[0] if rows else (None, None, None)
        if not (isinstance(first, int) and isinstance(last, int) and isinstance(marks, int)):
            raise _damaged()
        return first, last, marks


def _unprovable(leaves: Leaves, first: int, last: int, marks: int) -> LogDamaged:
    lost = [position for position, digest in leaves if digest is None]
    what = (
        f"position {lost[0]} can't be read"
        if len(lost) > marks
        else "one of them is not what it was when the log's Merkle tree was built"
    )
    return LogDamaged(
        f"Nothing can be proven of the events from position {first} to {last}: {what}. `lllm "
        "verify` lists all damage; restore a backup.",
        position=lost[0] if lost else last,
    )


def _damaged() -> StoreError:
    return StoreError(
        "The stored Merkle tree is not as lllm writes it. Rebuild it with `lllm rebuild` or "
        "LogStore.rebuild()."
    )
