"""Finds out which processes that write to a store are still alive.

A process that writes sessions holds a lock on a file of its own beside the store. The kernel
releases the lock when the process dies, in whatever way. To check a running session, another
process on the same host tries to take the lock of its owner: if it can be taken, the owner is dead.
The process id is not used, because another program may have it by now.

The name of the file contains its inode number, so the locks in a copy of a store are not mistaken
for those of processes that write the original.
"""

from __future__ import annotations

import re
import secrets
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Protocol

from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.locks import FileLock
from lllm.events.concurrency.robust_locks import RobustLock
from lllm.events.errors import LogUnavailable
from lllm.events.files.own_files import make_folder
from lllm.events.files.permissions import FOLDER_MODE

# A name in a log may come from anyone; a name of this form is no path.
_OWNER = re.compile("[0-9a-f]{16}-[0-9a-f]{1,16}")


@cache
def host() -> str:
    """The name of this machine; sessions of other machines are never marked as interrupted."""
    return socket.gethostname()


class WriterLiveness(Protocol):
    """Tells which of the processes that write to a log are alive."""

    def use(self) -> None:
        """Count one more store of this process."""

    def owner(self) -> str:
        """The name under which this process is known; the first call makes it known.

        Raises:
            OSError: It can't be made known.
        """

    def can_tell(self, owner: str, on_host: str) -> bool:
        """True if this process can find out whether another one is alive.

        Args:
            owner: The name of the process, as recorded in the session.
            on_host: Its host, as recorded in the session.

        Returns:
            False if it can't be found out.
        """

    def is_elsewhere(self, owner: str) -> bool:
        """True if a process writes to another log.

        Args:
            owner: The name of the process, as recorded in the session.

        Returns:
            False also if it is unknown.
        """

    def is_dead(self, owner: str, on_host: str) -> bool:
        """True if a process is known to be dead.

        Args:
            owner: The name of the process, as recorded in the session.
            on_host: Its host, as recorded in the session.

        Returns:
            False if it is alive, or if it can't be found out.
        """

    def forget(self, owner: str) -> None:
        """Forget a dead process whose sessions are all marked as interrupted.

        Args:
            owner: The name of the process.
        """

    def close(self, *, keep_file: bool = False) -> None:
        """Count one store less; after the last one, this process is known no longer.

        Args:
            keep_file: True to be known still, because the store has sessions that this process did
                not finish; others can then find out that it is dead.
        """


class Liveness:
    """The lock files of one folder; each is held by a writing process while that lives.

    The stores of one place share one object: each store calls `use` when it is opened and `close`
    at its end. The last `close` releases the lock.

    Args:
        folder: The folder of the lock files.
        mode: The permissions of the folder if it is created.
    """

    def __init__(self, folder: Path, *, mode: int = FOLDER_MODE) -> None:
        self._folder = folder
        self._mode = mode  # the permissions of a new folder
        self._thread_lock = RobustLock()  # reentrant: a signal handler may call this, too
        # the name of this process's lock, and the lock
        self._mine: tuple[str, FileLock] | None = None
        self._users = 0
        self._unfinished = False  # True if a store was closed while sessions were open
        register_after_fork(self)

    def after_fork(self) -> None:
        """Make the child take its own lock when it first writes."""
        self._mine = None
        self._unfinished = False

    def use(self) -> None:
        """Count one more store that uses the lock."""
        with self._thread_lock:
            self._users += 1

    def owner(self) -> str:
        """The name of this process's lock; the first call takes the lock.

        Raises:
            OSError: The folder can't be written.
        """
        mine = self._mine
        if mine is not None:
            return mine[0]
        with self._thread_lock:
            if self._mine is None:
                taken = self._take()
                if self._mine is None:
                    self._mine = taken
                else:  # a signal handler has done it meanwhile
                    self._let_go(taken)
            return self._mine[0]

    def _take(self) -> tuple[str, FileLock]:
        make_folder(self._folder, parents=True, mode=self._mode)
        draft = FileLock(self._folder / f"new-{secrets.token_hex(8)}")
        draft.acquire()
        owner = f"{secrets.token_hex(8)}-{draft.inode():x}"
        draft.path.rename(self._path(owner))
        draft.path = self._path(owner)
        return owner, draft

    def _path(self, owner: str) -> Path:
        return self._folder / f"{owner}.lock"

    def can_tell(self, owner: str, on_host: str) -> bool:
        """True if this process can find out whether the process of a lock is alive.

        It can't if the process is on another host, if the name is not one of lllm's, or in a copy
        of the store.

        Args:
            owner: The name of the lock, as recorded in the session.
            on_host: The host of the process, as recorded in the session.

        Returns:
            False if it can't be found out.
        """
        if on_host != host() or not _OWNER.fullmatch(owner):
            return False
        with suppress(OSError):
            return owner.endswith(f"-{self._path(owner).stat().st_ino:x}")
        return False

    def is_elsewhere(self, owner: str) -> bool:
        """True if a lock's process writes to another log than this folder's.

        Its lock file is not here then: the session was imported, or the store was copied.

        Args:
            owner: The name of the lock, as recorded in the session.

        Returns:
            False also if it is unknown.
        """
        if not _OWNER.fullmatch(owner):
            return False
        try:
            return not owner.endswith(f"-{self._path(owner).stat().st_ino:x}")
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def is_dead(self, owner: str, on_host: str) -> bool:
        """True if the process of a lock is known to be dead; False if that is unknown.

        Args:
            owner: The name of the lock, as recorded in the session.
            on_host: The host of the process, as recorded in the session.

        Returns:
            False if it is alive, or if it can't be found out.
        """
        mine = self._mine
        if mine is not None and mine[0] == owner:
            return False
        if not self.can_tell(owner, on_host):
            return False
        with suppress(OSError, LogUnavailable):  # a file that can't be opened proves nothing
            lock = FileLock(self._path(owner))
            try:
                # Another file may have replaced it since.
                return owner.endswith(f"-{lock.inode():x}") and lock.acquire(wait=False)
            finally:
                lock.close()
        return False

    def forget(self, owner: str) -> None:
        """Remove the lock file of a dead process whose sessions are all marked as interrupted.

        Args:
            owner: The name of the lock.
        """
        if _OWNER.fullmatch(owner):
            with suppress(OSError):
                self._path(owner).unlink()

    def close(self, *, keep_file: bool = False) -> None:
        """Count one store less; the last one releases this process's lock.

        Args:
            keep_file: True to keep the file, because the store has sessions that this process did
                not finish; others can then find out that the process is dead.
        """
        with self._thread_lock:
            self._users = max(0, self._users - 1)
            self._unfinished |= keep_file
            if self._users:
                return
            mine, self._mine = self._mine, None
            keep_file, self._unfinished = self._unfinished, False
            if mine is not None:
                self._let_go(mine, keep_file=keep_file)

    def _let_go(self, mine: tuple[str, FileLock], *, keep_file: bool = False) -> None:
        owner, lock = mine
        if not keep_file:
            self.forget(owner)
        lock.close()
