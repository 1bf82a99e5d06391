"""An iterator that is run in a thread gives the same items, and ends when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lllm.events.concurrency import background
from lllm.events.concurrency.background import InBackground


def test_in_another_thread() -> None:
    """All items come, in order, from a thread that is over then."""
    seen: set[int] = set()

    def items() -> Iterator[int]:
        seen.add(threading.get_ident())
        yield from range(3)

    with InBackground(items) as made:
        assert made.results() == [0, 1, 2]
    assert len(seen) == 1
    assert threading.get_ident() not in seen


def test_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's own thread does it."""

    def too_many(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(background, "starting_threads", too_many)
    with InBackground(lambda: iter("ab")) as made:
        assert made.results() == ["a", "b"]


def test_an_error() -> None:
    """It is raised where the results are asked for, and nowhere else."""

    def items() -> Iterator[int]:
        yield 1
        raise ValueError("wrong")

    with InBackground(items) as made, pytest.raises(ValueError, match="wrong"):
        made.results()
    with InBackground(items):
        pass


def test_it_ends_with_its_block() -> None:
    """An iterator without an end is left behind the item that it is at."""
    begun = threading.Event()

    def items() -> Iterator[int]:
        while True:
            begun.set()
            yield 1

    with InBackground(items) as made:
        assert begun.wait(30)
    assert made._thread is not None
    assert not made._thread.is_alive()
