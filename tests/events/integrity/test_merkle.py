"""The tree is that of RFC 6962: its roots and proofs, made and checked."""

from __future__ import annotations

import hmac
from hashlib import sha256
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.events.digest import leaf_digest
from lllm.events.integrity.merkle import (
    EMPTY_ROOT,
    Node,
    NodeReader,
    RightEdge,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    is_included,
    leaf_hash,
    node_hash,
    read_root,
    root_of,
)
from tests.support import ROOT


class Vectors(msgspec.Struct):
    """Published proofs. Hashes stand in one table, and are meant by their index in it."""

    source: str
    inclusion: list[tuple[str, bool, int, int, int, int, list[int]]]
    consistency: list[tuple[str, bool, int, int, int, int, list[int]]]
    hashes: list[str]

    def hash(self, index: int) -> bytes:
        return bytes.fromhex(self.hashes[index])


VECTORS = msgspec.json.decode(
    (ROOT / "tests" / "golden" / "rfc6962.json").read_bytes(), type=Vectors
)

# Entries and roots of the trees of 0 to 8 of them, as certificate transparency publishes them:
# https://github.com/google/certificate-transparency/blob/master/python/ct/crypto/merkle_test.py
ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PUBLISHED = [leaf_hash(entry) for entry in ENTRIES]


def leaves_of(count: int) -> list[bytes]:
    """As many leaves, all different."""
    return [sha256(str(number).encode()).digest() for number in range(count)]


# -- the RFC's definitions, word for word


