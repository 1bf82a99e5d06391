"""A log in NATS JetStream keeps the contract of every log."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lllm.events.backends.jetstream.backend import JetStreamBackend
from lllm.events.log import LogBackend
from lllm.testing import SharedLogContract
from tests.support.nats import cluster


@pytest.mark.slow
class TestJetStream(SharedLogContract):
    """A stream with three replicas."""

    def open_log(self, folder: Path) -> LogBackend:
        # The folder is the one thing that other processes get, so it says where the servers are.
        link = folder / "servers"
        if not link.exists():
            link.write_text(cluster().url("t" + hashlib.sha256(bytes(folder)).hexdigest()[:12]))
        return JetStreamBackend(link.read_text())
