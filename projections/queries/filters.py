"""Filters that select sessions and calls; the query modules turn them into SQL."""

from __future__ import annotations

from typing import Literal

import msgspec

SessionSort = Literal["started", "cost", "elapsed", "calls", "tokens", "state", "tactic", "task"]
CallSort = Literal["started", "elapsed", "first_token", "cost", "tokens"]


class Conditions(msgspec.Struct, frozen=True):
    """Conditions that are checked for each session; None leaves a condition out.

    Costs and calls of a session include everything below it.

    Attributes:
        model: The name of a model that was requested; `*` stands for any characters.
        agent: The name of the agent that requested it; `*` stands for any characters.
        error: A part of an error's text, in small letters: of the session, or of an attempt.
        statuses: The first and the last HTTP status of a range, for the errors of attempts.
        text: A part of the task, of the error or of the tactic's path, in small letters.
        least_nanos: The lowest cost, in nano-dollars.
        most_nanos: The highest cost, in nano-dollars.
        least_elapsed: The shortest duration, in nanoseconds; running sessions have none.
        most_elapsed: The longest duration, in nanoseconds.
        wasted: True for sessions that have a wasted cost.
    """

    model: str | None = None
    agent: str | None = None
    error: str | None = None
    statuses: tuple[int, int] | None = None
    text: str | None = None
    least_nanos: int | None = None
    most_nanos: int | None = None
    least_elapsed: int | None = None
    most_elapsed: int | None = None
    wasted: bool = False


NO_CONDITIONS = Conditions()


class Filter(msgspec.Struct, frozen=True):
    """Selects the sessions that meet every given condition; None leaves a condition out.

    Attributes:
        tags: Names and values of tags that the session has, or inherits from its root.
        state: "success", "failure", "running" or "interrupted".
        tactic: The path of a tactic. With it, calls of that tactic at any depth are selected;
            without it, only root sessions.
        partition: The name of a partition; "" for the default one.
        after: Sessions that began at this time or later, nanoseconds UTC.
        before: Sessions that began earlier than this time, nanoseconds UTC.
        replays: True to include replays; with a tactic, only replays at the root.
        annotations: The values, as rows hold them, of annotations by name; None for any value.
        conditions: What is checked for each session.
    """

    tags: dict[str, str] = {}
    state: str | None = None
    tactic: str | None = None
    partition: str | None = None
    after: int | None = None
    before: int | None = None
    replays: bool = False
    annotations: dict[str, str | None] = {}
    conditions: Conditions = NO_CONDITIONS

    @property
    def reads_sessions(self) -> bool:
        """True if only the rows of single sessions tell what it selects, and no sum does."""
        return bool(self.annotations) or self.conditions != NO_CONDITIONS


class CallFilter(msgspec.Struct, frozen=True):
    """Selects the attempts to call a model that meet every given condition.

    Attributes:
        of: The tags, tactic and partition of the attempt's session, and the attempt's own state and
            start.
        statuses: The first and the last HTTP status of a range.
        error: A part of the error's text, in small letters.
        model: The name of the requested or the answering model; `*` stands for any characters.
        provider: The name of the provider.
        slower: The shortest duration, in nanoseconds.
        session: The id of a session; attempts in sessions below it are included.
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
