"""The view of the Merkle tree, with the nodes that proofs about the log consist of.

It stores the tree's right edge, from which the root can be computed at once, and every node from
level 8 on. So a proof only reads the digests of one or two tiles, the 256 leaves below such a node.
The nodes for a million events take about 250 KB. The index of a leaf is not the position of its
event, so each tile has the positions of its first and last event.

Damage to the log does not change the tree: all leaves keep their indexes. A rebuild copies nodes
that it can't compute any more from the rows that it replaces, a tile at a time. If those don't have
them either, because the event was already unreadable when its leaf was added, a mark takes the
place of the leaf and is counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter

from lllm.events.integrity.leaves import Leaves, is_readable, marked
from lllm.events.integrity.merkle import HASH_BYTES, Node, RightEdge
from lllm.events.integrity.verified_tree import TILE, TILE_LEVEL
from lllm.projections.database import Value
from lllm.projections.view import ReadsRow, Rows, Table, ViewEvent

_NODES = Table(
    "merkle_nodes",
    {
        "level": "INTEGER",
        "node": "INTEGER",
        "hash": "BLOB",
        "first_position": "INTEGER",
        "last_position": "INTEGER",
        "unreadable": "INTEGER",
    },
    key=("level", "node"),
    about=(
        "The nodes of the Merkle tree over the digests of all events, from level 8 on. A node of "
        "level 8 covers 256 events, and has the positions of the first and the last of them, and "
        "the number of them that could not be read."
    ),
)
_EDGE = Table(
    "merkle_edge",
    {
        "id": "INTEGER",
        "size": "INTEGER",
        "hashes": "BLOB",
        "first_position": "INTEGER",
        "last_position": "INTEGER",
        "unreadable": "INTEGER",
    },
    key=("id",),
    about=(
        "The right edge of that tree: the number of its events, the roots of its largest complete "
        "subtrees from left to right, and the positions and unreadable events of its last tile."
    ),
)


class MerkleView:
    """The Merkle tree over the digests of a log's events, in the order of the log."""

    name = "merkle"
    version = 1
    types: Collection[str] = ()
    tables: Sequence[Table] = (_NODES, _EDGE)

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """Do nothing, because the tree does not depend on payloads."""

    def apply_digests(self, rows: Rows, digests: Leaves, shown: ReadsRow) -> None:
        """Append the digests of some events to the tree; see `DigestView.apply_digests`."""
        tree = _Growing(rows, shown)
        tree.extend(digests)
        tree.store()


