"""A store that is a dict: what lists, loads and sums must answer after any history."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from lllm import LogStore
from tests.survival.kept import states


class Known(msgspec.Struct):
    """A session as it is remembered. whose: the name of the hand that has it open, "" for none."""

    tags: dict[str, str]
    parent: str | None
    whose: str
    state: str = "running"
    nanos: int = 0


class Picture(NamedTuple):
    """What is to be seen of a store: the state of every session, and of each root its state, tags
    and cost in nano-dollars."""

    states: dict[object, object]
    roots: dict[str, tuple[str, dict[str, str], int]]


class Memory:
    """Does to a dict what a Hand does to a store."""

    def __init__(self) -> None:
        self.sessions: dict[str, Known] = {}
        self.errors: list[str] = []

    def copy(self) -> Memory:
        """Another, of the same content."""
        copied = Memory()
        copied.errors = list(self.errors)
        for name, known in self.sessions.items():
            copied.sessions[name] = msgspec.structs.replace(known, tags=dict(known.tags))
        return copied

    def open_of(self, whose: str) -> list[str]:
        """The sessions that a hand has open, oldest first."""
        return [name for name, known in self.sessions.items() if known.whose == whose]

    def apply(self, whose: str, step: str, done: str, arguments: tuple[object, ...]) -> None:
        """A step of a hand. done: what the hand gave back."""
        if step == "start":
            _, tags, parent = arguments
            assert isinstance(tags, dict)
            assert parent is None or isinstance(parent, str)
            self.sessions[done] = Known(dict(tags), parent, whose)
        elif step == "attempt":
            _, nanos = arguments
            assert isinstance(nanos, int)
            self.sessions[done].nanos += nanos
        elif step == "finish":
            self.sessions[done].state = "success" if arguments[1] else "failure"
            self.sessions[done].whose = ""
        elif step == "tag":
            _, tags, remove = arguments
            assert isinstance(tags, dict)
            assert isinstance(remove, tuple)
            for name in remove:
                self.sessions[done].tags.pop(name, None)
            self.sessions[done].tags |= tags
        elif step == "error":
            self.errors.append(done)

    def interrupt(
        self, whose: str, state: Literal["interrupted", "failure"] = "interrupted"
    ) -> None:
        """A hand is gone. state: of what it had open."""
        for name in self.open_of(whose):
            self.sessions[name].state = state
            self.sessions[name].whose = ""

    def picture(self) -> Picture:
        """What is to be seen."""
        return Picture(
            {name: known.state for name, known in self.sessions.items()},
            {
                name: (known.state, known.tags, self.total(name))
                for name, known in self.sessions.items()
                if known.parent is None
            },
        )

    def total(self, session: str) -> int:
        """What a session cost, with those below it."""
        below = [name for name, known in self.sessions.items() if known.parent == session]
        return self.sessions[session].nanos + sum(map(self.total, below))


def seen(store: LogStore) -> Picture:
    """What is to be seen of a real store."""
    listed = store.list_sessions()
    order = [(one.timestamp, one.session_id) for one in listed]
    assert order == sorted(order, reverse=True)
    roots: dict[str, tuple[str, dict[str, str], int]] = {
        one.session_id: (one.state, dict(one.tags), round(one.total_cost * 10**9)) for one in listed
    }
    assert len(roots) == len(listed)
    return Picture(states(store), roots)
