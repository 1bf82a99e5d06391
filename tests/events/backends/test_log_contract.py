"""Every log that lllm brings keeps the contract that it asks of others."""

from __future__ import annotations

from pathlib import Path

from lllm.events.backends.jsonl.backend import LocalFileBackend
from lllm.events.backends.memory import MemoryBackend
from lllm.events.backends.noop import NoOpBackend
from lllm.events.backends.sqlite.backend import SQLiteBackend
from lllm.events.log import LogBackend
from lllm.testing import AppendContract, LogContract, SharedLogContract


class TestSQLite(SharedLogContract):
    """A database file."""

    def open_log(self, folder: Path) -> LogBackend:
        return SQLiteBackend(folder / "log.db")


class TestSQLiteDurable(LogContract):
    """A database file that survives the loss of power."""

    def open_log(self, folder: Path) -> LogBackend:
        return SQLiteBackend(folder / "log.db", durability="power")


class TestSQLiteInMemory(LogContract):
    """A database that ends with the process."""

    def open_log(self, _folder: Path) -> LogBackend:
        return SQLiteBackend(":memory:")


class TestJSONL(SharedLogContract):
    """A folder of JSONL files."""

    def open_log(self, folder: Path) -> LogBackend:
        return LocalFileBackend(folder / "log")


class TestJSONLInSmallSegments(SharedLogContract):
    """The same with a new file every few appends."""

    def open_log(self, folder: Path) -> LogBackend:
        return LocalFileBackend(folder / "log", segment_bytes=2_000)


class TestJSONLDurable(LogContract):
    """A folder of JSONL files that survives the loss of power."""

    def open_log(self, folder: Path) -> LogBackend:
        return LocalFileBackend(folder / "log", durability="power")


class TestMemory(LogContract):
    """The reference: a list."""

    def open_log(self, _folder: Path) -> LogBackend:
        return MemoryBackend()


class TestNoOp(AppendContract):
    """The log that keeps nothing."""

    def open_log(self, _folder: Path) -> LogBackend:
        return NoOpBackend()
