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
        path: The folder; created if it does not exist.
        runtime: The packages in which tactic paths are looked up; None for the packages loaded in
            this process.
        partition: The name of the owner of the sessions; see LogStore.
        read_only: True to write nothing, neither the store nor files beside it.
        mode: The permissions of new files, as 0o660 for a store that a group shares; None for
            0o600, or for the permissions of an existing shared store.

    Returns:
        The store.

    Raises:
        LogUnavailable: The store can't be opened.
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
        path: The file; created if it does not exist.
        runtime: The packages in which tactic paths are looked up; None for the packages loaded in
            this process.
        partition: The name of the owner of the sessions; see LogStore.
        read_only: True to write nothing, neither the store nor files beside it.
        mode: The permissions of new files, as 0o660 for a store that a group shares; None for
            0o600, or for the permissions of an existing shared store.

    Returns:
        The store.

    Raises:
        LogUnavailable: The store can't be opened.
    """
    from lllm.events.backends.sqlite.backend import SQLiteBackend
    from lllm.store.log_store import LogStore

    return LogStore(
        SQLiteBackend(path, read_only=read_only, mode=mode), runtime=runtime, partition=partition
    )


def noop_store(*, runtime: Runtime | None = None, partition: str = "") -> LogStore:
    """Make a LogStore that keeps nothing, for tests and benchmarks.

    Args:
        runtime: The packages in which tactic paths are looked up; None for the packages loaded in
            this process.
        partition: The name of the owner of the sessions; see LogStore.

    Returns:
        The store.
    """
    from lllm.events.backends.noop import NoOpBackend
    from lllm.store.log_store import LogStore

    return LogStore(NoOpBackend(), runtime=runtime, partition=partition)
