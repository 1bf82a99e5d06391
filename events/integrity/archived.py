"""Checks the digests of events that left a log for an archive.

The log itself says of each session which positions it had and which root the digests there have
together (`session.archived`). So a digest that was changed, or an event that was removed without
being archived, is found without the archive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lllm.events.backend import DigestPage, KeepsLeaves, LogBackend, archived_leaves
from lllm.events.damage import Damage
from lllm.events.envelope import Recorded
from lllm.events.integrity.merkle import root_of
from lllm.events.integrity.verified_tree import VerifiedTree
from lllm.events.model import SessionResidue, SessionRestored

_Range = tuple[int, int]


class ArchivedEvents:
    """The events that left a log, while the others are verified.

    Args:
        log: The log.
        upto: The last position that is verified.
        tree: The tree that gets their digests, in order with those of the other events; None for
            none.

    Attributes:
        count: How many there are, so far.
    """

    def __init__(self, log: LogBackend, upto: int, tree: VerifiedTree | None) -> None:
        self.count = 0
        self._log = log
        self._tree = tree
        self._pages: Iterator[DigestPage] = iter(())
        if isinstance(log, KeepsLeaves):
            self._pages = log.archived_leaves(upto=upto)
        self._next = self._page()
        self._ranges: list[_Range] = []
        self._said: list[tuple[Recorded, SessionResidue | SessionRestored]] = []

    def _page(self) -> DigestPage:
        return next(self._pages, ())

    @property
    def due(self) -> int:
        """The position of the next one; beyond all positions if there is none."""
        return self._next[0][0] if self._next else 2**63

    def pass_to(self, position: int) -> None:
        """Take those before a position.

        Args:
            position: The position of the next event that is in the log.
        """
        while self.due < position:
            end = next(
                (n for n, leaf in enumerate(self._next) if leaf[0] >= position), len(self._next)
            )
            part, self._next = self._next[:end], self._next[end:] or self._page()
            if self._tree is not None:
                self._tree.leaves(part)
            self.count += len(part)
            self._ranges += _ranges_of(part)

    def said(self, event: Recorded, residue: SessionResidue | SessionRestored) -> None:
        """Note that the events of a session left the log.

        Args:
            event: The event that says so.
            residue: What it says.
        """
        if residue.positions:
            self._said.append((event, residue))

    def damages(self) -> Iterator[Damage]:
        """Compare what the log says with the digests that it has, after all were taken.

        Yields:
            What is wrong.
        """
        gone = _merged(self._ranges)
        known: list[_Range] = []
        for event, residue in self._said:
            known += residue.positions
            leaves = [leaf for one in residue.positions for leaf in self._leaves(one)]
            count = sum(last + 1 - first for first, last in residue.positions)
            # with fewer, the removal is not finished, and the events are in the log
            if len(leaves) == count and root_of(leaves).hex() != residue.digests:
                what = f"the digests kept for {residue.about} are not those of its events"
                yield Damage.of(event, what)
        for first, last in _without(gone, _merged(known)):
            those = f"position {first}" if first == last else f"positions {first} to {last}"
            yield Damage(
                last, "", 0, f"the events at {those} were removed, but no session.archived says so"
            )

    def _leaves(self, positions: _Range) -> Iterator[bytes]:
        first, last = positions
        for _, digest in archived_leaves(self._log, after=first - 1, upto=last):
            yield digest


def _ranges_of(leaves: DigestPage) -> list[_Range]:
    return _merged([(position, position) for position, _ in leaves])


def _merged(ranges: Sequence[_Range]) -> list[_Range]:
    merged: list[_Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return merged


def _without(ranges: Sequence[_Range], known: Sequence[_Range]) -> Iterator[_Range]:
    """What is in the first ranges and not in the others; both are in order."""
    rest = iter([*known, (2**63, 2**63)])
    begin, end = next(rest)
    for first, last in ranges:
        while first <= last:
            while end < first:
                begin, end = next(rest)
            if begin > first:
                yield first, min(last, begin - 1)
            first = min(last, end) + 1 if begin <= last else last + 1
