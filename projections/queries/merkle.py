"""Reads the Merkle tree of a log: its root, and the nodes that proofs are made of."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict

from lllm.events.backend import LogBackend
from lllm.events.backends.sqlite.database import Database
from lllm.events.errors import LogDamaged, StoreError
from lllm.events.integrity.leaves import Leaves, leaf_pages, marked
from lllm.events.integrity.merkle import RightEdge, root_of
from lllm.projections.views.merkle import TILE, TILE_LEVEL, split_hashes

_CACHED = 4  # tiles; a proof needs two


class StoredTree:
    """The Merkle tree as the rows have it now.

    Args:
        log: The log, whose digests are the leaves.
        database: Where the rows are.

    Attributes:
        edge: The right edge, with the size and the root.
        last_position: The position of the last event in the tree, 0 for none.

    Raises:
        StoreError: The rows are none that lllm writes.
        LogError: They can't be read.
    """

    def __init__(self, log: LogBackend, database: Database) -> None:
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
        """Count the leaves that stand for events which could not be read.

        Raises:
            LogError: The rows can't be read.
        """
        rows = self._database.query(
            "SELECT unreadable FROM merkle_nodes WHERE level = ? AND unreadable > 0", (TILE_LEVEL,)
        )
        incomplete = self._last_tile[2] if self.edge.size % TILE else 0
        return incomplete + sum(marks for (marks,) in rows if isinstance(marks, int))

    def read(self, level: int, index: int) -> bytes:
        """Read a node; see `merkle.NodeReader`.

        Args:
            level: Its level.
            index: Its index.

        Raises:
            StoreError: The rows don't have it.
            LogDamaged: An event is not what it was when the tree was built, or can't be read. Only
                proofs about the 255 beside it need its digest.
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
            The index of the leaf, and its hash; None where the tree has no event at this position.

        Raises:
            StoreError: The rows don't have it.
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
        """Read the digests below a node of level 8, or those that are not yet below one."""
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
        """True if these are the leaves that the tree was built from."""
        if number == self.edge.size >> TILE_LEVEL:
            tile = RightEdge()
            tile.extend(leaves)
            return tile.hashes == self.edge.hashes[number.bit_count() :]
        return len(leaves) == TILE and root_of(leaves) == self.read(TILE_LEVEL, number)

    def _positions(self, tile: int) -> tuple[int, int, int]:
        """The positions of a tile's first and last event, and how many could not be read."""
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
        "verify` tells more; restore a backup.",
        position=lost[0] if lost else last,
    )


def _damaged() -> StoreError:
    return StoreError(
        "The stored Merkle tree is not what lllm writes; `lllm rebuild`, or LogStore.rebuild(), "
        "makes it anew."
    )
