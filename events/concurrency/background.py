"""Collects the items of an iterator in a thread, while the caller does something else.

SQLite runs a statement without Python's lock, so what one thread asks of it and what another one
computes take two processors.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from lllm.events.concurrency.thread_starts import starting_threads

T = TypeVar("T")


class InBackground(Generic[T]):
    """A context manager that collects the items of an iterator in a thread.

    At its end, the thread is stopped behind the item that it is at, and waited for. Where no thread
    can be started, or it does not survive (in a forked child), the items are collected when they
    are asked for.

    Args:
        items: Makes the iterator; it is called in the thread.
    """

    def __init__(self, items: Callable[[], Iterator[T]]) -> None:
        self._items = items
        self._found: list[T] | None = None
        self._error: Exception | None = None
        self._stop = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self._run, name="lllm-background", daemon=True)
        try:
            starting_threads(thread.start)
        except RuntimeError:  # there are too many threads, or the interpreter ends
            return self
        self._thread = thread
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._stop = True
        if self._thread is not None:
            self._thread.join()

    def results(self) -> list[T]:
        """Wait for the iterator to end.

        Returns:
            All its items.

        Raises:
            Exception: What the iterator raised.
        """
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error
        return list(self._items()) if self._found is None else self._found

    def _run(self) -> None:
        found: list[T] = []
        try:
            for item in self._items():
                if self._stop:
                    return
                found.append(item)
        except Exception as error:  # raised where the results are asked for
            self._error = error
        else:
            self._found = found
