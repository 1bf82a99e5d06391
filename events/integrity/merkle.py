"""The Merkle tree of RFC 6962 over the digests of a log's events.

    root of no leaves   SHA-256 of no bytes
    leaf                SHA-256(0x00 || entry)
    node                SHA-256(0x01 || left || right)
    root of n leaves    node(root of the first k, root of the others), where k is the largest power
                        of two below n

The leaf of an event is its stored `digest`, without another hash: `digest.leaf_digest` has already
hashed the event with 0x00 in front. The bytes that it hashes are the entry, in the RFC's word.
Leaves are in the order of the log. Their indexes count from 0 and are not the positions of events.

A node of level l and index i is the root of the 2^l leaves from i * 2^l on; it exists when all of
them do. Proofs consist of such nodes, so only these are read to make one. To check a proof, compute
the leaf from the event itself: a leaf that comes with the proof proves nothing about the event.

Sources: https://www.rfc-editor.org/rfc/rfc6962#section-2.1 and, for checking proofs,
https://www.rfc-editor.org/rfc/rfc9162#section-2.1. Nothing here reads or writes files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

import msgspec

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]
"""A function that returns the hash of a node by its level and index."""


class Node(msgspec.Struct, frozen=True, gc=False):
    """The root of a complete subtree.

    Attributes:
        level: The level of the node; the subtree has 2^level leaves.
        index: The number of the subtree among those of its level, from 0.
        hash: The root of the subtree, 32 bytes.
    """

    level: int
    index: int
    hash: bytes


def leaf_hash(entry: bytes) -> bytes:
    """Compute the leaf of an entry; the digest of an event is already such a leaf.

    Args:
        entry: The bytes that the tree proves.

    Returns:
        The leaf, 32 bytes.
    """
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Compute the hash of a node from its two children.

    Args:
        left: The hash of the left child, 32 bytes.
        right: The hash of the right child, 32 bytes.

    Returns:
        The hash of the node, 32 bytes.
    """
    return sha256(b"\x01" + left + right).digest()


