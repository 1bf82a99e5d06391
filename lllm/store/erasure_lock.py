"""The lock of whoever erases, or places or lifts a hold, and who that is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lllm.events.backends.sqlite.database import Database
from lllm.events.backends.sqlite.errors import FileErrors
from lllm.events.concurrency.locks import FileLock, kept_waiting
from lllm.events.concurrency.robust_locks import LockPair, RobustLock

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
def alone(database: Database, timeout: float | None = None) -> Iterator[None]:
    """Hold the lock of whoever erases, or places or lifts a hold.

    Args:
        database: Of the rows.
        timeout: Seconds to wait, None for as long as anybody does.

    Raises:
        LogUnavailable: Others have it for longer.
    """
    path: Path | None = None
    file = None
    if database.lock_folder is not None:
        path = database.lock_folder / "erase.lock"
        with FileErrors(path):
            file = FileLock(path)
    try:
        with LockPair(_threads, file, timeout) as mine:
            if not mine:
                raise kept_waiting(path or ":memory:")
            yield
    finally:
        if file is not None:
            file.close()
