"""Reads the leaves of a log's Merkle tree, also where events can't be read.

A leaf is the digest of an event. Where that can't be read, its place is kept: else all leaves
behind it would have another index than they had when the log was whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lllm.events.backend import LogBackend, read_digests
from lllm.events.digest import DIGEST_BYTES
from lllm.events.errors import LogDamaged
from lllm.events.integrity.merkle import leaf_hash

Leaves = Sequence[tuple[int, bytes | None]]
"""Positions and digests in the order of the log; None where an event can't be read."""

UNREADABLE_LEAF = leaf_hash(b"lllm: an event that can't be read")
"""Stands in a tree for an event that could not be read when the tree got its leaf."""


def leaf_pages(log: LogBackend, *, after: int = 0, upto: int | None = None) -> Iterator[Leaves]:
    """Read the leaves of a log.

    Args:
        log: Any backend.
        after: The position to begin behind.
        upto: The last position that is read, None for the head now.

    Yields:
        Some leaves at a time; none twice.

    Raises:
        LogDamaged: Nobody knows where to go on behind damage.
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
    """Take for unreadable what is no digest.

    Args:
        digests: Positions, and what stands there as a digest.

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
    """List the leaves that a damage hides.

    Args:
        damage: The damage.
        after: The position of the last event before it.

    Returns:
        One for each event that it hides, as far as the log can tell.
    """
    return [(position, None) for position in damage.lost if position > after]


def is_readable(leaves: Leaves) -> bool:
    """True if all of some leaves can be read.

    Args:
        leaves: The leaves.
    """
    return all(digest is not None for _, digest in leaves)


def marked(leaves: Leaves) -> list[bytes]:
    """Take the digests of leaves, and the mark for those that can't be read.

    Args:
        leaves: The leaves.
    """
    return [UNREADABLE_LEAF if digest is None else digest for _, digest in leaves]
