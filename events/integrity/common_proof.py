"""Proves with one proof that a Merkle tree has several leaves.

The tree is that of `merkle` (RFC 6962). The proof is the roots of the largest subtrees that have
none of these leaves, from left to right: with them and the leaves, the root follows. For one leaf
these are the hashes of its inclusion proof, from left to right instead of upwards. Leaves that
stand close together share most of what each would need alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from lllm.events.integrity.merkle import NodeReader, are_hashes, node_hash, range_root, split


def common_proof(indexes: Iterable[int], size: int, read: NodeReader) -> list[bytes]:
    """Make one proof that a tree has the leaves at several indexes.

    Args:
        indexes: The indexes of the leaves, from 0; at least one.
        size: How many leaves the tree has.
        read: Reads the nodes of the tree.

    Returns:
        The proof, 32 bytes each.

    Raises:
        ValueError: No index is given, or the tree has no such leaf.
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
    """Compute the root that a tree must have to which a proof belongs.

    Args:
        leaves: The leaves by their index, which the caller has computed from the events.
        size: How many leaves the tree has.
        path: The proof.

    Returns:
        The root, to be compared with one from somebody who is trusted; None where no tree could
        have this proof.
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
