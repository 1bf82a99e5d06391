"""Shares an open file or folder between the stores of a process; the last store closes it.

A program may open a store for every request, and drop it without calling `close`. So all stores of
one file share its connections, locks and descriptors. A file is identified by its device and inode,
and by its real path while it does not exist yet. If another file is put at the path, the path leads
to a different file.

If a store is dropped without `close`, its share is released through `finalizer_work`, because code
that the garbage collector calls must not wait for a lock.
"""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from threading import get_ident
from typing import Generic, Protocol, TypeVar

from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import LogError, LogUnavailable


class Shareable(Protocol):
    """An open file or folder that several stores can share."""

    def in_place(self) -> bool:
        """True if the path still leads to the file or folder that is open."""

    def close(self) -> None:
        """Close the file or folder; called when its last share is closed."""


T = TypeVar("T", bound=Shareable)
_Key = tuple[object, ...]
_tokens = count()


class _Entry(Generic[T]):
    """An open file or folder, and its users."""

    def __init__(self, key: _Key, options: Mapping[str, object]) -> None:
        self.key = key
        self.options = options
        self.thing: T | None = None
        self.users: dict[int, weakref.ref[object]] = {}
        self.shares = 0
        self.making = ThreadLock()
        self.made_by = 0  # the thread that is opening it


class Share(Generic[T]):
    """One store's share of an open file or folder, released when the store is dropped.

    Args:
        registry: The registry that the share belongs to.
        entry: The open file or folder in the registry.
        token: The number of this share in the entry.
        thing: The open file or folder.
        user: The store that has the share; when it is garbage-collected, the share is released.

    Attributes:
        number: How many shares the thing has had so far, including this one.
    """

    def __init__(
        self, registry: Registry[T], entry: _Entry[T], token: int, thing: T, user: object
    ) -> None:
        self.thing = thing
        entry.shares += 1
        self.number = entry.shares
        self._registry = registry
        self._entry = entry
        self._token = token
        self._dropped = weakref.finalize(user, finalizer_work.close_later, self.close)
        self._dropped.atexit = False  # at exit the registry closes everything

    def close(self) -> None:
        """Release the share; the last one closes the file. Closing twice does nothing."""
        self._dropped.detach()
        self._registry.give_back(self._entry, self._token)


def before_files_close(work: Callable[[], object]) -> Callable[[], object]:
    """Run a function when the interpreter exits, while the shared files are still open.

    Exit hooks run in reverse order. A hook that is registered here comes after the one of this
    module, and so before it when the interpreter exits.

    Args:
        work: The function.

    Returns:
        The same function.
    """
    return atexit.register(work)


_close_each: list[Callable[[], object]] = []


@atexit.register
def _close_files() -> None:
    """Close what stores that were never closed have left open."""
    for close in _close_each:
        close()


