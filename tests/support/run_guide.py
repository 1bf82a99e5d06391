"""Runs the Python of a guide as one program, where its framework is installed, against a provider
on this machine, and says what was recorded:

    python -m tests.support.run_guide docs/frameworks/langchain.md

It fails where the program does, or where a session shows no calls. The frameworks are too large for
the tests to install them; each guide says which versions it was run with.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from lllm import LogStore, SQLiteBackend
from lllm.store.summaries import SessionSummary
from tests.support import ROOT, loopback_messages, loopback_responses
from tests.support.loopback import JSON, Loopback, Received, Reply, text, tool_calls
from tests.support.loopback_streams import chunk, sse, usage_chunk

KEY = "sk-test-0123456789abcdef"
SAID = "Berlin has 3.7 million people, and the sun shines."
CITY = '{"name": "Berlin", "people": 3700000, "city": "Berlin", "answer": "3.7 million"}'
ENDS = ("final_answer",)  # tools that a framework offers for the last word


def program_of(guide: Path) -> str:
    """The Python of a guide, all its snippets."""
    found = re.findall(r"^```python\n(.*?)^```$", guide.read_text(), re.MULTILINE | re.DOTALL)
    return "\n".join(found)


def answer(received: Received) -> Reply:
    """What a model says, in the dialect and the way that it is asked: a call of the first tool that
    it is offered, and a sentence once a tool was called."""
    body = received.body
    if received.path.endswith("/responses"):
        whole = loopback_responses.response(loopback_responses.says(SAID))
        sent = loopback_responses.streamed if body.get("stream") else loopback_responses.sent
        return sent(whole)
    if received.path.endswith("/messages"):
        said = loopback_messages.replies(loopback_messages.says(SAID))
        return said(received) if callable(said) else said
    name = _tool(body)
    if body.get("stream"):
        asked = (body.get("stream_options") or {}).get("include_usage")
        return sse(
            chunk(content=SAID), chunk("stop"), *([usage_chunk()] if asked else []), "[DONE]"
        )
    if name is not None:
        return tool_calls((name, json.dumps({"answer": SAID}) if name in ENDS else CITY))
    return text(f"[[ ## answer ## ]]\n{SAID}\n\n[[ ## completed ## ]]" if _marks(body) else SAID)


def _tool(body: JSON) -> str | None:
    names = [one["function"]["name"] for one in body.get("tools") or []]
    called = any(one.get("role") == "tool" for one in body["messages"])
    return names[0] if names and not called else None


def _marks(body: JSON) -> bool:
    """Whether the answer is to stand between marks, as DSPy asks for it."""
    return "[[ ## answer ## ]]" in json.dumps(body["messages"])


def run(guide: Path, folder: Path) -> tuple[str, list[SessionSummary]]:
    """What a guide's program prints, and the sessions that it leaves.

    Args:
        guide: The Markdown file.
        folder: Where it runs; its store is `runs.db` there.

    Raises:
        CalledProcessError: The program failed.
    """
    script = folder / "guide.py"
    script.write_text(program_of(guide))
    with Loopback() as server:
        server.answers(answer)
        base = loopback_messages.base_url(server)
        told = {
            "OPENAI_BASE_URL": server.url, "OPENAI_API_BASE": server.url, "OPENAI_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": base, "ANTHROPIC_API_KEY": KEY, "LLLM_PROVIDER": "openai",
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, str(script)], cwd=folder, env=os.environ | told,
            stdout=subprocess.PIPE, text=True, timeout=300, check=True,
        )  # fmt: skip
    with LogStore(SQLiteBackend(folder / "runs.db")) as store:
        return done.stdout, store.list_sessions(limit=100)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        printed, sessions = run(Path(sys.argv[1]).resolve(), Path(made))
    print(printed)
    for one in sessions:
        print(one.tactic_path, one.state, f"{one.calls} calls, {one.unpriced_calls} unpriced")
    sys.exit(not all(one.calls and one.state == "success" for one in sessions))
