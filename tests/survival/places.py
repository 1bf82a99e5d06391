"""Where a store stands that is about to be harmed, as every process knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.backends.sqlite.database import Database, Durability

Kind = Literal["sqlite", "jsonl"]
KINDS: tuple[Kind, ...] = ("sqlite", "jsonl")
DURABILITIES: tuple[Durability, ...] = ("process", "power")
SEGMENT_BYTES = 40_000  # small, so that segments are begun in the middle of everything


class Place(msgspec.Struct, frozen=True):
    """A store of one kind in a folder of its own."""

    kind: Kind
    folder: Path
    durability: Durability = "process"
    segment_bytes: int = SEGMENT_BYTES

    @property
    def path(self) -> Path:
        """Of the store itself."""
        return self.folder / ("runs.db" if self.kind == "sqlite" else "logs")

    def backend(self) -> SQLiteBackend | LocalFileBackend:
        """The log, opened anew."""
        if self.kind == "sqlite":
            return SQLiteBackend(self.path, durability=self.durability)
        return LocalFileBackend(
            self.path, durability=self.durability, segment_bytes=self.segment_bytes
        )

    def store(self) -> LogStore:
        """The store, opened anew."""
        return LogStore(self.backend())

    def next(self, number: int) -> Place:
        """Another place of the same kind, empty; folder `number` beside this one."""
        folder = self.folder.parent / f"{self.folder.name.partition('-')[0]}-{number}"
        folder.mkdir()
        return msgspec.structs.replace(self, folder=folder)


def rows_of(store: LogStore) -> Database:
    """The database of a store's rows."""
    backend = store.backend
    assert isinstance(backend, SQLiteBackend | LocalFileBackend)
    return backend.rows_database()
