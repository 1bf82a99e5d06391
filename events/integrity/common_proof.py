"""Proves with one proof that a Merkle tree has several leaves.

The tree is that of `merkle` (RFC 6962). The proof consists of the roots of the largest subtrees
without any of these leaves, from left to right. The root of the tree can be computed from them and
the leaves. For a single leaf these are the hashes of its inclusion proof, ordered from left to
right and not upwards. Leaves that are close together share most of the hashes that each would need
alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from lllm.events.integrity.merkle import NodeReader, are_hashes, node_hash, range_root, split


def common_proof(indexes: Iterable[int], size: int, read: NodeReader) -> list[bytes]:
    """Make one proof that a tree has the leaves at several indexes.

    Args:
        indexes: The indexes of the leaves, from 0; at least one.
        size: The number of leaves of the tree.
        read: A function that returns the nodes of the tree.

    Returns:
        The hashes of the proof, 32 bytes each.

    Raises:
        ValueError: No index is given, or an index is not below `size`.
    """
    wanted = sorted(set(indexes))
    if not _are_in(wanted, size):
        raise ValueError(f"A tree of {size} leaves has none with the indexes {wanted[:3]}.")
    path: list[bytes] = []

    def walk(begin: int, end: int) -> None:
        if not _any_within(wanted, begin, end):
            path.append(range_root(begin, end, read))
        elif end - begin > 1:
            middle = split(begin, end)
            walk(begin, middle)
            walk(middle, end)

    walk(0, size)
    return path


def root_of_proof(leaves: Mapping[int, bytes], size: int, path: Sequence[bytes]) -> bytes | None:
    """Compute the root of the tree that a proof belongs to.

    Args:
        leaves: The leaves by their index, which the caller has computed from the events.
        size: The number of leaves of the tree.
        path: The hashes of the proof.

    Returns:
        The root, to be compared with a root from a trusted source; None if no tree could have this
        proof.
    """
    wanted = sorted(leaves)
    if not _are_in(wanted, size) or not are_hashes([*leaves.values(), *path]):
        return None
    rest = iter(path)

    def root(begin: int, end: int) -> bytes:
        if not _any_within(wanted, begin, end):
            return next(rest)
        if end - begin == 1:
            return leaves[begin]
        middle = split(begin, end)
        left = root(begin, middle)
        return node_hash(left, root(middle, end))

    try:
        found = root(0, size)
    except StopIteration:
        return None
    return found if next(rest, None) is None else None


def _are_in(wanted: Sequence[int], size: int) -> bool:
    return bool(wanted) and wanted[0] >= 0 and wanted[-1] < size


def _any_within(wanted: Sequence[int], begin: int, end: int) -> bool:
    first = bisect_left(wanted, begin)
    return first < len(wanted) and wanted[first] < end