def split(leaves: list[bytes]) -> int:
    """The largest power of two below the number of leaves."""
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return k


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of section 2.1, over leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(leaves)
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(leaves)
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(size: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of section 2.1.2."""
    if size == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = split(leaves)
    if size <= k:
        return [*naive_subproof(size, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(size - k, leaves[k:], False), naive_root(leaves[:k])]


def reader(leaves: list[bytes]) -> NodeReader:
    """Reads nodes of a tree; a node that is not complete is an error."""

    def read(level: int, index: int) -> bytes:
        begin, end = index << level, (index + 1) << level
        assert end <= len(leaves)
        return naive_root(leaves[begin:end])

    return read


# -- what is published


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    """Trees of known entries have the known roots, whichever way they are computed."""
    assert root_of(PUBLISHED[:size]).hex() == ROOTS[size]
    assert read_root(size, reader(PUBLISHED)).hex() == ROOTS[size]


def test_published_inclusion_proofs() -> None:
    """Of each published proof we say what its publisher says."""
    wrong = [
        about
        for about, holds, index, size, leaf, root, path in VECTORS.inclusion
        if holds
        != is_included(
            VECTORS.hash(leaf), index, size, [*map(VECTORS.hash, path)], VECTORS.hash(root)
        )
    ]
    assert wrong == []
    assert len(VECTORS.inclusion) == 98


def test_published_consistency_proofs() -> None:
    """The same of the proofs that a tree only grew, but that a root must be a hash for us."""
    wrong = []
    for about, holds, old, new, old_root, new_root, path in VECTORS.consistency:
        roots = VECTORS.hash(old_root), VECTORS.hash(new_root)
        expected = holds and len(roots[0]) == 32
        if expected != is_consistent(old, roots[0], new, roots[1], [*map(VECTORS.hash, path)]):
            wrong.append(about)
    assert wrong == []
    assert len(VECTORS.consistency) == 98


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("inclusion", lambda one: inclusion_proof(one[2], one[3], reader(PUBLISHED))),
        ("consistency", lambda one: consistency_proof(one[2], one[3], reader(PUBLISHED))),
    ],
)
def test_published_proofs_are_those_that_we_make(name: str, made: object) -> None:
    """For the published trees we make the very proofs that are published."""
    assert callable(made)
    good = [
        one
        for one in getattr(VECTORS, name)
        if one[1] and VECTORS.hash(one[5]).hex() == ROOTS[one[3] if one[3] < 9 else 0]
    ]
    assert len(good) >= 4
    for one in good:
        assert made(one) == [*map(VECTORS.hash, one[6])], one


# -- against the definitions


def test_every_proof_of_every_small_tree() -> None:
    """Up to 20 leaves, all roots and proofs are those of the definition, and hold."""
    leaves = leaves_of(20)
    read = reader(leaves)
    roots = [naive_root(leaves[:size]) for size in range(21)]
    for size in range(21):
        assert root_of(leaves[:size]) == read_root(size, read) == roots[size]
        for index in range(size):
            path = inclusion_proof(index, size, read)
            assert path == naive_path(index, leaves[:size])
            assert is_included(leaves[index], index, size, path, roots[size])
        for old in range(size + 1):
            path = consistency_proof(old, size, read)
            assert path == (naive_subproof(old, leaves[:size], True) if old else [])
            assert is_consistent(old, roots[old], size, roots[size], path)


@given(st.integers(21, 700), st.data())
def test_proofs_of_larger_trees(size: int, data: st.DataObject) -> None:
    """A proof of a larger tree is that of the definition, and holds for it alone."""
    leaves = leaves_of(size)
    read, root = reader(leaves), naive_root(leaves)
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_proof(index, size, read)
    assert path == naive_path(index, leaves)
    assert is_included(leaves[index], index, size, path, root)
    other = data.draw(st.integers(0, size - 1).filter(lambda one: one != index))
    assert not is_included(leaves[other], index, size, path, root)
    assert not is_included(leaves[index], other, size, path, root)
    old = data.draw(st.integers(1, size - 1))
    growth = consistency_proof(old, size, read)
    assert growth == naive_subproof(old, leaves, True)
    assert is_consistent(old, naive_root(leaves[:old]), size, root, growth)
    assert not is_consistent(old, naive_root([*leaves[: old - 1], EMPTY_ROOT]), size, root, growth)


def place(node: Node) -> tuple[int, int]:
    """Where a node stands in the tree."""
    return node.level, node.index


@given(st.lists(st.integers(0, 600), max_size=6), st.integers(0, 10))
def test_leaves_may_come_in_any_portions(portions: list[int], level: int) -> None:
    """The edge, its root and the nodes it gives out don't depend on how leaves are portioned."""
    leaves = leaves_of(sum(portions))
    edge, completed, begin = RightEdge(), [], 0
    for portion in portions:
        edge = RightEdge(edge.size, edge.hashes)  # as one that was stored meanwhile
        completed += edge.extend(leaves[begin : begin + portion], level=level)
        begin += portion
    whole = RightEdge()
    at_once = whole.extend(leaves, level=level)
    assert [*map(place, at_once)] == sorted(map(place, completed))
    assert {*at_once} == {*completed}
    assert (whole.size, whole.hashes, whole.root()) == (edge.size, edge.hashes, edge.root())
    assert edge.size == len(leaves)
    # Each node that is complete, once: of level `level` and above, but for the leaves themselves.
    lowest = max(level, 1)
    assert sorted(map(place, completed)) == [
        (at, index) for at in range(lowest, 14) for index in range(len(leaves) >> at)
    ]
    read = reader(leaves)
    assert all(node.hash == read(node.level, node.index) for node in completed[-8:])


# -- what does not hold


def changed(path: list[bytes]) -> list[list[bytes]]:
    """A proof with one change, for each place and kind of change."""
    extra = sha256(b"another").digest()
    found = [[*path, extra], [extra, *path], [*path, b""], [*path, b"\0" * 31]]
    for at in range(len(path)):
        flipped = bytes([path[at][0] ^ 1]) + path[at][1:]
        found += [
            [*path[:at], flipped, *path[at + 1 :]],
            [*path[:at], *path[at + 1 :]],
            [*path[:at], path[at], *path[at:]],
            [*path[:at], path[at][:31], *path[at + 1 :]],
        ]
    return found


@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, 2), (4, 7), (6, 7), (11, 16), (16, 17)])
def test_a_changed_inclusion_proof_fails(index: int, size: int) -> None:
    """Whatever is changed of a proof, an index or a size, nothing is proven any more."""
    leaves = leaves_of(size)
    root, path = root_of(leaves), inclusion_proof(index, size, reader(leaves))
    leaf = leaves[index]
    for wrong in changed(path):
        assert not is_included(leaf, index, size, wrong, root)
    for other in (-1, size, index + size, index ^ 1):
        assert not is_included(leaf, other, size, path, root)
    for other in (-size, 0, 2 * size + 2):
        assert not is_included(leaf, index, other, path, root)
    for other_root in (leaf + b"\0", leaf[1:], EMPTY_ROOT, sha256(root).digest()):
        assert not is_included(leaf, index, size, path, other_root)


