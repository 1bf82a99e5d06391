"""What the tests of `lllm.capture` start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest

from lllm import LogStore, SQLiteBackend, capture
from tests.lllm.instrumentation.asking import chat_client, claude_client, close_clients
from tests.support.loopback import Loopback


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store on SQLite."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def clients_are_closed() -> Iterator[None]:
    """Nobody else closes the clients that a test makes by the way."""
    yield
    close_clients()


@pytest.fixture
def client(server: Loopback, store: LogStore) -> Iterator[openai.OpenAI]:
    """OpenAI's client, recorded."""
    with chat_client(server) as made:
        yield capture(made, log_store=store, provider="openai")


@pytest.fixture
def claude(server: Loopback, store: LogStore) -> Iterator[anthropic.Anthropic]:
    """Anthropic's client, recorded."""
    with claude_client(server) as made:
        yield capture(made, log_store=store, provider="anthropic")
