"""The view of the Merkle tree: what proofs about the log are made of.

It has the tree's right edge, from which the root follows at once, and every node from level 8 on.
So a proof reads the digests of one or two tiles, the 256 leaves below such a node, and no more. The
nodes of a million events take about 250 KB. The index of a leaf is not the position of its event,
so each tile says which positions it holds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lllm.events.backend import DigestPage
from lllm.events.integrity.merkle import HASH_BYTES, RightEdge
from lllm.projections.view import Rows, Table, ViewEvent

TILE_LEVEL = 8  # of the lowest nodes that are kept
TILE = 1 << TILE_LEVEL  # leaves below one of these

_NODES = Table(
    "merkle_nodes",
    {
        "level": "INTEGER",
        "node": "INTEGER",
        "hash": "BLOB",
        "first_position": "INTEGER",
        "last_position": "INTEGER",
    },
    key=("level", "node"),
    about=(
        "The nodes of the Merkle tree over the digests of all events, from level 8 on. A node of "
        "level 8 stands for 256 events, and says the positions of the first and the last."
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
    },
    key=("id",),
    about=(
        "The right edge of that tree: how many events it has, its largest complete subtrees from "
        "left to right, and the positions of the first and last event of the last 256."
    ),
)


class MerkleView:
    """The Merkle tree over the digests of a log's events, in the order of the log."""

    name = "merkle"
    version = 1
    types: Collection[str] = ()
    tables: Sequence[Table] = (_NODES, _EDGE)

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """See View; nothing of this view depends on what an event says."""

    def apply_digests(self, rows: Rows, digests: DigestPage) -> None:
        """See DigestView."""
        stored = rows.get("merkle_edge", (0,))
        edge, first = RightEdge(), 0
        if stored is not None:
            hashes, first = stored["hashes"], int(stored["first_position"] or 0)
            edge = RightEdge(int(stored["size"] or 0), split_hashes(hashes))
        begin, last = 0, 0
        while begin < len(digests):
            filled = edge.size % TILE
            part = digests[begin : begin + TILE - filled]
            if not filled:
                first = part[0][0]
            last = part[-1][0]
            for node in edge.extend([digest for _, digest in part], level=TILE_LEVEL):
                if node.level == TILE_LEVEL:
                    rows.put(
                        "merkle_nodes", (node.level, node.index),
                        hash=node.hash, first_position=first, last_position=last,
                    )  # fmt: skip
                else:
                    rows.put("merkle_nodes", (node.level, node.index), hash=node.hash)
            begin += len(part)
        if digests:
            rows.put(
                "merkle_edge", (0,), size=edge.size, hashes=b"".join(edge.hashes),
                first_position=first, last_position=last,
            )  # fmt: skip


def split_hashes(stored: object) -> list[bytes]:
    """Split the hashes of an edge as they are stored, one behind the other.

    Args:
        stored: The column.
    """
    hashes = stored if isinstance(stored, bytes) else b""
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
