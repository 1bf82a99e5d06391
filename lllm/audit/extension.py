"""Checks a log against earlier checkpoints: since each of them, it may only have grown.

If an event before a checkpoint was altered, the tree has another root at the checkpoint's size. If
the end of the log is missing, the log is shorter than the checkpoint says. If some events can't be
read, the stored rows of the tree may still have the hashes for them; if the root comes out right
with these hashes, the hashes are right, and all other events are proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import msgspec

from lllm.audit.sealing import Anchor
from lllm.audit.verdict import Verdict
from lllm.events.backend import KeepsRows, LogBackend
from lllm.events.errors import LogError
from lllm.events.integrity.merkle import HASH_BYTES
from lllm.events.integrity.verified_tree import TILE_LEVEL, TileHash, VerifiedTree

_SHOWN = 5  # places that are named


class Extension(msgspec.Struct, frozen=True):
    """The result of checking a log against one checkpoint.

    Attributes:
        anchor: The checkpoint, as read from its file.
        verdict: "good" if the log begins with all events of the checkpoint; "wrong" if the log is
            another one or shorter; "unknown" if that can't be decided because some events can't be
            read.
        says: The verdict as a sentence.
    """

    anchor: Anchor
    verdict: Verdict
    says: str


def tree_for(log: LogBackend, anchors: Sequence[Anchor]) -> VerifiedTree | None:
    """Make the empty tree that `verify` fills with events, for `check_extension`.

    Args:
        log: The log that is verified.
        anchors: The checkpoints to check the log against.

    Returns:
        The empty tree; None if there are no checkpoints.
    """
    return VerifiedTree(log, [one.checkpoint.size for one in anchors]) if anchors else None


def check_extension(
    log: LogBackend, tree: VerifiedTree, anchors: Sequence[Anchor]
) -> list[Extension]:
    """Check that a log still begins with the events of each earlier checkpoint.

    Args:
        log: The log that is verified.
        tree: The Merkle tree of the events as they are now.
        anchors: The checkpoints, in any order.

    Returns:
        One verdict for each checkpoint, in the order in which they were given.
    """
    stored = _stored_hashes(log)
    return [Extension(one, *_judged(tree, one, stored)) for one in anchors]


def _judged(tree: VerifiedTree, anchor: Anchor, stored: TileHash) -> tuple[Verdict, str]:
    size, wanted = anchor.checkpoint.size, anchor.checkpoint.root
    root = tree.root(size)
    if root == wanted:
        return "good", f"the log begins with its {_events(size)}, in order"
    if root is None:
        missing = size - tree.edge.size
        are = "is" if missing == 1 else "are"
        had = f"the log had {size:,}, and has {tree.edge.size:,}"
        return "wrong", f"{_events(missing)} {are} missing: {had}"
    unreadable = tree.unreadable_below(size)
    if not unreadable:
        return "wrong", f"the first {_events(size)} of the log are others, or in another order"
    lost = sum(one.unreadable for one in unreadable)
    if tree.root(size, stored) != wanted:
        return "unknown", f"{lost:,} of its {_events(size)} can't be read, or more"
    places = ", ".join(f"{one.first} to {one.last}" for one in unreadable[:_SHOWN])
    more = f" and {len(unreadable) - _SHOWN:,} more" if len(unreadable) > _SHOWN else ""
    return "unknown", (
        f"the log begins with its {_events(size)}, in order, but for those at positions {places}"
        f"{more}, of which {lost:,} can't be read, so that the others there can't be proven"
    )


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"


def _stored_hashes(log: LogBackend) -> TileHash:
    """Read the hashes in the stored rows; the check of the root shows whether they are right."""

    def read(number: int) -> bytes | None:
        if not isinstance(log, KeepsRows):
            return None
        with suppress(LogError):
            rows = log.rows_database().query(
                "SELECT hash FROM merkle_nodes WHERE level = ? AND node = ?", (TILE_LEVEL, number)
            )
            found = rows[0][0] if rows else None
            return found if isinstance(found, bytes) and len(found) == HASH_BYTES else None
        return None

    return read
