"""A log in PostgreSQL keeps the contract of every log."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lllm.events.backends.postgres.backend import PostgresBackend
from lllm.events.log import LogBackend
from lllm.testing import SharedLogContract
from tests.support.postgres import server


@pytest.mark.slow
class TestPostgres(SharedLogContract):
    """A schema of a server."""

    def open_log(self, folder: Path) -> LogBackend:
        # The folder is the one thing that other processes get, so it says where the server is.
        link = folder / "server"
        if not link.exists():
            link.write_text(server().url("t" + hashlib.sha256(bytes(folder)).hexdigest()[:12]))
        return PostgresBackend(link.read_text())


@pytest.mark.slow
class TestPartitioned(TestPostgres):
    """A schema whose payloads are partitioned by month."""

    def open_log(self, folder: Path) -> LogBackend:
        super().open_log(folder).close()
        return PostgresBackend((folder / "server").read_text(), partition_by="month")
