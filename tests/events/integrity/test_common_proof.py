"""One proof shows several leaves of a tree, and no other proof does."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from lllm.events.integrity.common_proof import common_proof, root_of_proof
from lllm.events.integrity.merkle import (
    NodeReader,
    RightEdge,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
)

LEAVES = [leaf_hash(str(number).encode()) for number in range(300)]


def reader(size: int) -> NodeReader:
    """Reads the nodes of a tree of the first leaves."""
    nodes = {(0, index): leaf for index, leaf in enumerate(LEAVES[:size])}
    nodes |= {
        (node.level, node.index): node.hash for node in RightEdge().extend(LEAVES[:size], level=1)
    }
    return lambda level, index: nodes[level, index]


def test_all_sets_of_leaves_of_small_trees() -> None:
    """The root follows from any of them, and from no other size."""
    for size in range(1, 9):
        read, root = reader(size), root_of(LEAVES[:size])
        for count in range(1, size + 1):
            for some in combinations(range(size), count):
                path = common_proof(some, size, read)
                leaves = {index: LEAVES[index] for index in some}
                assert root_of_proof(leaves, size, path) == root
                assert root_of_proof(leaves, size, [*path, LEAVES[0]]) is None
                if path:
                    assert root_of_proof(leaves, size, path[:-1]) is None


def test_one_leaf_has_the_hashes_of_its_inclusion_proof() -> None:
    """From left to right: those left of it, the largest first, then those right of it."""
    for size in (1, 2, 3, 7, 8, 9, 255, 256, 300):
        read = reader(size)
        for index in range(size):
            alone = inclusion_proof(index, size, read)
            assert sorted(common_proof([index], size, read)) == sorted(alone)


@given(st.data())
def test_what_was_changed_gives_another_root(data: st.DataObject) -> None:
    """A leaf, an index, a hash of the path or the size that is another one."""
    size = data.draw(st.integers(2, 300))
    some = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=9))
    path = common_proof(some, size, reader(size))
    leaves = {index: LEAVES[index] for index in some}
    root = root_of(LEAVES[:size])
    assert root_of_proof(leaves, size, path) == root
    at = data.draw(st.sampled_from(sorted(some)))
    assert root_of_proof(leaves | {at: LEAVES[-1] if at != 299 else LEAVES[0]}, size, path) != root
    moved = {(at + 1) % size if index == at else index: leaf for index, leaf in leaves.items()}
    if moved.keys() != leaves.keys():
        assert root_of_proof(moved, size, path) != root
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        other = [*path[:place], node_hash(path[place], path[place]), *path[place + 1 :]]
        assert root_of_proof(leaves, size, other) != root


def test_what_no_tree_could_have() -> None:
    """It is no proof, and no error."""
    for leaves, size, path in (
        ({}, 1, []),
        ({}, 0, []),
        ({0: LEAVES[0]}, 0, []),
        ({1: LEAVES[0]}, 1, []),
        ({-1: LEAVES[0]}, 1, []),
        ({0: b"short"}, 1, []),
        ({0: LEAVES[0]}, 2, [b"short"]),
        ({0: LEAVES[0]}, 2**63 - 1, []),
    ):
        assert root_of_proof(leaves, size, path) is None
