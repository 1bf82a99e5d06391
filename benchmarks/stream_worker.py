"""One streamed answer, read by an official SDK in a process of its own: what memory it took.

`python -m benchmarks.stream_worker KIND MEGABYTES PIECE captured|bare traced|resident
[sqlite|jsonl]` prints the bytes at the peak and those left afterwards, beyond what was there
before, as JSON. KIND is chat, responses or anthropic; PIECE counts bytes. What is left is what the
process still has when the garbage collector has run; the allocator is not asked to give back more.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from lllm import LocalFileBackend, LogStore, SQLiteBackend, capture


def _event(data: object, name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def _chat(pieces: int, text: str) -> Iterator[bytes]:
    def chunk(delta: object, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event({"id": "c", "object": "chat.completion.chunk", "created": 1,
                       "model": "gpt-4o-mini", "choices": [choice]})  # fmt: skip

    yield chunk({"role": "assistant", "content": ""})
    piece = chunk({"content": text})
    for _ in range(pieces):
        yield piece
    yield chunk({}, "stop")
    yield b"data: [DONE]\n\n"


def _responses(pieces: int, text: str) -> Iterator[bytes]:
    def response(status: str, output: list[object]) -> dict[str, object]:
        return {"id": "r", "object": "response", "created_at": 1, "model": "gpt-4o-mini",
                "status": status, "output": output, "parallel_tool_calls": True, "tools": [],
                "tool_choice": "auto"}  # fmt: skip

    at = {"item_id": "m", "output_index": 0, "content_index": 0}
    item = {"id": "m", "type": "message", "role": "assistant", "status": "in_progress"}
    part: dict[str, object] = {"type": "output_text", "annotations": []}
    number = 0

    def event(kind: str, **fields: object) -> bytes:
        nonlocal number
        number += 1
        return _event({"type": kind, "sequence_number": number} | fields, kind)

    yield event("response.created", response=response("in_progress", []))
    yield event("response.output_item.added", output_index=0, item=item | {"content": []})
    yield event("response.content_part.added", part=part | {"text": ""}, **at)
    for _ in range(pieces):
        yield event("response.output_text.delta", delta=text, logprobs=[], **at)
    whole = part | {"text": text * pieces}
    yield event("response.output_text.done", text=text * pieces, logprobs=[], **at)
    yield event("response.content_part.done", part=whole, **at)
    done = item | {"status": "completed", "content": [whole]}
    yield event("response.output_item.done", output_index=0, item=done)
    yield event("response.completed", response=response("completed", [done]))


def _anthropic(pieces: int, text: str) -> Iterator[bytes]:
    usage = {"input_tokens": 10, "output_tokens": 1}
    message = {
        "id": "m", "type": "message", "role": "assistant", "model": "claude-haiku-4-5",
        "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip

    def event(kind: str, **fields: object) -> bytes:
        return _event({"type": kind} | fields, kind)

    yield event("message_start", message=message)
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    piece = event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
    for _ in range(pieces):
        yield piece
    yield event("content_block_stop", index=0)
    yield event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None},
                usage={"output_tokens": 100})  # fmt: skip
    yield event("message_stop")


_STREAMS = {"chat": _chat, "responses": _responses, "anthropic": _anthropic}


def _ask(client: object, kind: str) -> None:
    said = [{"role": "user", "content": "Tell me a long story."}]
    if kind == "chat":
        stream = client.chat.completions.create(  # type: ignore[attr-defined] # an OpenAI
            model="gpt-4o-mini", messages=said, stream=True
        )
    elif kind == "responses":
        stream = client.responses.create(  # type: ignore[attr-defined] # an OpenAI
            model="gpt-4o-mini", input=said, stream=True
        )
    else:
        stream = client.messages.create(  # type: ignore[attr-defined] # an Anthropic
            model="claude-haiku-4-5", max_tokens=100, messages=said, stream=True
        )
    for _ in stream:
        pass


def _client(kind: str, stream: Iterator[bytes]) -> object:
    head = {"content-type": "text/event-stream"}
    sdk = import_module("anthropic" if kind == "anthropic" else "openai")
    library = import_module("httpx2" if hasattr(sdk._base_client, "httpx2") else "httpx")
    transport = library.MockTransport(lambda _: library.Response(200, headers=head, content=stream))
    http = library.Client(transport=transport)
    make = sdk.Anthropic if kind == "anthropic" else sdk.OpenAI
    return make(api_key="none", http_client=http, max_retries=0)


def measured(
    kind: str, size: int, piece: int, *, captured: bool, traced: bool, jsonl: bool = False
) -> dict[str, int]:
    """The bytes at the peak, and those left.

    size, piece: bytes of the answer's text, and of each of its pieces. jsonl: whether it is logged
    in JSONL files, not in SQLite.
    """
    text = ("The quick brown fox jumps over the lazy dog again. " * (piece // 51 + 1))[:piece]
    with (
        tempfile.TemporaryDirectory() as folder,
        LogStore((LocalFileBackend if jsonl else SQLiteBackend)(Path(folder, "log"))) as log,
    ):
        _run(kind, _STREAMS[kind](3, "warm"), log, captured=captured)
        gc.collect()
        before = _resident()
        if traced:
            tracemalloc.start()
        _run(kind, _STREAMS[kind](size // piece, text), log, captured=captured)
        gc.collect()
        if traced:
            left, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            return {"peak": peak, "left": left}
        peak = _peak() - before
        return {"peak": peak, "left": _resident() - before}


def _run(kind: str, stream: Iterator[bytes], log: LogStore, *, captured: bool) -> None:
    client = _client(kind, stream)
    if captured:
        with log.session("streams"):
            _ask(capture(client, log_store=log), kind)
    else:
        _ask(client, kind)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> int:
    """The most that was resident. getrusage would count what the parent had before the exec, too
    (https://man7.org/linux/man-pages/man5/proc_pid_status.5.html)."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if "VmHWM" in line)


if __name__ == "__main__":
    _, kind, megabytes, piece, how, what, *log = sys.argv
    print(json.dumps(measured(
        kind, int(float(megabytes) * 1e6), int(piece), captured=how == "captured",
        traced=what == "traced", jsonl=log == ["jsonl"],
    )))  # fmt: skip
