"""Computes the roots that a log's Merkle tree had at earlier sizes, from its events as they are.

If some events can't be read, the rest of the tree can still be checked with stored hashes over the
unreadable parts. If the root computed with such a hash is right, it proves the hash and all other
leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from operator import lt

import msgspec

from lllm.events.backend import LogBackend
from lllm.events.envelope import Recorded
from lllm.events.integrity.leaves import Leaves, is_readable, leaf_pages, leaves_of, marked
from lllm.events.integrity.merkle import RightEdge

TILE_LEVEL = 8  # the level of the lowest nodes that are stored
TILE = 1 << TILE_LEVEL  # leaves below such a node: a tile

TileHash = Callable[[int], bytes | None]
"""A function that returns the stored, perhaps wrong hash over a tile by its number, or None."""


class UnreadableTile(msgspec.Struct, frozen=True):
    """A tile (256 events) with unreadable events, of which only the hash over all may be known.

    Attributes:
        number: The number of the tile, from 0.
        first: The position of its first event.
        last: The position of its last event; the last tile of a log may have fewer events.
        unreadable: The number of its events that can't be read.
    """

    number: int
    first: int
    last: int
    unreadable: int


class VerifiedTree:
    """The tree of a log, built while its events are read once.

    Args:
        log: The log; it is read again at damaged places.
        sizes: The sizes of the tree, in leaves, at which the root is wanted.

    Attributes:
        edge: The right edge of the tree so far.
        unreadable: The tiles with events that can't be read, in order.
    """

    def __init__(self, log: LogBackend, sizes: Collection[int]) -> None:
        self._log = log
        self._due = sorted({*sizes, 0}, reverse=True)  # the sizes that are not reached yet
        self._edges: dict[int, list[bytes]] = {}
        self._tiles: list[bytes] = []
        self._reached = 0
        self._first = self._lost = 0  # of the current tile: its first position, its lost events
        self.edge = RightEdge()
        self.unreadable: list[UnreadableTile] = []
        self._append([])

    def events(self, events: Sequence[Recorded]) -> None:
        """Append the next events that could be read.

        Args:
            events: The events, in order. An event at a position that the tree already has is
                skipped.
        """
        if not events:
            return
        before = [self._reached, *(event.position for event in events)]
        if all(map(lt, before, before[1:])):
            self._reached = before[-1]
            self._append([(event.position, event.digest) for event in events])
            return
        for event in events:
            if event.position > self._reached:
                self._reached = event.position
                self._append([(event.position, event.digest)])

    def leaves(self, leaves: Sequence[tuple[int, bytes]]) -> None:
        """Append the next leaves, of events that left the log.

        Args:
            leaves: Their positions and digests, in order, behind all that the tree has.
        """
        new = [leaf for leaf in leaves if leaf[0] > self._reached]
        if new:
            self._reached = new[-1][0]
            self._append(new)

    def damage(self, position: int) -> None:
        """Append the leaves of a damaged place, as far as they can be found.

        Args:
            position: The last position of the damaged place.

        Raises:
            LogError: The log can't be read.
        """
        if position > self._reached:
            for page in leaf_pages(self._log, after=self._reached, upto=position):
                self._append(page)
            self._reached = position

    def root(self, size: int, tile_hash: TileHash | None = None) -> bytes | None:
        """Compute the root at one of the sizes.

        Args:
            size: The size of the tree, in leaves; one of `sizes`.
            tile_hash: A function that returns the hash over a tile with unreadable events; None to
                put a mark in place of each such event.

        Returns:
            The root, 32 bytes; None if the log is shorter, or if a needed hash is not known.
        """
        hashes = self._edges.get(size)
        if hashes is None:
            return None
        if tile_hash is None:
            return RightEdge(size, hashes).root()
        tiles = self._tiles[: size // TILE]
        for one in self.unreadable_below(size):
            found = tile_hash(one.number) if one.number < len(tiles) else None
            if found is None:
                return None
            tiles[one.number] = found
        above = RightEdge()
        above.extend(tiles)
        return RightEdge(size, above.hashes + hashes[len(above.hashes) :]).root()

    def unreadable_below(self, size: int) -> list[UnreadableTile]:
        """List the tiles with unreadable events among the first `size` events.

        Args:
            size: The number of events to look at.

        Returns:
            The tiles, in order.
        """
        return [one for one in self.unreadable if one.number * TILE < size]

    def _append(self, leaves: Leaves) -> None:
        leaves = leaves_of(leaves)
        readable = is_readable(leaves)
        while True:
            size = self.edge.size
            while self._due and self._due[-1] == size:
                self._edges[self._due.pop()] = list(self.edge.hashes)
            if not leaves:
                return
            # Tile by tile takes longer; it is needed if an event is lost.
            count = TILE - size % TILE if self._lost or not readable else len(leaves)
            if self._due:
                count = min(count, self._due[-1] - size)
            self._extend(leaves[:count])
            leaves = leaves[count:]

    def _extend(self, part: Leaves) -> None:
        size = self.edge.size
        nodes = self.edge.extend(marked(part), level=TILE_LEVEL)
        self._tiles += [node.hash for node in nodes if node.level == TILE_LEVEL]
        number = (self.edge.size - 1) // TILE
        begin = number * TILE - size
        if begin >= 0:  # the last tile begins within the part
            self._first, self._lost = part[begin][0], 0
        self._lost += [digest for _, digest in part[max(begin, 0) :]].count(None)
        if self._lost:
            if self.unreadable and self.unreadable[-1].number == number:
                self.unreadable.pop()
            tile = UnreadableTile(number, self._first, part[-1][0], self._lost)
            self.unreadable.append(tile)
