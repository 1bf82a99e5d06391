"""The exit of the interpreter with a stream open: what was heard is in the log, and nothing is
printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lllm import LogStore, SQLiteBackend
from lllm.events.model import LLMFailed
from tests.lllm.instrumentation.asking import only
from tests.support.loopback import Loopback
from tests.support.loopback_streams import chunk, endless

_BEGIN = """
import asyncio, sys, threading
import openai
import lllm
from lllm import LogStore, SQLiteBackend

url, path = sys.argv[1:]
store = LogStore(SQLiteBackend(path))
asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "?"}], "stream": True}
options = {"base_url": url, "api_key": "sk-test-0123456789abcdef", "max_retries": 0}
client = lllm.capture(openai.OpenAI(**options), log_store=store)

def read(stream, pieces=6):
    for number, _ in enumerate(stream):
        if number == pieces:
            return

stream = None
"""

_WAYS = {
    "the end of the script": "stream = client.chat.completions.create(**asked); read(stream)",
    "sys.exit": "stream = client.chat.completions.create(**asked); read(stream); sys.exit(0)",
    "in a session that nobody leaves": (
        "scope = store.session('open'); scope.__enter__()\n"
        "stream = client.chat.completions.create(**asked); read(stream)"
    ),
    "a daemon thread": """
ready = threading.Event()

def work():
    for number, _ in enumerate(client.chat.completions.create(**asked)):
        if number == 6:
            ready.set()

threading.Thread(target=work, daemon=True).start()
ready.wait()
""",
    "a cancelled task": """
async def main():
    other = lllm.capture(openai.AsyncOpenAI(**options), log_store=store)
    reads = asyncio.Event()

    async def reading():
        async for _ in await other.chat.completions.create(**asked):
            reads.set()

    task = asyncio.create_task(reading())
    await reads.wait()

asyncio.run(main())
""",
}


def _run(code: str, server: Loopback, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, server.url, str(path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("way", _WAYS)
def test_an_open_stream_at_the_exit(server: Loopback, tmp_path: Path, way: str) -> None:
    """However the program ends, its text so far is in the log, and stderr is empty.

    Where the interpreter itself fails at this, as CPython 3.13.0 does with a client on httpx whose
    stream is open, it is no other than without lllm.
    """
    server.answers(endless(chunk(content="and on ")))
    path = tmp_path / "runs.db"
    ran = _run(_BEGIN + _WAYS[way], server, path)
    if ran.returncode:
        bare = (_BEGIN + _WAYS[way]).replace("lllm.capture(", "(lambda client, **_: client)(")
        assert ran.returncode == _run(bare, server, tmp_path / "bare.db").returncode
    assert ran.stderr == ""
    with LogStore(SQLiteBackend(path)) as store:
        [failed] = only(store, LLMFailed)
        assert failed.cancelled
        assert failed.partial.text.startswith("and on and on ")
        [session] = store.list_sessions()
        assert session.state == ("interrupted" if "nobody leaves" in way else "failure")


def test_an_exception_at_the_exit(server: Loopback, tmp_path: Path) -> None:
    """A program that ends with an exception prints that one, and the text is kept."""
    server.answers(endless(chunk(content="and on ")))
    path, what = tmp_path / "runs.db", _WAYS["the end of the script"] + "\nraise KeyError('mine')"
    ran = _run(_BEGIN + what, server, path)
    assert ran.stderr.splitlines()[-1] == "KeyError: 'mine'"
    assert ran.stderr.count("Traceback") == 1
    with LogStore(SQLiteBackend(path)) as store:
        assert only(store, LLMFailed)[0].partial.text.startswith("and on and on ")


def test_an_exit_with_nothing_open(tmp_path: Path) -> None:
    """With nothing open nothing is printed, where warnings are errors, too."""
    what = _BEGIN + "\nwith store.session('short'): pass\nclient.close()\n"
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", what, "http://127.0.0.1:1",
         str(tmp_path / "runs.db")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
