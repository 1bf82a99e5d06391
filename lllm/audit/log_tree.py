"""Reads the Merkle tree of a whole log from the stored rows, and the rest from the log itself.

A store that is only read may have rows that lack the newest events, or no rows at all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress

from lllm.events.backend import LogBackend
from lllm.events.errors import LogError, StoreError
from lllm.events.integrity.leaves import leaf_pages, marked
from lllm.events.integrity.merkle import node_hash
from lllm.projections.database import RowsDatabase
from lllm.projections.queries.merkle import StoredTree

AskRows = Callable[[Callable[[RowsDatabase], StoredTree]], StoredTree]


class LogTree:
    """The Merkle tree over the digests of all events of a log.

    Args:
        log: The log whose tree is read.
        ask: Asks the database of views; see `AsksRows`.

    Attributes:
        size: The number of leaves, which is the number of events.

    Raises:
        LogError: The log can't be read.
    """

    def __init__(self, log: LogBackend, ask: AskRows) -> None:
        self._stored: StoredTree | None = None
        self._begin, after = 0, 0
        with suppress(StoreError, LogError):  # no rows, or none of use: the log has it all
            stored = ask(lambda database: StoredTree(log, database))
            if stored.last_position <= log.head():  # else the log has lost its end
                self._stored = stored
                self._begin, after = stored.edge.size, stored.last_position
        self._behind: list[tuple[int, bytes]] = []
        for page in leaf_pages(log, after=after):
            places = (position for position, _ in page)
            self._behind += zip(places, marked(page), strict=True)
        self.size = self._begin + len(self._behind)

    def leaf(self, position: int) -> tuple[int, bytes] | None:
        """Find the leaf of an event.

        Args:
            position: The position of the event in the log.

        Returns:
            The index of the leaf, and its hash of 32 bytes; None if the log had no such event when
            the tree was read.

        Raises:
            StoreError: The stored rows are incomplete.
            LogError: The rows or the log can't be read.
        """
        at = bisect_left(self._behind, (position, b""))
        if at < len(self._behind) and self._behind[at][0] == position:
            return self._begin + at, self._behind[at][1]
        return None if self._stored is None else self._stored.leaf(position)

    def read(self, level: int, index: int) -> bytes:
        """Read the hash of a node of the tree; this is a `merkle.NodeReader`.

        Args:
            level: The level of the node; 0 for leaves.
            index: The index of the node within its level, from 0.

        Raises:
            StoreError: The stored rows are incomplete.
            LogError: The rows or the log can't be read.
        """
        if self._stored is not None and (index + 1) << level <= self._begin:
            return self._stored.read(level, index)
        if level == 0:
            return self._behind[index - self._begin][1]
        return node_hash(self.read(level - 1, 2 * index), self.read(level - 1, 2 * index + 1))