def test_a_node_is_no_leaf() -> None:
    """A node with the rest of a path does not pass for a leaf of the same tree."""
    leaves = leaves_of(8)
    root, path = root_of(leaves), inclusion_proof(2, 8, reader(leaves))
    node = node_hash(leaves[2], leaves[3])
    assert not is_included(node, 1, 8, path[1:], root)
    assert is_included(node, 1, 4, path[1:], root), "a tree of another size: its checker knows it"


@pytest.mark.parametrize(("old", "new"), [(1, 2), (3, 7), (4, 7), (6, 8), (8, 16), (15, 17)])
def test_a_changed_consistency_proof_fails(old: int, new: int) -> None:
    """The same for the proof that a tree only grew."""
    leaves = leaves_of(new)
    before, after = root_of(leaves[:old]), root_of(leaves)
    path = consistency_proof(old, new, reader(leaves))
    for wrong in changed(path):
        assert not is_consistent(old, before, new, after, wrong)
    for size, other in product((old, new), (-1, 0)):
        assert not is_consistent(*((other, before, new) if size == old else (old, before, other)),
                                 after, path)  # fmt: skip
    assert not is_consistent(new, after, old, before, path)
    assert not is_consistent(old, after, new, after, path)
    assert not is_consistent(old, before, new, before, path)
    assert not is_consistent(old + 1, before, new + 3, after, path)


def test_empty_and_equal_trees() -> None:
    """Every tree grew from the empty one, whose root is known; equal trees have equal roots."""
    leaves = leaves_of(3)
    root = root_of(leaves)
    assert is_consistent(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    assert is_consistent(0, EMPTY_ROOT, 3, root, [])
    assert is_consistent(3, root, 3, root, [])
    assert not is_consistent(0, root, 3, root, [])
    assert not is_consistent(0, root, 0, root, [])
    assert not is_consistent(0, EMPTY_ROOT, 3, root, [root])
    assert not is_consistent(3, root, 3, root, [root])
    assert not is_consistent(3, root, 3, leaves[0], [])


def test_what_no_tree_has_is_an_error() -> None:
    """Who asks for a proof or a root that can't be is told."""
    read = reader(leaves_of(3))
    for index, size in ((3, 3), (-1, 3), (0, 0)):
        with pytest.raises(ValueError, match="has none with the index"):
            inclusion_proof(index, size, read)
    for old, new in ((4, 3), (-1, 3)):
        with pytest.raises(ValueError, match="can't grow"):
            consistency_proof(old, new, read)
    with pytest.raises(ValueError, match="can't have -1 leaves"):
        read_root(-1, read)
    for size, hashes in ((3, [EMPTY_ROOT]), (-1, []), (0, [EMPTY_ROOT]), (1, [b"short"])):
        with pytest.raises(ValueError, match="right edge"):
            RightEdge(size, hashes)


def test_the_digest_of_an_event_is_a_leaf() -> None:
    """An event's digest is the RFC's leaf over its envelope, and is not hashed again."""
    digest = leaf_digest(b"s" * 32, "stream", 1, 2, "session.started", 1, b"{}")
    entry = b"".join(
        len(field).to_bytes(4, "big") + field
        for field in (
            b"stream",
            (1).to_bytes(8, "big"),
            (2).to_bytes(8, "big"),
            b"session.started",
            (1).to_bytes(8, "big"),
            hmac.digest(b"s" * 32, b"{}", "sha256"),
        )
    )
    assert leaf_hash(entry) == digest == root_of([digest])


def test_leaves_appended_one_by_one() -> None:
    """They give the same edge as all at once; a copy grows apart from what it is of."""
    leaves = [leaf_hash(str(number).encode()) for number in range(70)]
    one_by_one = RightEdge()
    for size, leaf in enumerate(leaves, 1):
        before = one_by_one.copy()
        one_by_one.append(leaf)
        at_once = RightEdge()
        at_once.extend(leaves[:size])
        assert (one_by_one.size, one_by_one.hashes) == (at_once.size, at_once.hashes)
        assert before.root() == root_of(leaves[: size - 1])
