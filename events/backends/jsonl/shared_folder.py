"""Shares one open JSONL folder between all stores of a process that use it."""

from __future__ import annotations

from pathlib import Path

from lllm.events.backends.jsonl.active_segment import Tail
from lllm.events.backends.jsonl.lost_end import HighWater
from lllm.events.backends.jsonl.stream_index import StreamIndex
from lllm.events.backends.sharing import Registry
from lllm.events.concurrency.fair_locks import FairFileLock, FairThreadLock
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.liveness import Liveness
from lllm.events.concurrency.nested_writes import Nesting
from lllm.events.concurrency.robust_locks import LockPair
from lllm.events.files.own_files import make_folder
from lllm.events.files.permissions import folder_mode

_CLOSING_SECONDS = 1.0  # seconds to wait for another thread's append


class JSONLFolder:
    """A JSONL folder that is open for writing, and the locks that show which writers are alive.

    Args:
        path: The folder of the log.
        segment_bytes: The size in bytes from which a segment is followed by a new one.
        durable: True if an append waits until the disk has it.
        mode: The permissions of new files, as 0o600.
    """

    def __init__(self, path: Path, segment_bytes: int, *, durable: bool, mode: int) -> None:
        self.path = path
        self.mode = mode  # the permissions of new files in the folder
        self.locks = path / "locks"
        self.liveness = Liveness(self.locks, mode=folder_mode(mode))
        self.thread_lock = FairThreadLock()
        self.nesting = Nesting()
        self.tail = Tail(path, segment_bytes, durable=durable, mode=mode)
        self.streams = StreamIndex(path)
        self._write_lock: FairFileLock | None = None
        register_after_fork(self)

    def after_fork(self) -> None:
        """Make the child open files of its own, and forget what the parent has read.

        Another thread of the parent may have been appending during the fork.
        """
        self.thread_lock = FairThreadLock()
        self.nesting = Nesting()
        self.tail.close()
        self.streams = StreamIndex(self.path)

    def write_lock(self) -> FairFileLock:
        """The lock that a process holds while it writes."""
        lock = self._write_lock
        if lock is None:
            make_folder(self.locks, mode=folder_mode(self.mode))  # a backup has no lock folder
            lock = FairFileLock(self.locks / "write.lock")
            self.tail.high_water = HighWater(lock)
            self._write_lock = lock
        return lock

    def in_place(self) -> bool:
        """True if the path still leads to this folder; see `Shareable`."""
        return self.tail.in_place() and (self._write_lock is None or self._write_lock.in_place())

    def close(self) -> None:
        """Close the files and locks of the folder; see `Shareable`."""
        with LockPair(self.thread_lock, None, _CLOSING_SECONDS) as mine:
            if not mine:
                return  # another thread is appending and uses the files
            self.tail.close()
            lock, self._write_lock = self._write_lock, None
            if lock is not None:
                lock.close()


folders: Registry[JSONLFolder] = Registry()
