"""Pairs what stands beside each other in two sessions that are compared, in whatever order it came.

That is the sessions below them, and the calls of captured clients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from lllm.replay.comparison import task_key
from lllm.replay.recorded_clients import ClientCall
from lllm.replay.recorded_session import RecordedSession
from lllm.replay.session_steps import StepReader

T = TypeVar("T")
_Call: TypeAlias = tuple[StepReader, RecordedSession, ClientCall]


def paired(
    a: Sequence[T], b: Sequence[T], equal: Callable[[T], Hashable], alike: Callable[[T], Hashable]
) -> Iterator[tuple[T | None, T | None]]:
    """Pair what stands beside each other in two sessions, in whatever order it came.

    Args:
        a: Of the one session.
        b: Of the other.
        equal: What tells those that are equal, which belong together first.
        alike: What tells those that may belong together otherwise, in their order.

    Yields:
        Two that belong together, or one that stands alone.
    """
    for key in (equal, alike):
        waiting: dict[Hashable, deque[T]] = {}
        for other in b:
            waiting.setdefault(key(other), deque()).append(other)
        alone: list[T] = []
        for one in a:
            same = waiting.get(key(one))
            if same:
                yield one, same.popleft()
            else:
                alone.append(one)
        left = {id(other) for others in waiting.values() for other in others}
        a, b = alone, [other for other in b if id(other) in left]
    yield from ((one, None) for one in a)
    yield from ((None, other) for other in b)


def paired_children(
    a: RecordedSession | None, b: RecordedSession | None
) -> Iterator[tuple[RecordedSession | None, RecordedSession | None]]:
    """Pair the sessions below two sessions: by tactic and task, then by tactic and order.

    Args:
        a: A session; None where there is none.
        b: The other.

    Yields:
        Two that belong together, or one that stands alone.
    """
    ours, theirs = ([] if one is None else one.children for one in (a, b))
    yield from paired(ours, theirs, _tactic_and_task, _tactic)


def _tactic(session: RecordedSession) -> Hashable:
    return session.tactic_path


def _tactic_and_task(session: RecordedSession) -> Hashable:
    return session.tactic_path, task_key(session.started.task)


def client_numbers(
    a: tuple[StepReader, RecordedSession | None], b: tuple[StepReader, RecordedSession | None]
) -> tuple[dict[int, int], dict[int, int]]:
    """Number the calls of captured clients of two sessions, the same where they belong together.

    Args:
        a: A session, None where there is none, and what reads it.
        b: The other.

    Returns:
        The numbers by step, of the one and of the other.
    """
    numbers: tuple[dict[int, int], dict[int, int]] = ({}, {})
    ours, theirs = (
        [] if one is None else [(reader, one, call) for call in one.captured.values()]
        for reader, one in (a, b)
    )
    pairs = paired(ours, theirs, _asked, _any)
    for number, pair in enumerate(pairs):
        for side, call in zip(numbers, pair, strict=True):
            if call is not None:
                side[call[2].step] = number
    return numbers


def _asked(call: _Call) -> Hashable:
    reader, session, client = call
    return reader.asked(session, client)


def _any(_: _Call) -> Hashable:
    return None
