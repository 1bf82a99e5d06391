"""What it costs to receive OpenTelemetry's spans: until they are acknowledged, and as sessions."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Bar, Figure, Spread
from lllm import LogStore, SQLiteBackend

AREA = "otel"
_AT_ONCE = 500  # spans in one request, as exporters batch them
_START = 1_795_700_000_000_000_000
_AT_LEAST = Bar(5_000, "at least")


def figures(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """Spans for each second: acknowledged, and made into sessions."""
    folder.mkdir()
    requests = [_request(number) for number in range(20 if quick else 100)]
    yield _acknowledged(folder, requests)
    yield _imported(folder, requests, rounds=3 if quick else 9)


def _acknowledged(folder: Path, requests: list[bytes]) -> Figure:
    """The receiver runs in a process of its own; requests that it refuses are sent again."""
    command = [
        sys.executable, "-m", "lllm", "otel", "receive", "--port", "0",
        "--store", str(folder / "received.db"),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.match(r"(http://\S+) ", process.stdout.readline())
    assert found is not None
    rates = []
    try:
        for body in requests:
            began = time.perf_counter()
            while not _posted(f"{found[1]}/v1/traces", body):
                time.sleep(0.01)
            rates.append(_AT_ONCE / (time.perf_counter() - began))
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=600)
    return Figure(
        AREA, "spans received and durable, 500 in a request", Spread.of(rates), "spans/s",
        bar=_AT_LEAST,
    )  # fmt: skip


def _posted(url: str, body: bytes) -> bool:
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False


def _imported(folder: Path, requests: list[bytes], *, rounds: int) -> Figure:
    path = folder / "spans.jsonl"
    path.write_bytes(b"".join(body + b"\n" for body in requests))
    rates = []
    for number in range(rounds + 1):
        with LogStore(SQLiteBackend(folder / f"{number}.db")) as store:
            began = time.process_time()
            spans = store.import_otlp(path).spans
            rates.append(spans / (time.process_time() - began))
    return Figure(
        AREA, "spans made into sessions, 2 calls and a tool in a trace of 5",
        Spread.of(rates[1:]), "spans/CPU s",
    )  # fmt: skip


def _request(number: int) -> bytes:
    """A request with 100 traces: a root, an agent, two calls of a model, and a tool."""
    spans = [span for n in range(_AT_ONCE // 5) for span in _trace(number * 100 + n + 1)]
    resource = {"attributes": _attributes({"service.name": "desk"})}
    scope = {"scope": {"name": "bench"}, "spans": spans}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}).encode()


def _trace(number: int) -> list[dict[str, object]]:
    asked = [_says("system", "Answer."), _says("user", "How many people live there? " * 10)]
    tool = {"type": "tool_call", "id": "call_1", "name": "population", "arguments": {"city": "B"}}
    said = {"type": "tool_call_response", "id": "call_1", "response": "3.7"}
    wants, told = {"role": "assistant", "parts": [tool]}, {"role": "tool", "parts": [said]}
    answer = _says("assistant", "3.7 million people live there.")
    return [
        _span(number, 3, 2, _call(number, 1, asked, wants)),
        _span(number, 4, 2, {
            "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "population",
            "gen_ai.tool.call.id": "call_1", "gen_ai.tool.call.arguments": '{"city": "B"}',
            "gen_ai.tool.call.result": "3.7",
        }),
        _span(number, 5, 2, _call(number, 2, [*asked, wants, told], answer)),
        _span(number, 2, 1, {
            "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "asker",
        }),
        _span(number, 1, 0, {}),
    ]  # fmt: skip


def _call(number: int, place: int, sent: object, said: object) -> dict[str, object]:
    return {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini", "gen_ai.response.model": "gpt-4o-mini",
        "gen_ai.response.id": f"chatcmpl-{number:020}-{place}",
        "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20,
        "gen_ai.input.messages": json.dumps(sent), "gen_ai.output.messages": json.dumps([said]),
    }  # fmt: skip


def _says(role: str, text: str) -> dict[str, object]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _span(trace: int, number: int, parent: int, given: dict[str, object]) -> dict[str, object]:
    start = _START + number * 10**9
    return {
        "traceId": f"{trace:032x}", "spanId": f"{number:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "", "name": f"span {number}",
        "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 10**9),
        "attributes": _attributes(given),
    }  # fmt: skip


def _attributes(given: dict[str, object]) -> list[dict[str, object]]:
    return [
        {"key": key, "value": {"intValue": str(one)} if isinstance(one, int)
         else {"stringValue": one}}
        for key, one in given.items()
    ]  # fmt: skip
