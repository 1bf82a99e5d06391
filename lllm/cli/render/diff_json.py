"""Formats the comparison of two sessions as JSON."""

from __future__ import annotations

from lllm.events.codec import encode
from lllm.replay.session_diff import SessionDiff


def as_object(found: SessionDiff) -> str:
    """Format a comparison as JSON.

    Args:
        found: The comparison to format.
    """
    first = found.first
    return encode(
        {
            "same": found.same,
            "steps": found.steps,
            "first": None
            if first is None
            else {
                "where": str(first.place), "kind": first.kind, "only_in": first.only_in,
                "differs": first.differs, "message": first.message, "place": first.place,
                "diff": first.diff,
            },
            "differences": [
                {
                    "where": str(one.place), "kind": one.kind, "only_in": one.only_in,
                    "differs": one.differs,
                }
                for one in found.differences
            ],
            "delivery": found.delivery,
            "a": found.a,
            "b": found.b,
        }
    ).decode()  # fmt: skip