class Registry(Generic[T]):
    """The open files or folders of one kind in this process, by path."""

    def __init__(self) -> None:
        self._entries: dict[_Key, _Entry[T]] = {}
        self._lock = ThreadLock()  # only held for a few dict operations
        register_after_fork(self)
        _close_each.append(self.close_all)

    def after_fork(self) -> None:
        """Release the shares of users that were dropped in the parent before the fork."""
        for entry in self._entries.values():
            alive = {token: ref for token, ref in entry.users.items() if ref() is not None}
            entry.users = alive
            entry.made_by = 0

    def open(
        self,
        path: Path,
        user: object,
        make: Callable[[], T],
        *,
        options: Mapping[str, object],
        key: _Key = (),
    ) -> Share[T]:
        """Get a share of the file or folder at a path, opening it if needed.

        Args:
            path: The file or folder; it need not exist yet.
            user: The store that gets the share; when it is garbage-collected, the share is
                released.
            make: A function that opens the file or folder; called if nobody has it open.
            options: Option names and values that must be the same for all users.
            key: Distinguishes several things that share a path.

        Returns:
            The share.

        Raises:
            LogError: The file or folder is already open with other options.
            LogUnavailable: This same thread is opening it (a signal handler interrupted that), so
                it would wait for itself.
        """
        finalizer_work.catch_up()
        token = next(_tokens)
        while True:
            with self._lock.held():
                entry = self._entry(path, key, options)
                entry.users[token] = weakref.ref(user)
            try:
                thing = self._made(entry, path, key, make)
                if thing is not None:
                    _check_alike(path, entry.options, options)
            except BaseException:
                self.give_back(entry, token)
                raise
            if thing is not None:
                return Share(self, entry, token, thing, user)
            self.give_back(entry, token)

    def opened(self, path: Path, user: object, *, key: _Key = ()) -> Share[T] | None:
        """Get a share of a file or folder that is already open; None if it is not.

        Args:
            path: The file or folder.
            user: The store that gets the share; when it is garbage-collected, the share is
                released.
            key: Distinguishes several things that share a path.

        Returns:
            The share; None if nobody has the file or folder open.
        """
        token = next(_tokens)
        with self._lock.held():
            entry = self._found(path, key)
            if entry is None or entry.thing is None:
                return None
            entry.users[token] = weakref.ref(user)
        if not entry.thing.in_place():
            self.give_back(entry, token)
            return None
        return Share(self, entry, token, entry.thing, user)

    def _found(self, path: Path, key: _Key) -> _Entry[T] | None:
        found = self._entries.get((*_key(path), *key))
        if found is None:
            # another thread is opening it
            found = self._entries.get((os.path.realpath(path), *key))
        return found

    def _entry(self, path: Path, key: _Key, options: Mapping[str, object]) -> _Entry[T]:
        found = self._found(path, key)
        if found is None:
            found = _Entry((*_key(path), *key), options)
            self._entries[found.key] = found
        return found

    def _made(self, entry: _Entry[T], path: Path, key: _Key, make: Callable[[], T]) -> T | None:
        """Get or open the file of an entry; None if the path now leads elsewhere."""
        if entry.made_by == get_ident():
            raise LogUnavailable(
                f"{path} is just being opened by this thread, which a signal handler interrupted. "
                "Open the store before the handler needs it."
            )
        with entry.making.held():
            if entry.thing is None:
                entry.made_by = get_ident()
                try:
                    entry.thing = make()
                finally:
                    entry.made_by = 0
                with self._lock.held():
                    self._forget(entry)
                    entry.key = (*_key(path), *key)
                    self._entries[entry.key] = entry
            elif not entry.thing.in_place():
                with self._lock.held():
                    self._forget(entry)
                return None
            return entry.thing

    def _forget(self, entry: _Entry[T]) -> None:
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]

    def give_back(self, entry: _Entry[T], token: int) -> None:
        """Release a share; doing so twice does nothing.

        Args:
            entry: The file or folder in the registry.
            token: The number of the share in the entry.
        """
        with self._lock.held():
            if entry.users.pop(token, None) is None or entry.users:
                return
            self._forget(entry)
            thing, entry.thing = entry.thing, None
        if thing is not None:
            thing.close()

    def close_all(self) -> None:
        """Close everything when the interpreter exits."""
        finalizer_work.settle()
        for entry in list(self._entries.values()):
            for token in list(entry.users):
                self.give_back(entry, token)


def _key(path: Path) -> _Key:
    try:
        found = os.stat(path)
    except OSError:
        return (os.path.realpath(path),)
    return found.st_dev, found.st_ino


def _check_alike(path: Path, before: Mapping[str, object], now: Mapping[str, object]) -> None:
    different = [name for name in now if now[name] != before[name]]
    if different:
        is_open = ", ".join(f"{name}={before[name]!r}" for name in different)
        asked = ", ".join(f"{name}={now[name]!r}" for name in different)
        raise open_otherwise(path, is_open, asked)


def open_otherwise(path: Path, is_open: str, asked: str) -> LogError:
    """Make the error for opening a file with other options than it is already open with.

    Args:
        path: The file or folder.
        is_open: The options that it is open with, as the message shows them.
        asked: The options that were asked for, as the message shows them.

    Returns:
        The error, to be raised by the caller.
    """
    return LogError(
        f"{path} is open in this process with {is_open}, so it can't be opened with {asked}. "
        "Ask for the same, or close the other stores first."
    )
