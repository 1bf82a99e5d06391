"""The verdicts of checks, and what a check of an anchor outside of the store found."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Literal

import msgspec

Verdict = Literal["good", "wrong", "unknown"]
"""The result of a check; "unknown" means that something is missing that it needs, as a key."""


class AnchorCheck(msgspec.Struct, frozen=True):
    """Whether a timestamp or a witness vouches for a checkpoint.

    Both bound the time from above only: they say nothing about how much earlier the events were
    written.

    Attributes:
        kind: A timestamp of an authority (RFC 3161), or a cosignature of a witness (C2SP).
        by: The name of the witness; "" for an authority.
        verdict: "good" if it fits, and a given certificate or key stands behind it; "unknown" if
            none was given to check it with, or there is nothing to check; "wrong" otherwise.
        says: The same in words.
        time: The time, UTC, at which the checkpoint existed at the latest; None for none.
    """

    kind: Literal["timestamp", "cosignature"]
    by: str
    verdict: Verdict
    says: str
    time: dt.datetime | None = None


def worst(verdicts: Sequence[Verdict]) -> Verdict | None:
    """Find the worst of some verdicts.

    Args:
        verdicts: The verdicts.

    Returns:
        "wrong" before "unknown" before "good"; None if there are none.
    """
    for verdict in ("wrong", "unknown", "good"):
        if verdict in verdicts:
            return verdict
    return None
