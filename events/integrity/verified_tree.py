"""Computes the roots that a log's Merkle tree had at earlier sizes, from its events as they are.

Where events can't be read, the rest of the tree can be checked all the same if somebody still has
the hashes over them: a root that comes out right with such a hash proves it, and every other leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from operator import lt

import msgspec

from lllm.events.backend import LogBackend
from lllm.events.envelope import Recorded
from lllm.events.integrity.leaves import Leaves, is_readable, leaf_pages, leaves_of, marked
from lllm.events.integrity.merkle import RightEdge

TILE_LEVEL = 8  # of the lowest nodes that are kept
TILE = 1 << TILE_LEVEL  # leaves below one of these, a tile

TileHash = Callable[[int], bytes | None]
"""Returns a hash over 256 events by its number, from rows that may be wrong; None for none."""


class UnreadableTile(msgspec.Struct, frozen=True):
    """256 events of which some can't be read, so that only the hash over all may be known.

    Attributes:
        number: Which 256, from 0.
        first: The position of the first of them.
        last: The position of the last; of fewer at the end of the log, of the last there is.
        unreadable: How many can't be read.
    """

    number: int
    first: int
    last: int
    unreadable: int


class VerifiedTree:
    """The tree of a log, built while its events are read once.

    Args:
        log: The log, which is asked about damaged places.
        sizes: The sizes at which the root is wanted.

    Attributes:
        edge: The right edge.
        unreadable: The tiles with events that can't be read, in order.
    """

    def __init__(self, log: LogBackend, sizes: Collection[int]) -> None:
        self._log = log
        self._due = sorted({*sizes, 0}, reverse=True)  # sizes that are still to come
        self._edges: dict[int, list[bytes]] = {}
        self._tiles: list[bytes] = []
        self._reached = 0
        self._first = self._lost = 0  # of the tile under way: its first position, its lost events
        self.edge = RightEdge()
        self.unreadable: list[UnreadableTile] = []
        self._append([])

    def events(self, events: Sequence[Recorded]) -> None:
        """Append the next events that could be read.

        Args:
            events: The events. What stands where others were already is passed over.
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

    def damage(self, position: int) -> None:
        """Append what can be told of the events up to the end of a damaged place.

        Args:
            position: The last position of the place.

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
            size: The size.
            tile_hash: Gives the hash over 256 events of which some can't be read; None to put a
                mark in place of each of those.

        Returns:
            The root; None if the log is shorter, or such a hash is not to be had.
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
            size: How many events.
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
            # Tile by tile takes longer; it is needed where something is lost.
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
