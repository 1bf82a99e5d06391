"""Re-exports the names that authors of backends need from `lllm.events.backend`."""

from lllm.events.backend import (
    AppendsWithin,
    AppendsWithoutWaiting,
    BackendKind,
    CanBeRepaired,
    CopiesFiles,
    KeepsRows,
    KnowsItsEnd,
    KnowsNesting,
    KnowsWriters,
    LogBackend,
    OpensLog,
    Progress,
    ReadsByType,
    ReadsPastDamage,
    ReportsHealth,
    follow,
    persists,
    read_types,
)
from lllm.events.backends.rows_file import open_rows
from lllm.events.envelope import NewEvent, Recorded

__all__ = [
    "AppendsWithin",
    "AppendsWithoutWaiting",
    "BackendKind",
    "CanBeRepaired",
    "CopiesFiles",
    "KeepsRows",
    "KnowsItsEnd",
    "KnowsNesting",
    "KnowsWriters",
    "LogBackend",
    "NewEvent",
    "OpensLog",
    "Progress",
    "ReadsByType",
    "ReadsPastDamage",
    "Recorded",
    "ReportsHealth",
    "follow",
    "open_rows",
    "persists",
    "read_types",
]
