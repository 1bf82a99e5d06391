"""The lock for erasures and legal holds, so that only one of them happens at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lllm.events.concurrency.locks import kept_waiting
from lllm.events.concurrency.robust_locks import LockPair, RobustLock
from lllm.projections.database import RowsDatabase

_threads = RobustLock()


def who(by: str | None) -> str:
    """Return the name to record for an action: the given one, or the user of this process.

    Args:
        by: The given name; None for the user of this process.
    """
    if by:
        return by
    import getpass  # late: it takes a terminal's libraries along

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


@contextmanager
def alone(database: RowsDatabase, timeout: float | None = None) -> Iterator[None]:
    """A context manager that holds the lock for erasures and legal holds.

    Args:
        database: The database of rows.
        timeout: The longest time to wait, in seconds; None for the usual time.

    Raises:
        LogUnavailable: Others hold the lock for longer.
    """
    lock = database.process_lock("erase.lock")
    try:
        with LockPair(_threads, lock, timeout) as mine:
            if not mine:
                raise kept_waiting(database.path)
            yield
    finally:
        if lock is not None:
            lock.close()
