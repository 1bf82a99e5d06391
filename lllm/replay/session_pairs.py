"""Finds out which items of two compared sessions belong together, whatever their order.

The items are the sessions below the two, and the calls of captured clients.
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
    """Pair the items of two sessions, whatever their order.

    Args:
        a: The items of the first session.
        b: The items of the second session.
        equal: Gives a key that is the same for equal items; these are paired first.
        alike: Gives a key that is the same for similar items; those that are left are paired by it,
            in their order.

    Yields:
        Two items that belong together, or one item and None if it has no counterpart.
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
        a: The first session; None if only the second one exists.
        b: The second session; None if only the first one exists.

    Yields:
        Two sessions that belong together, or one session and None if it has no counterpart.
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
    """Number the captured clients' calls of two sessions, with equal numbers for counterparts.

    Args:
        a: The reader of the first side, and its session; the session is None if only the second
            one exists.
        b: The same for the second side.

    Returns:
        For each of the two sessions, the numbers of its calls by their step.
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
