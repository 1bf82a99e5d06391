"""Sets of weak references that run no Python code when one of their objects dies.

An exception that a signal handler raises (Ctrl-C) is lost if it comes in a finalizer or in the
callback of a weak reference: Python prints it and continues. `weakref.WeakSet` has such a callback,
written in Python. Here the callback is the method `discard` of a set, in which no signal is
handled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar
from weakref import ref

T = TypeVar("T")


class LiveSet(Generic[T]):
    """A set of weak references to objects; several threads may use it."""

    def __init__(self) -> None:
        self._refs: set[ref[T]] = set()

    def add(self, thing: T) -> None:
        """Add a hashable object, unless it is already there.

        Args:
            thing: The object; it must be hashable.
        """
        self._refs.add(ref(thing, self._refs.discard))

    def discard(self, thing: T) -> None:
        """Remove an object, if it is there.

        Args:
            thing: The object to remove.
        """
        self._refs.discard(ref(thing))

    def __iter__(self) -> Iterator[T]:
        """Iterate over a snapshot of the live objects."""
        for one in tuple(self._refs):
            thing = one()
            if thing is not None:
                yield thing

    def __bool__(self) -> bool:
        return bool(self._refs)
