"""Compares our Merkle trees and proofs with two independent implementations of RFC 6962.

pymerkle makes trees and proofs from entries and counts leaves from 1; rekor-verifier checks proofs
about leaf hashes. Neither is among the locked packages: rekor-verifier asks for an older
`cryptography` than these have.
"""

from __future__ import annotations

from pymerkle import InmemoryTree, verify_consistency, verify_inclusion
from rekor_verifier import merkle_proof as rekor

from lllm.events.integrity import merkle

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
    print(f"{count:,} proofs are the same for lllm, pymerkle and rekor-verifier.")


if __name__ == "__main__":
    main()
