"""Filters that select sessions and calls; the query modules turn them into SQL."""

from __future__ import annotations

from typing import Literal

import msgspec

CallSort = Literal["started", "elapsed", "first_token", "cost", "tokens"]


class Filter(msgspec.Struct, frozen=True):
    """Selects sessions that meet every given condition.

    Attributes:
        tags: What the session is tagged with, or its root where it has no tag of that name.
        state: "success", "failure", "running" or "interrupted".
        tactic: The tactic's path. With it, calls of that tactic at any depth are meant, without it
            only sessions at the top.
        partition: The name of a partition, "" for sessions that have none.
        after: Nanoseconds UTC; sessions that began then or later.
        before: Nanoseconds UTC; sessions that began earlier.
        replays: Replays are meant, too; those of a tactic only where they are at the top.
    """

    tags: dict[str, str] = {}
    state: str | None = None
    tactic: str | None = None
    partition: str | None = None
    after: int | None = None
    before: int | None = None
    replays: bool = False


class CallFilter(msgspec.Struct, frozen=True):
    """Selects attempts to call a model that meet every given condition.

    Attributes:
        of: Tags, tactic and partition of their session, their own state, and when they began.
        statuses: The first and the last HTTP status.
        error: Part of what an error says, in small letters.
        model: The name of the model that was asked or that answered; `*` stands for anything.
        provider: The provider's name.
        slower: Nanoseconds that they took at least.
        session: The id of a session; those below it count.
    """

    of: Filter = Filter()
    statuses: tuple[int, int] | None = None
    error: str | None = None
    model: str | None = None
    provider: str | None = None
    slower: int | None = None
    session: str | None = None

    @property
    def fails(self) -> bool:
        """True if the filter selects only failed attempts."""
        return self.of.state == "failure" or self.statuses is not None or self.error is not None
