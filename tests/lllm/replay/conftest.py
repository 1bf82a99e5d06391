"""Stores that the tests of replays start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lllm import LogStore
from lllm.events.backends.memory import MemoryBackend


@pytest.fixture
def store() -> Iterator[LogStore]:
    """A store in memory."""
    with LogStore(MemoryBackend()) as opened:
        yield opened
