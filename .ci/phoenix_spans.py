"""Sends the demo's store to Arize Phoenix, and compares what Phoenix shows with the store.

Run it with the Python of an environment that has lllm[otel] and arize-phoenix; it starts Phoenix on
a port of this machine, in a temporary folder, and ends it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from lllm import LogStore
from lllm.cli import main

PATIENCE = 120  # seconds until Phoenix answers


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def get(url: str) -> dict[str, object]:
    """What Phoenix answers."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: dict[str, object] = json.loads(answer.read())
        return found


def check(folder: Path, url: str) -> None:
    """Send a store twice, and compare."""
    store = folder / "runs.db"
    assert main(["demo", "--store", str(store)]) == 0
    send = ["otel", "send", "--store", str(store), "--endpoint", url, "--no-logs", "--messages"]
    assert main(send) == 0
    assert main([*send, "--again"]) == 0  # the same ids: Phoenix keeps each span once
    deadline = time.monotonic() + 30
    spans: list[dict[str, object]] = []
    with LogStore.open(store) as opened:
        calls = opened.list_calls(limit=None)
    while len(spans) < len(calls) and time.monotonic() < deadline:
        time.sleep(1)
        found = get(f"{url}/v1/projects/default/spans?limit=1000")["data"]
        assert isinstance(found, list)
        spans = found
    models = [span for span in spans if span["span_kind"] == "LLM"]
    attributes = [span["attributes"] for span in models]
    assert len(models) == len(calls), (len(models), len(calls))
    for ours, theirs in (
        ("prompt_tokens", "llm.token_count.prompt"),
        ("completion_tokens", "llm.token_count.completion"),
    ):
        total = sum(getattr(call, ours) or 0 for call in calls)
        shown = sum(int(one.get(theirs, 0)) for one in attributes if isinstance(one, dict))
        assert shown == total, (theirs, shown, total)
    ids = [json.dumps(span["context"], sort_keys=True) for span in spans]
    assert len(set(ids)) == len(ids)
    print(f"Phoenix shows {len(spans)} spans, {len(models)} of calls, with the store's tokens.")


def run() -> None:
    """Start Phoenix, check, and end it."""
    with tempfile.TemporaryDirectory() as name:
        port = free_port()
        environment = os.environ | {
            "PHOENIX_WORKING_DIR": name,
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(free_port()),
            "PHOENIX_TELEMETRY_ENABLED": "false",
        }
        command = [str(Path(sys.executable).with_name("phoenix")), "serve"]
        with subprocess.Popen(command, env=environment, cwd=name) as phoenix:
            try:
                deadline = time.monotonic() + PATIENCE
                while True:
                    try:
                        get(f"http://127.0.0.1:{port}/v1/projects")
                        break
                    except OSError:
                        if time.monotonic() > deadline or phoenix.poll() is not None:
                            raise
                        time.sleep(1)
                check(Path(name), f"http://127.0.0.1:{port}")
            finally:
                phoenix.terminate()


run()
