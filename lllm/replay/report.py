"""What came of replaying many sessions: counts, and the diverged ones grouped by where."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lllm.replay.verdict import ReplayResult, SessionVerdict


class DivergedGroup(msgspec.Struct, frozen=True):
    """Sessions that diverged in the same place, in the same way."""

    kind: str
    """A kind of ReplayDivergence, or "end"."""
    where: str
    """The place in the code's tactics, agents and steps."""
    differs: tuple[str, ...]
    """What differs there."""
    sessions: tuple[str, ...]
    """The recorded sessions."""
    message: str
    """What was found in the first of them."""
    diff: str
    """The diff of the first of them."""


class ReplayReport:
    """The results of many replays.

    Args:
        results: One for each session.
        erased: How many sessions fit and were left out, since nothing of them is left.
    """

    def __init__(self, results: Sequence[ReplayResult], erased: int = 0) -> None:
        self.results = results
        self.erased = erased

    def of(self, verdict: SessionVerdict) -> list[ReplayResult]:
        """The results with a verdict.

        Args:
            verdict: Which one.
        """
        return [one for one in self.results if one.verdict == verdict]

    @property
    def groups(self) -> list[DivergedGroup]:
        """The diverged sessions by where, the largest group first."""
        found: dict[tuple[str, str, tuple[str, ...]], list[ReplayResult]] = {}
        for one in self.of("diverged"):
            found.setdefault((one.kind, one.where, one.differs), []).append(one)
        groups = [
            DivergedGroup(
                *key, tuple(one.session_id for one in same), same[0].message, same[0].diff
            )
            for key, same in found.items()
        ]
        return sorted(groups, key=lambda group: -len(group.sessions))

    @property
    def exit_code(self) -> int:
        """0 if all are the same; 1 if one diverged, whatever else; else 125."""
        if self.of("diverged"):
            return 1
        return 125 if self.of("failed") or not self.results else 0
