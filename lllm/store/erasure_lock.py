"""The lock of whoever erases, or places or lifts a hold, and who that is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lllm.events.concurrency.locks import kept_waiting
from lllm.events.concurrency.robust_locks import LockPair, RobustLock
from lllm.projections.database import RowsDatabase

_threads = RobustLock()


def who(by: str | None) -> str:
    """Name who does something: as given, or the user of this process.

    Args:
        by: A name, None for the user's.
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
    """Hold the lock of whoever erases, or places or lifts a hold.

    Args:
        database: Of the rows.
        timeout: Seconds to wait, None for as long as anybody does.

    Raises:
        LogUnavailable: Others have it for longer.
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
