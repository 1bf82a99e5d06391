"""The Merkle tree of RFC 6962 over the digests of a log's events.

    root of nothing     SHA-256 of no bytes
    leaf                SHA-256(0x00 || entry)
    node                SHA-256(0x01 || left || right)
    root of n leaves    node(root of the first k, root of the others), where k is the largest power
                        of two below n

The leaf of an event is its `digest`, as it stands in the log: `digest.leaf_digest` has put the
0x00 in front already, so nothing is hashed once more. The entry, in the RFC's word, is what that
function hashes. Leaves stand in the order of the log and count from 0; the index of a leaf is not
the position of its event.

A node of level l and index i is the root of the 2^l leaves from i * 2^l on, and is there when all
of them are. Proofs are made of such nodes, so who makes one needs no more than a way to read them.
Who checks one must compute the leaf from the event itself: a leaf that comes with the proof proves
nothing about the event.

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
"""Returns the hash of a node by its level and index."""


class Node(msgspec.Struct, frozen=True, gc=False):
    """The root of a complete subtree.

    Attributes:
        level: The subtree has 2^level leaves.
        index: Which subtree of this level it is, from 0.
        hash: 32 bytes.
    """

    level: int
    index: int
    hash: bytes


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry to a leaf; an event's digest is such a leaf already.

    Args:
        entry: The bytes that the tree speaks for.

    Returns:
        32 bytes.
    """
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two children to their node.

    Args:
        left: The hash of the left child, 32 bytes.
        right: The hash of the right child, 32 bytes.

    Returns:
        32 bytes.
    """
    return sha256(b"\x01" + left + right).digest()


class RightEdge:
    """The part of a tree that is needed to append leaves and to compute its root.

    It keeps one hash for each set bit of the size, so about 20 hashes for a million leaves.

    Args:
        size: How many leaves the tree has so far.
        hashes: The roots of its largest complete subtrees, from left to right.

    Attributes:
        size: As given, and counted on.
        hashes: As given, and kept up to date.

    Raises:
        ValueError: The hashes are not as many as a tree of this size has, or not 32 bytes long.
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
        """Make an edge that grows apart from this one."""
        copied = RightEdge.__new__(RightEdge)
        copied.size, copied.hashes = self.size, self.hashes[:]
        return copied

    def extend(self, leaves: Iterable[bytes], *, level: int = 64) -> list[Node]:
        """Append leaves to the tree.

        Args:
            leaves: The next leaves, 32 bytes each.
            level: The lowest level of nodes that the caller wants to keep.

        Returns:
            The nodes of this level and above that the leaves complete, the lower levels first.
        """
        row, index, at = list(leaves), self.size, 0  # the new nodes of a level, and the first one
        self.size += len(row)
        left: list[bytes] = []  # at each level, the node without a right sibling
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
        """Compute the root of the tree as it is now; 32 bytes."""
        return _joined(self.hashes) if self.hashes else EMPTY_ROOT


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Compute the root of a whole tree.

    Args:
        leaves: All of its leaves in order, 32 bytes each.

    Returns:
        32 bytes.
    """
    edge = RightEdge()
    edge.extend(leaves)
    return edge.root()


def read_root(size: int, read: NodeReader) -> bytes:
    """Compute the root that a tree had at an earlier size.

    Args:
        size: How many leaves it had.
        read: Reads the nodes of the tree.

    Returns:
        32 bytes.

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
        size: How many leaves the tree has.
        read: Reads the nodes of the tree.

    Returns:
        The hashes beside the way from the leaf to the root, the lowest first.

    Raises:
        ValueError: The tree has no such leaf.
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
    """Make the proof that a tree only grew since an earlier size (RFC 6962, section 2.1.2).

    Args:
        old_size: How many leaves it had.
        new_size: How many it has.
        read: Reads the nodes of the tree.

    Returns:
        The hashes from which both roots can be computed. None are needed where the tree was empty,
        or did not grow.

    Raises:
        ValueError: The tree shrank.
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
    if begin:  # otherwise it is the old root itself, which who checks has
        path.append(range_root(begin, end, read))
    return path[::-1]


def is_included(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Check an inclusion proof (RFC 9162, section 2.1.3.2).

    Args:
        leaf: The leaf, which the caller has computed from the event.
        index: Its index, from 0.
        size: How many leaves the tree has.
        path: The proof.
        root: The root of the tree, from somebody who is trusted.

    Returns:
        True if the tree with this root has the leaf at this index. False for every other proof,
        and for one that no tree could have.
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
        old_size: How many leaves the earlier tree had.
        old_root: Its root.
        new_size: How many leaves the later tree has.
        new_root: Its root.
        path: The proof.

    Returns:
        True if the later tree begins with all leaves of the earlier one. False for every other
        proof, and for one that no two trees could have.
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
    climbed = _trailing_zeros(old_size)  # to the node that ends with the last old leaf
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
    """Compute the root of leaves that are one side of a split, from the nodes in them.

    Args:
        begin: The index of the first leaf.
        end: The index behind the last one.
        read: Reads the nodes of the tree.
    """
    hashes: list[bytes] = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        hashes.append(read(level, begin >> level))
        begin += 1 << level
    return _joined(hashes)


def _joined(hashes: Sequence[bytes]) -> bytes:
    """Join complete subtrees, the largest first, to one root."""
    root = hashes[-1]
    for left in hashes[-2::-1]:
        root = node_hash(left, root)
    return root


def split(begin: int, end: int) -> int:
    """Find where a node splits its leaves: the first part is the largest power of two below them.

    Args:
        begin: The index of the first leaf.
        end: The index behind the last one; there are at least two.

    Returns:
        The index of the first leaf of the right child.
    """
    return begin + (1 << ((end - begin - 1).bit_length() - 1))


def _trailing_zeros(number: int) -> int:
    return (number & -number).bit_length() - 1 if number else 0


def are_hashes(hashes: Iterable[bytes]) -> bool:
    """True if these are hashes, each of 32 bytes.

    Args:
        hashes: Anybody's.
    """
    return all(isinstance(one, bytes) and len(one) == HASH_BYTES for one in hashes)
