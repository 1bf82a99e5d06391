"""What it costs to import the transcripts of coding agents: bytes for each second, and memory."""

from __future__ import annotations

import datetime as dt
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.generated_texts import text_of
from benchmarks.measure import Bar, Figure, Spread
from lllm import LogStore, SQLiteBackend

AREA = "transcripts"
_START = dt.datetime(2026, 10, 5, 8, 0, tzinfo=dt.UTC)
_FAST = Bar(40, "at least")
_SMALL = Bar(200, "at most")
_MB = 10**6
_OUTPUT = 4_000  # bytes in the middle of what a tool gives back: parts of files, logs of tests

_IMPORT = """
import resource, sys
from lllm import LogStore, SQLiteBackend
with LogStore(SQLiteBackend(sys.argv[1])) as store:
    store.import_transcripts(sys.argv[2], sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def figures(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """Bytes of transcripts for each second of one core, and the memory of an import."""
    folder.mkdir()
    files = 6 if quick else 20
    for program, written in (("claude-code", _claude_code), ("codex", _codex)):
        transcripts = folder / program
        transcripts.mkdir()
        chance = random.Random(1)
        for number in range(files):
            name = f"rollout-{number:04}" if program == "codex" else f"session-{number:04}"
            (transcripts / f"{name}.jsonl").write_bytes(written(chance, number))
        yield _speed(folder, program, transcripts, rounds=3 if quick else 9)
    size = 60 if quick else 1_000
    yield _memory(folder, size)


def _speed(folder: Path, program: str, transcripts: Path, *, rounds: int) -> Figure:
    size = sum(one.stat().st_size for one in transcripts.iterdir())
    rates = []
    for number in range(rounds + 1):
        stored = folder / f"{program}-{number}"
        stored.mkdir()
        with LogStore(SQLiteBackend(stored / "runs.db")) as store:
            began = time.process_time()
            store.import_transcripts(program, transcripts)
            rates.append(size / _MB / (time.process_time() - began))
        shutil.rmtree(stored)
    return Figure(
        AREA, f"transcripts of {program} imported, {_OUTPUT:,} bytes from a tool",
        Spread.of(rates[1:]), "MB/CPU s", bar=_FAST,
    )  # fmt: skip


def _memory(folder: Path, size: int) -> Figure:
    """The memory of a program that imports one large file."""
    transcripts = folder / "large"
    transcripts.mkdir()
    chance = random.Random(2)
    written = 0
    for number in range(1_000_000):
        body = _claude_code(chance, number)
        (transcripts / f"large-{number}.jsonl").write_bytes(body)
        written += len(body)
        if written >= size * _MB:
            break
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT, str(folder / "large.db"), "claude-code", str(transcripts)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return Figure(
        AREA, f"memory while {size:,} MB are imported", Spread.of([float(done.stdout)]), "MB",
        bar=_SMALL,
    )  # fmt: skip


def _claude_code(chance: random.Random, number: int) -> bytes:
    """A session of 100 turns: three lines of an answer, and what a tool gave back, twice."""
    lines: list[bytes] = []
    session = f"{number:08x}-0000-4000-8000-000000000000"
    parent: str | None = None

    def line(kind: str, message: Mapping[str, object], **more: object) -> None:
        nonlocal parent
        uuid = f"{number:08x}-0000-4000-8000-{len(lines) + 1:012x}"
        when = _START + dt.timedelta(minutes=number, seconds=len(lines))
        value = {
            "parentUuid": parent, "isSidechain": False, "userType": "external",
            "cwd": "/home/ann/desk", "sessionId": session, "version": "2.1.0", "gitBranch": "main",
            "type": kind, "message": message, **more, "uuid": uuid,
            "timestamp": when.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        }  # fmt: skip
        lines.append(json.dumps(value).encode())
        parent = uuid

    line("user", {"role": "user", "content": text_of(chance, 400)})
    for turn in range(100):
        usage = {
            "input_tokens": 4, "cache_read_input_tokens": 20_000 + 900 * turn,
            "cache_creation_input_tokens": 900, "output_tokens": 1, "service_tier": "standard",
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 900},
        }  # fmt: skip
        call = f"toolu_{number:08}{turn:016}"
        said = {"type": "text", "text": text_of(chance, 300)}
        thought = {
            "type": "thinking", "thinking": text_of(chance, 600),
            "signature": chance.randbytes(300).hex(),
        }  # fmt: skip
        used: dict[str, object] = {
            "type": "tool_use", "id": call, "name": "Bash",
            "input": {"command": text_of(chance, 80), "description": text_of(chance, 40)},
        }  # fmt: skip
        blocks: list[dict[str, object]] = [dict(thought), dict(said), used]
        for block in blocks:
            last = block is blocks[-1]
            line("assistant", {
                "model": "claude-sonnet-4-5-20250929", "id": f"msg_{number:08}{turn:016}",
                "type": "message", "role": "assistant", "content": [block],
                "stop_reason": "tool_use" if last else None, "stop_sequence": None,
                "usage": usage | ({"output_tokens": 300} if last else {}),
            }, requestId=f"req_{number:08}{turn:016}")  # fmt: skip
        output = _output(chance)
        result = {"tool_use_id": call, "type": "tool_result", "content": output, "is_error": False}
        line("user", {"role": "user", "content": [result]}, toolUseResult={
            "stdout": output, "stderr": "", "interrupted": False, "isImage": False,
        })  # fmt: skip
    return b"\n".join(lines) + b"\n"


def _codex(chance: random.Random, number: int) -> bytes:
    """A thread of 100 turns: what the model thought, a call of a tool, its output, and tokens."""
    lines: list[bytes] = []
    total = dict.fromkeys(
        ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens"), 0
    )

    def line(kind: str, **payload: object) -> None:
        when = _START + dt.timedelta(minutes=number, seconds=len(lines))
        stamp = when.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        lines.append(json.dumps({"timestamp": stamp, "type": kind, "payload": payload}).encode())

    line(
        "session_meta", id=f"{number:08x}-0000-7000-8000-000000000000", cwd="/home/ann/desk",
        timestamp=_START.isoformat(), cli_version="0.150.0", originator="codex_cli",
        model_provider="openai", git={"branch": "main"}, instructions=text_of(chance, 20_000),
    )  # fmt: skip
    line("turn_context", cwd="/home/ann/desk", model="gpt-5", turn_id=f"turn-{number}")
    asked = text_of(chance, 400)
    part = {"type": "input_text", "text": asked}
    line("response_item", type="message", role="user", content=[part])
    line("event_msg", type="user_message", message=asked)
    for turn in range(100):
        call = f"call_{number:08}{turn:016}"
        line(
            "response_item", type="reasoning", encrypted_content=chance.randbytes(700).hex(),
            summary=[{"type": "summary_text", "text": text_of(chance, 200)}],
        )  # fmt: skip
        arguments = json.dumps({"command": ["bash", "-lc", text_of(chance, 80)]})
        line("response_item", type="function_call", name="shell", arguments=arguments, call_id=call)
        line("response_item", type="function_call_output", call_id=call, output=_output(chance))
        last = {
            "input_tokens": 20_000 + 900 * turn, "cached_input_tokens": 19_000 + 900 * turn,
            "output_tokens": 300, "reasoning_output_tokens": 100,
        }  # fmt: skip
        for name, value in last.items():
            total[name] += value
        info = {"total_token_usage": dict(total), "last_token_usage": last}
        line("event_msg", type="token_count", info=info, rate_limits={})
    return b"\n".join(lines) + b"\n"


def _output(chance: random.Random) -> str:
    """What a tool gives back: lines of a file with their numbers."""
    length = round(chance.lognormvariate(0, 0.6) * _OUTPUT)
    words = text_of(chance, max(length, 80))
    return "\n".join(f"{at // 72 + 1:>6}\t{words[at : at + 72]}" for at in range(0, len(words), 72))
