"""Functions that make a store; imports are deferred until one of them is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from lllm.packages.registry import Runtime
    from lllm.store.log_store import LogStore


def local_store(
    path: str | Path,
    *,
    runtime: Runtime | None = None,
    partition: str = "",
    read_only: bool = False,
    mode: int | None = None,
) -> LogStore:
    """Make a LogStore on files in a folder, for development.

    Args:
        path: The folder, made where there is none.
        runtime: The packages that tactic paths are resolved with, None for those loaded in this
            process.
        partition: A name for whose sessions these are, see LogStore.
        read_only: Write nothing, there or beside it.
        mode: The permissions of new files, as 0o660 for a store that a group shares; None for
            0o600, or those of a store that is there and shared.

    Returns:
        The store.

    Raises:
        LogUnavailable: It can't be opened.
    """
    from lllm.events.backends.jsonl.backend import LocalFileBackend
    from lllm.store.log_store import LogStore

    return LogStore(
        LocalFileBackend(path, read_only=read_only, mode=mode), runtime=runtime, partition=partition
    )


def sqlite_store(
    path: str | Path,
    *,
    runtime: Runtime | None = None,
    partition: str = "",
    read_only: bool = False,
    mode: int | None = None,
) -> LogStore:
    """Make a LogStore in an SQLite file, for production.

    Args:
        path: The file, made where there is none.
        runtime: The packages that tactic paths are resolved with, None for those loaded in this
            process.
        partition: A name for whose sessions these are, see LogStore.
        read_only: Write nothing, there or beside it.
        mode: The permissions of new files, as 0o660 for a store that a group shares; None for
            0o600, or those of a store that is there and shared.

    Returns:
        The store.

    Raises:
        LogUnavailable: It can't be opened.
    """
    from lllm.events.backends.sqlite.backend import SQLiteBackend
    from lllm.store.log_store import LogStore

    return LogStore(
        SQLiteBackend(path, read_only=read_only, mode=mode), runtime=runtime, partition=partition
    )


def noop_store(*, runtime: Runtime | None = None, partition: str = "") -> LogStore:
    """Make a LogStore that keeps nothing, for tests and benchmarks.

    Args:
        runtime: As for `sqlite_store`.
        partition: As for `sqlite_store`.

    Returns:
        The store.
    """
    from lllm.events.backends.noop import NoOpBackend
    from lllm.store.log_store import LogStore

    return LogStore(NoOpBackend(), runtime=runtime, partition=partition)