class _Growing:
    """The tree while leaves are being appended.

    edge: the right edge of the tree. first, last, unreadable: the positions of the first and last
    event of the last tile, complete or not, and the number of its leaves that are marks.
    """

    def __init__(self, rows: Rows, shown: ReadsRow) -> None:
        self._rows = rows
        self._shown = shown
        stored = rows.get("merkle_edge", (0,))
        if stored is None:
            self.edge, self.first, self.last, self.unreadable = RightEdge(), 0, 0, 0
        else:
            hashes = split_hashes(stored["hashes"])
            self.edge = RightEdge(_number(stored, "size"), hashes)
            self.first = _number(stored, "first_position")
            self.last = _number(stored, "last_position")
            self.unreadable = _number(stored, "unreadable")

    def store(self) -> None:
        self._rows.put(
            "merkle_edge", (0,), size=self.edge.size, hashes=b"".join(self.edge.hashes),
            first_position=self.first, last_position=self.last, unreadable=self.unreadable,
        )  # fmt: skip

    def extend(self, digests: Leaves) -> None:
        digests = digests[_behind(digests, self.last) :]
        while digests:
            # A whole page at once takes half the time; if an event is lost, tile by tile.
            readable = None not in [digest for _, digest in digests]
            part = digests if readable else digests[: TILE - self.edge.size % TILE]
            if not readable and not is_readable(part) and self._take_shown(part):
                digests = digests[_behind(digests, self.last) :]
                continue
            self._append(part)
            digests = digests[len(part) :]

    def _append(self, part: Leaves) -> None:
        size = self.edge.size
        nodes = self.edge.extend(marked(part), level=TILE_LEVEL)
        for node in nodes:
            if node.level == TILE_LEVEL:
                begin = node.index * TILE - size
                self._begin_tile(part, begin)
                self.last = part[begin + TILE - 1][0]
                self._keep_tile(node)
            else:
                self._rows.put("merkle_nodes", (node.level, node.index), hash=node.hash)
        if self.edge.size % TILE:
            self._begin_tile(part, self.edge.size // TILE * TILE - size)
        self.last = part[-1][0]

    def _begin_tile(self, part: Leaves, begin: int) -> None:
        """Count the leaves of a new tile; `begin` is the index of its first leaf in `part`."""
        if begin >= 0:
            self.first, self.unreadable = part[begin][0], 0
        end = begin + TILE
        self.unreadable += sum(digest is None for _, digest in part[max(begin, 0) : end])

    def _keep_tile(self, node: Node) -> None:
        self._rows.put(
            "merkle_nodes", (node.level, node.index), hash=node.hash, first_position=self.first,
            last_position=self.last, unreadable=self.unreadable,
        )  # fmt: skip

    def _take_shown(self, part: Leaves) -> bool:
        """Copy the hashes of a damaged place from the rows that were built before the damage."""
        tile = self.edge.size // TILE
        above = self.edge.hashes[: tile.bit_count()]
        number = next(number for number, (_, digest) in enumerate(part) if digest is None)
        damaged = (part[number - 1][0] if number else self.last) + 1, part[number][0]
        node = self._shown("merkle_nodes", (TILE_LEVEL, tile))
        if node is not None and _holds(node, damaged) and _is_hash(node["hash"]):
            self._place(node)
            self._append_tile(Node(TILE_LEVEL, tile, split_hashes(node["hash"])[0]), above)
            return True
        edge = self._shown("merkle_edge", (0,))
        if edge is None or not _holds(edge, damaged) or _number(edge, "size") // TILE != tile:
            return False
        try:
            hashes = above + split_hashes(edge["hashes"])[len(above) :]
            self.edge = RightEdge(_number(edge, "size"), hashes)
        except ValueError:
            return False
        self._place(edge)
        return True

    def _append_tile(self, tile: Node, above: list[bytes]) -> None:
        """Append a complete tile; `above` are the hashes of the complete tiles before it."""
        self._keep_tile(tile)
        tiles = RightEdge(tile.index, above)
        for node in tiles.extend([tile.hash], level=1):
            key = node.level + TILE_LEVEL, node.index
            self._rows.put("merkle_nodes", key, hash=node.hash)
        self.edge = RightEdge(tiles.size * TILE, tiles.hashes)

    def _place(self, row: Mapping[str, Value]) -> None:
        self.first = _number(row, "first_position")
        self.last = _number(row, "last_position")
        self.unreadable = _number(row, "unreadable")


def _behind(digests: Leaves, position: int) -> int:
    """Find the index of the first leaf behind a position."""
    if not digests or digests[0][0] > position:
        return 0
    return bisect_right(digests, position, key=itemgetter(0))


def _number(row: Mapping[str, Value], column: str) -> int:
    value = row[column]
    return value if isinstance(value, int) else 0


def _holds(row: Mapping[str, Value], damaged: tuple[int, int]) -> bool:
    """True if a row covers any of the positions between two damaged ones."""
    first, last = damaged
    return _number(row, "first_position") <= last and first <= _number(row, "last_position")


def _is_hash(value: Value) -> bool:
    return isinstance(value, bytes) and len(value) == HASH_BYTES


def split_hashes(stored: object) -> list[bytes]:
    """Split the stored hashes of a tree's right edge (`RightEdge`), which are joined in one value.

    Args:
        stored: The value of the column.

    Returns:
        The hashes, 32 bytes each.
    """
    hashes = stored if isinstance(stored, bytes) else b""
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
