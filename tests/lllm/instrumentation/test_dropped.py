"""A captured client and a store for each request, dropped without close."""

from __future__ import annotations

import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from lllm import LocalFileBackend, LogStore, SQLiteBackend, capture
from lllm.events.concurrency import finalizer_work
from lllm.events.model import LLMFailed
from tests.lllm.instrumentation.asking import ASKED, CHAT, KEY, leaving_streams, only, streamed
from tests.support.loopback import Loopback
from tests.support.loopback_streams import chunk, endless

REQUESTS = 40


def descriptors() -> int:
    """How many are open, once everything that was dropped is closed."""
    for _ in range(3):
        gc.collect()
        finalizer_work.settle()
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@pytest.mark.slow
@pytest.mark.parametrize("backend", [SQLiteBackend, LocalFileBackend])
def test_a_capture_for_each_request(
    server: Loopback, tmp_path: Path, backend: type[SQLiteBackend] | type[LocalFileBackend]
) -> None:
    """A client that is captured into a store of its own for each request, in several threads,
    neither hangs nor leaks, and every call is in the log."""

    def request(_: int) -> None:
        store = LogStore(backend(tmp_path / "log"))
        with openai.OpenAI(base_url=server.url, api_key=KEY) as made:
            capture(made, log_store=store).chat.completions.create(model=CHAT, messages=ASKED)

    request(0)
    before, threads = descriptors(), threading.active_count()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(request, range(REQUESTS)))
    # The server may be closing the last connections still.
    assert descriptors() <= before + 8
    assert threading.active_count() <= threads + 8
    with LogStore(backend(tmp_path / "log")) as store:
        sessions = store.list_sessions()
        assert [session.state for session in sessions] == ["success"] * (REQUESTS + 1)


@pytest.mark.slow
@leaving_streams
@pytest.mark.parametrize("backend", [SQLiteBackend, LocalFileBackend])
def test_a_stream_that_is_dropped_with_its_store(
    server: Loopback, tmp_path: Path, backend: type[SQLiteBackend] | type[LocalFileBackend]
) -> None:
    """Where the collector comes upon a stream together with its store, what had come is written
    before the store is closed."""
    server.answers(endless(chunk(content="and on ")))

    class Knot:
        """Something that only the collector ends."""

    for _ in range(5):
        made = openai.OpenAI(base_url=server.url, api_key=KEY)
        knot = Knot()
        knot.store = LogStore(backend(tmp_path / "log"))  # type: ignore[attr-defined]
        knot.client = capture(made, log_store=knot.store)  # type: ignore[attr-defined]
        knot.stream = streamed(knot.client)  # type: ignore[attr-defined]
        next(knot.stream)  # type: ignore[attr-defined]
        knot.knot = knot  # type: ignore[attr-defined]
        del made, knot
        gc.collect()
    descriptors()
    with LogStore(backend(tmp_path / "log")) as store:
        assert [one.state for one in store.list_sessions()] == ["failure"] * 5
        assert all("and on" in failed.partial.text for failed in only(store, LLMFailed))
