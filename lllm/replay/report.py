"""Summarizes the replays of many sessions: counts, and groups of those that diverged alike."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lllm.replay.verdict import ReplayResult, SessionVerdict


class DivergedGroup(msgspec.Struct, frozen=True):
    """A group of sessions that diverged at the same place in the same way."""

    kind: str
    """The kind of the divergence: one of ReplayDivergence, or "end" for another end."""
    where: str
    """The place in words: tactic, agent, dialog and step."""
    differs: tuple[str, ...]
    """The names of the parts that differ at the place, such as "messages"."""
    sessions: tuple[str, ...]
    """The ids of the recorded sessions, or the paths of exported files."""
    message: str
    """The description of the difference in the first session of the group."""
    diff: str
    """The unified diff of the first session of the group; may be empty."""


class ReplayReport:
    """Summarizes the results of many replays.

    Args:
        results: One result for each replayed session.
        erased: How many matching sessions were left out because they were erased.
    """

    def __init__(self, results: Sequence[ReplayResult], erased: int = 0) -> None:
        self.results = results
        self.erased = erased

    def of(self, verdict: SessionVerdict) -> list[ReplayResult]:
        """Select the results with a verdict.

        Args:
            verdict: The verdict: "same", "diverged" or "failed".
        """
        return [one for one in self.results if one.verdict == verdict]

    @property
    def groups(self) -> list[DivergedGroup]:
        """The diverged sessions, grouped by kind, place and parts; the largest group is first."""
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
        """0 if all replays are the same; 1 if any diverged; 125 if any failed or there are none."""
        if self.of("diverged"):
            return 1
        return 125 if self.of("failed") or not self.results else 0
