"""Reads the Merkle tree of a log: its root, and the nodes that proofs are made of."""

from __future__ import annotations

from collections import OrderedDict

from lllm.events.backend import LogBackend, read_digests
from lllm.events.backends.sqlite.database import Database
from lllm.events.errors import StoreError
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
        self._tiles: OrderedDict[int, list[bytes]] = OrderedDict()
        rows = database.query(
            "SELECT size, hashes, first_position, last_position FROM merkle_edge WHERE id = 0"
        )
        size, hashes, first, last = rows[0] if rows else (0, b"", 0, 0)
        if not (isinstance(size, int) and isinstance(first, int) and isinstance(last, int)):
            raise _damaged()
        try:
            self.edge = RightEdge(size, split_hashes(hashes))
        except ValueError as error:
            raise _damaged() from error
        self._first_position = first
        self.last_position = last

    def read(self, level: int, index: int) -> bytes:
        """Read a node; see `merkle.NodeReader`.

        Args:
            level: Its level.
            index: Its index.

        Raises:
            StoreError: The rows don't have it.
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
        return root_of(leaves)

    def _tile(self, number: int) -> list[bytes]:
        """Read the digests below a node of level 8, or those that are not yet below one."""
        found = self._tiles.get(number)
        if found is None:
            first, last = self._positions(number)
            pages = read_digests(self._log, after=first - 1, upto=last)
            found = self._tiles[number] = [digest for page in pages for _, digest in page]
            if len(self._tiles) > _CACHED:
                self._tiles.popitem(last=False)
        return found

    def _positions(self, tile: int) -> tuple[int, int]:
        if tile == self.edge.size >> TILE_LEVEL:
            return self._first_position, self.last_position
        rows = self._database.query(
            "SELECT first_position, last_position FROM merkle_nodes WHERE level = ? AND node = ?",
            (TILE_LEVEL, tile),
        )
        first, last = rows[0] if rows else (None, None)
        if not (isinstance(first, int) and isinstance(last, int)):
            raise _damaged()
        return first, last


def _damaged() -> StoreError:
    return StoreError(
        "The stored Merkle tree is not what lllm writes; `lllm rebuild`, or LogStore.rebuild(), "
        "makes it anew."
    )
