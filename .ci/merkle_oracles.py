"""Compares our Merkle trees and proofs with two independent implementations of RFC 6962.

pymerkle makes trees and proofs from entries and counts leaves from 1; rekor-verifier checks proofs
about leaf hashes. Neither is among the locked packages: rekor-verifier asks for an older
`cryptography` than these have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pymerkle import InmemoryTree, verify_consistency, verify_inclusion
from rekor_verifier import merkle_proof as rekor

from lllm.events.integrity import merkle
from lllm.events.integrity.common_proof import common_proof, root_of_proof

SIZES = [*range(1, 40), 63, 64, 65, 100, 127, 128, 129, 255, 256, 257]


def main() -> None:
    """Make all inclusion and consistency proofs of the trees of these sizes."""
    entries = [str(number).encode() for number in range(max(SIZES))]
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    nodes = {(0, index): leaf for index, leaf in enumerate(leaves)}
    nodes |= {
        (node.level, node.index): node.hash for node in merkle.RightEdge().extend(leaves, level=1)
    }
    theirs = InmemoryTree(algorithm="sha256")
    theirs.append_entries(entries)
    count = 0

    def read(level: int, index: int) -> bytes:
        return nodes[level, index]

    for size in SIZES:
        root = merkle.read_root(size, read)
        assert root == theirs.get_root(size), size
        for index in range(size):
            path = merkle.inclusion_proof(index, size, read)
            rekor.verify_inclusion(
                rekor.DEFAULT_HASHER, index, size, leaves[index].hex(),
                [one.hex() for one in path], root.hex(),
            )  # fmt: skip
            proof = theirs.prove_inclusion(index + 1, size)
            assert [leaves[index], *path] == proof.path, (index, size)
            verify_inclusion(leaves[index], root, proof, index=index + 1, size=size)
            count += 1
        for old in range(1, size + 1):
            before = merkle.read_root(old, read)
            path = merkle.consistency_proof(old, size, read)
            rekor.verify_consistency(
                rekor.DEFAULT_HASHER,
                old,
                size,
                [one.hex() for one in path],
                before.hex(),
                root.hex(),
            )
            verify_consistency(before, root, theirs.prove_consistency(old, size))
            count += 1
    count += common_proofs(leaves, read)
    print(f"{count:,} proofs are the same for lllm, pymerkle and rekor-verifier.")


def common_proofs(leaves: list[bytes], read: merkle.NodeReader) -> int:
    """Make proofs of several leaves, and check each leaf in them by rekor-verifier.

    Whoever has a common proof knows every node that the inclusion proofs of its leaves need.
    """
    count = 0
    for size in SIZES:
        root = merkle.read_root(size, read)
        for step in (1, 2, 3, 7, 50, 300):
            some = {index: leaves[index] for index in range(size - 1, -1, -step)}
            path = common_proof(some, size, read)
            assert root_of_proof(some, size, path) == root
            known = dict(known_nodes(some, size, path))
            for index in some:
                alone = [known[span] for span in siblings(index, 0, size)][::-1]
                rekor.verify_inclusion(
                    rekor.DEFAULT_HASHER, index, size, leaves[index].hex(),
                    [one.hex() for one in alone], root.hex(),
                )  # fmt: skip
                count += 1
    return count


def known_nodes(
    some: Mapping[int, bytes], size: int, path: Sequence[bytes]
) -> Iterator[tuple[tuple[int, int], bytes]]:
    """The nodes that a common proof and its leaves give, by the leaves below each."""
    rest = iter(path)

    def walk(begin: int, end: int) -> Iterator[tuple[tuple[int, int], bytes]]:
        if not any(begin <= index < end for index in some):
            yield (begin, end), next(rest)
        elif end - begin == 1:
            yield (begin, end), some[begin]
        else:
            middle = merkle.split(begin, end)
            below = dict([*walk(begin, middle), *walk(middle, end)])
            yield from below.items()
            both = below[begin, middle], below[middle, end]
            yield (begin, end), merkle.node_hash(*both)

    return walk(0, size)


def siblings(index: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The subtrees beside the way from the root down to a leaf."""
    while end - begin > 1:
        middle = merkle.split(begin, end)
        if index < middle:
            yield middle, end
            end = middle
        else:
            yield begin, middle
            begin = middle


if __name__ == "__main__":
    main()
