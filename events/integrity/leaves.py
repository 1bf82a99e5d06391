"""Reads the leaves of a log's Merkle tree, also if some events can't be read.

A leaf is the digest of an event. An event that can't be read still takes a place in the tree,
because otherwise all later leaves would have other indexes than in the undamaged log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lllm.events.backend import LogBackend, read_digests
from lllm.events.digest import DIGEST_BYTES
from lllm.events.errors import LogDamaged
from lllm.events.integrity.merkle import leaf_hash

Leaves = Sequence[tuple[int, bytes | None]]
"""Positions and digests in the order of the log; the digest is None for an unreadable event."""

UNREADABLE_LEAF = leaf_hash(b"lllm: an event that can't be read")
"""The leaf of an event that could not be read when its leaf was added to the tree."""


def leaf_pages(log: LogBackend, *, after: int = 0, upto: int | None = None) -> Iterator[Leaves]:
    """Read the leaves of a log.

    Args:
        log: The backend, of any class.
        after: Read the leaves after this position; 0 for the beginning.
        upto: The last position to read; None for the current head.

    Yields:
        Pages of leaves in order, each leaf once.

    Raises:
        LogDamaged: The log is damaged, and where it continues is unknown.
        LogError: The log can't be read.
    """
    upto = log.head() if upto is None else upto
    while True:
        try:
            for page in read_digests(log, after=after, upto=upto):
                after = page[-1][0]
                yield leaves_of(page)
            return
        except LogDamaged as damage:
            if damage.position <= after:
                raise
            if lost := lost_leaves(damage, after):
                yield lost
            after = damage.position


def leaves_of(digests: Iterable[tuple[int, bytes | None]]) -> Leaves:
    """Replace everything that is not a digest by None.

    Args:
        digests: The positions, and the values that are stored as digests.

    Returns:
        The leaves.
    """
    leaves = list(digests)
    lengths = {len(digest) for _, digest in leaves if digest is not None}
    if lengths <= {DIGEST_BYTES}:
        return leaves
    return [
        (position, digest if digest is not None and len(digest) == DIGEST_BYTES else None)
        for position, digest in leaves
    ]


def lost_leaves(damage: LogDamaged, after: int) -> Leaves:
    """List the leaves of the events that a damage makes unreadable.

    Args:
        damage: The error that reading the log raised.
        after: The position of the last event before it.

    Returns:
        One leaf with None for each of these events, as far as the log can tell.
    """
    return [(position, None) for position in damage.lost if position > after]


def is_readable(leaves: Leaves) -> bool:
    """True if all of some leaves can be read.

    Args:
        leaves: The leaves to check.

    Returns:
        True if none of them is None.
    """
    return None not in [digest for _, digest in leaves]


def marked(leaves: Leaves) -> list[bytes]:
    """Replace unreadable leaves by UNREADABLE_LEAF.

    Args:
        leaves: The leaves, of which some may be None.

    Returns:
        The hashes, 32 bytes each.
    """
    return [UNREADABLE_LEAF if digest is None else digest for _, digest in leaves]
