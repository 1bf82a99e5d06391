"""Stores whose rows, and with them the search index, are kept by each database engine."""

from __future__ import annotations

import pytest

from lllm import LogStore
from lllm.events.backends.memory import MemoryBackend
from lllm.events.backends.postgres.server_url import parse_server_url
from tests.support.postgres import new_schema, server

ENGINES = ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)]


class LogBeside(MemoryBackend):
    """A log in memory whose rows are in PostgreSQL, so that positions are those of any log."""

    read_only = False
    jsonb: bool | None = None

    def __init__(self) -> None:
        super().__init__()
        self.server = parse_server_url(server().url(new_schema()))


def new_store(engine: str) -> LogStore:
    """An empty store with a log in memory."""
    return LogStore(LogBeside() if engine == "postgres" else MemoryBackend())