class RightEdge:
    """The hashes of a tree that are needed to append leaves and to compute the root.

    It keeps one hash for each set bit of the size, so about 20 hashes for a million leaves.

    Args:
        size: How many leaves the tree has so far.
        hashes: The roots of its largest complete subtrees, from left to right.

    Attributes:
        size: The number of leaves of the tree.
        hashes: The roots of its largest complete subtrees, from left to right.

    Raises:
        ValueError: The number of hashes does not belong to a tree of this size, or one is not 32
            bytes long.
    """

    __slots__ = ("hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)
        if size < 0 or len(self.hashes) != size.bit_count():
            raise ValueError(
                f"The right edge of a tree of {size} leaves has {max(size, 0).bit_count()} hashes, "
                f"and {len(self.hashes)} were given."
            )
        if not are_hashes(self.hashes):
            raise ValueError(f"Each hash of a right edge has {HASH_BYTES} bytes.")

    def copy(self) -> RightEdge:
        """Make an independent copy."""
        copied = RightEdge.__new__(RightEdge)
        copied.size, copied.hashes = self.size, self.hashes[:]
        return copied

    def append(self, leaf: bytes) -> None:
        """Append one leaf to the tree; `extend` is faster for many.

        Args:
            leaf: The next leaf, 32 bytes.
        """
        hashes, index = self.hashes, self.size
        while index & 1:
            leaf = sha256(b"\x01" + hashes.pop() + leaf).digest()
            index >>= 1
        hashes.append(leaf)
        self.size += 1

    def extend(self, leaves: Iterable[bytes], *, level: int = 64) -> list[Node]:
        """Append leaves to the tree.

        Args:
            leaves: The next leaves, 32 bytes each.
            level: The lowest level of the nodes to return; 64 for none.

        Returns:
            The nodes of this level and above that are now complete, lower levels first.
        """
        # the new nodes of a level, and the index of the first
        row, index, at = list(leaves), self.size, 0
        self.size += len(row)
        left: list[bytes] = []  # the node of each level that has no right sibling
        completed: list[Node] = []
        while row:
            if index & 1:
                row.insert(0, self.hashes.pop())
            if len(row) & 1:
                left.append(row.pop())
            row = [
                sha256(b"\x01" + one + other).digest()
                for one, other in zip(row[::2], row[1::2], strict=True)
            ]
            index, at = index >> 1, at + 1
            if at >= level:
                completed += [Node(at, index + number, one) for number, one in enumerate(row)]
        self.hashes += reversed(left)
        return completed

    def root(self) -> bytes:
        """Compute the root of the tree at its current size, 32 bytes."""
        return _joined(self.hashes) if self.hashes else EMPTY_ROOT


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Compute the root of a whole tree.

    Args:
        leaves: All leaves of the tree in order, 32 bytes each.

    Returns:
        The root, 32 bytes.
    """
    edge = RightEdge()
    edge.extend(leaves)
    return edge.root()


def read_root(size: int, read: NodeReader) -> bytes:
    """Compute the root that a tree had at an earlier size.

    Args:
        size: The number of leaves at that time.
        read: A function that returns the nodes of the tree.

    Returns:
        The root, 32 bytes.

    Raises:
        ValueError: The size is negative.
    """
    if size < 0:
        raise ValueError(f"A tree can't have {size} leaves.")
    return range_root(0, size, read) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, read: NodeReader) -> list[bytes]:
    """Make the proof that a tree has a leaf at an index (RFC 6962, section 2.1.1).

    Args:
        index: The index of the leaf, from 0.
        size: The number of leaves of the tree.
        read: A function that returns the nodes of the tree.

    Returns:
        The sibling hashes on the path from the leaf to the root, the lowest first.

    Raises:
        ValueError: The tree has no leaf with this index.
    """
    if not 0 <= index < size:
        raise ValueError(f"A tree of {size} leaves has none with the index {index}.")
    begin, end = 0, size
    path: list[bytes] = []
    while end - begin > 1:
        middle = split(begin, end)
        if index < middle:
            path.append(range_root(middle, end, read))
            end = middle
        else:
            path.append(range_root(begin, middle, read))
            begin = middle
    return path[::-1]


def consistency_proof(old_size: int, new_size: int, read: NodeReader) -> list[bytes]:
    """Make the proof that a tree has only grown since an earlier size (RFC 6962, section 2.1.2).

    Args:
        old_size: The number of leaves at the earlier time.
        new_size: The number of leaves now.
        read: A function that returns the nodes of the tree.

    Returns:
        The hashes from which both roots can be computed; none if the tree was empty or did not
        grow.

    Raises:
        ValueError: The new size is smaller than the old size.
    """
    if not 0 <= old_size <= new_size:
        raise ValueError(f"A tree can't grow from {old_size} to {new_size} leaves.")
    if old_size == 0:
        return []
    begin, end = 0, new_size
    path: list[bytes] = []
    while end != old_size:
        middle = split(begin, end)
        if old_size <= middle:
            path.append(range_root(middle, end, read))
            end = middle
        else:
            path.append(range_root(begin, middle, read))
            begin = middle
    if begin:  # otherwise it is the old root itself, which the checker has
        path.append(range_root(begin, end, read))
    return path[::-1]


def is_included(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Check an inclusion proof (RFC 9162, section 2.1.3.2).

    Args:
        leaf: The leaf, which the caller has computed from the event.
        index: The index of the leaf, from 0.
        size: The number of leaves of the tree.
        path: The hashes of the proof.
        root: The root of the tree, from a trusted source.

    Returns:
        True if the tree with this root has the leaf at this index; False for a wrong or malformed
        proof.
    """
    if not 0 <= index < size or not are_hashes([leaf, *path]):
        return False
    here, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if here & 1 or here == last:
            found = node_hash(sibling, found)
            climbed = _trailing_zeros(here)
            here, last = here >> climbed, last >> climbed
        else:
            found = node_hash(found, sibling)
        here, last = here >> 1, last >> 1
    return last == 0 and found == root


def is_consistent(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Check a consistency proof (RFC 9162, section 2.1.4.2).

    Args:
        old_size: The number of leaves of the earlier tree.
        old_root: The root of the earlier tree, 32 bytes.
        new_size: The number of leaves of the later tree.
        new_root: The root of the later tree, 32 bytes.
        path: The hashes of the proof.

    Returns:
        True if the later tree begins with all leaves of the earlier one; False for a wrong or
        malformed proof.
    """
    if not 0 <= old_size <= new_size or not are_hashes([old_root, new_root, *path]):
        return False
    if old_size == new_size:
        return not path and old_root == new_root and (old_size > 0 or old_root == EMPTY_ROOT)
    if old_size == 0:
        return not path and old_root == EMPTY_ROOT
    hashes = [*path] if old_size & (old_size - 1) else [old_root, *path]
    if not hashes:
        return False
    climbed = _trailing_zeros(old_size)  # go up to the node that ends with the last old leaf
    here, last = (old_size - 1) >> climbed, (new_size - 1) >> climbed
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if here & 1 or here == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            climbed = _trailing_zeros(here)
            here, last = here >> climbed, last >> climbed
        else:
            new = node_hash(new, sibling)
        here, last = here >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root


def range_root(begin: int, end: int, read: NodeReader) -> bytes:
    """Compute the root of the leaves on one side of a split, from the nodes that they consist of.

    Args:
        begin: The index of the first leaf.
        end: The index after the last leaf.
        read: A function that returns the nodes of the tree.

    Returns:
        The root, 32 bytes.
    """
    hashes: list[bytes] = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        hashes.append(read(level, begin >> level))
        begin += 1 << level
    return _joined(hashes)


def _joined(hashes: Sequence[bytes]) -> bytes:
    """Combine complete subtrees, the largest first, into one root."""
    root = hashes[-1]
    for left in hashes[-2::-1]:
        root = node_hash(left, root)
    return root


def split(begin: int, end: int) -> int:
    """Find where a node splits its leaves.

    The left part is the largest power of two below the number of leaves.

    Args:
        begin: The index of the first leaf.
        end: The index after the last leaf; there are at least two leaves.

    Returns:
        The index of the first leaf of the right child.
    """
    return begin + (1 << ((end - begin - 1).bit_length() - 1))


def _trailing_zeros(number: int) -> int:
    return (number & -number).bit_length() - 1 if number else 0


def are_hashes(hashes: Iterable[bytes]) -> bool:
    """True if all values are hashes: bytes of length 32.

    Args:
        hashes: The values, from an untrusted source.

    Returns:
        False if one is not bytes, or has another length.
    """
    return all(isinstance(one, bytes) and len(one) == HASH_BYTES for one in hashes)
