"""Clients of the official SDKs, what they are asked, and what was written of it."""

from __future__ import annotations

from typing import Any, TypeVar

import anthropic
import openai
import pytest

from lllm import LogStore
from lllm.events.model import Event
from tests.support import loopback_messages
from tests.support.loopback import Loopback
from tests.support.runs import payloads

KEY = "sk-test-0123456789abcdef"
CHAT = "gpt-4o-mini"
ClientT = TypeVar("ClientT", openai.OpenAI, anthropic.Anthropic)
CLAUDE = "claude-haiku-4-5-20251001"
ASKED: Any = [{"role": "user", "content": "?"}]


def chat_client(server: Loopback, **options: Any) -> openai.OpenAI:
    """OpenAI's client, which tries nothing again unless it is told to. It is closed with the test,
    as those below are."""
    options = {"max_retries": 0, **options}
    return _closed_later(openai.OpenAI(base_url=server.url, api_key=KEY, **options))


def claude_client(server: Loopback, **options: Any) -> anthropic.Anthropic:
    """Anthropic's."""
    url = loopback_messages.base_url(server)
    options = {"max_retries": 0, **options}
    return _closed_later(anthropic.Anthropic(base_url=url, api_key=KEY, **options))


_made: list[openai.OpenAI | anthropic.Anthropic] = []


def _closed_later(client: ClientT) -> ClientT:
    _made.append(client)
    return client


def close_clients() -> None:
    """Close the clients that a test made."""
    for client in _made:
        client.close()
    _made.clear()


def streamed(client: Any, **options: Any) -> Any:
    """A stream of Chat Completions."""
    return client.chat.completions.create(model=CHAT, messages=ASKED, stream=True, **options)


def text_of(stream: Any) -> str:
    """The text of its chunks, read to the end."""
    return "".join(one.choices[0].delta.content or "" for one in stream if one.choices)


def only(store: LogStore, kind: type[Event], session_id: str | None = None) -> list[Any]:
    """The events of a kind in a session, the newest by default."""
    found = session_id or store.list_sessions(limit=1)[0].session_id
    return [event for event in payloads(store, found) if isinstance(event, kind)]


def leaving_streams(test: Any) -> Any:
    """Marks a test that drops streams: their sockets are left to the garbage collector, which
    warns of them, as with any client."""
    for what in ("ignore:unclosed:ResourceWarning", _UNRAISABLE):
        test = pytest.mark.filterwarnings(what)(test)
    return test


_UNRAISABLE = "ignore::pytest.PytestUnraisableExceptionWarning"
