"""The results of checks: of signatures, and of anchors outside of the store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Literal

import msgspec

Verdict = Literal["good", "wrong", "unknown"]
"""The result of a check; "unknown" means that something is missing to decide, such as a key."""


class AnchorCheck(msgspec.Struct, frozen=True):
    """Whether a timestamp or a witness vouches for a checkpoint.

    Both prove only that the events existed at a time; they may have been written long before it.

    Attributes:
        kind: The kind of anchor: a timestamp of an authority (RFC 3161), or the cosignature of a
            witness (C2SP).
        by: The name of the witness; "" for an authority.
        verdict: "good" if it fits and a given certificate or key made it; "unknown" if no
            certificate or key was given, or there is nothing to check; "wrong" otherwise.
        says: The verdict as a sentence.
        time: The time, UTC, at which the checkpoint existed at the latest; None if it is not known.
    """

    kind: Literal["timestamp", "cosignature"]
    by: str
    verdict: Verdict
    says: str
    time: dt.datetime | None = None


def worst(verdicts: Sequence[Verdict]) -> Verdict | None:
    """Return the worst of some verdicts.

    Args:
        verdicts: The verdicts to compare.

    Returns:
        "wrong" if there is one, else "unknown" if there is one, else "good"; None without verdicts.
    """
    for verdict in ("wrong", "unknown", "good"):
        if verdict in verdicts:
            return verdict
    return None
