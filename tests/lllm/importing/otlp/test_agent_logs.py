"""Log records of coding agents, of our own making: sessions, tokens, calls that are elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import lllm
from tests.support.otlp import JSON, logs, record, write

CLAUDE = "com.anthropic.claude_code.events"


def claude(name: str, at: float, **given: object) -> JSON:
    about = {"event.name": name, "session.id": "s-1", "event.sequence": int(at * 10)}
    made = record("", about | given, at=at)
    return made | {"body": {"stringValue": f"claude_code.{name}"}}


def request_of(at: float, number: int = 1, **given: object) -> JSON:
    return claude(
        "api_request", at, model="claude-haiku-4-5", request_id=f"req_{number:024}",
        **{"input_tokens": "50", "output_tokens": "20", "cache_read_tokens": "40",
           "cache_creation_tokens": "0", "cost_usd": "0.9", "duration_ms": "900"} | given,
    )  # fmt: skip


@pytest.mark.money
def test_a_session_of_claude_code(store: lllm.LogStore, tmp_path: Path) -> None:
    path = write(
        tmp_path / "logs.jsonl",
        logs(
            claude("user_prompt", 1, prompt="Which files are here?"),
            request_of(2),
            claude("tool_result", 3, tool_name="Bash", success="true", duration_ms="500",
                   tool_parameters='{"bash_command": "ls"}'),
            request_of(4, 2),
            claude("api_error", 5, model="claude-haiku-4-5", error="Overloaded",
                   status_code="529", duration_ms="100"),
            scope=CLAUDE,
        ),
    )  # fmt: skip
    found = store.import_otlp(path)
    assert (found.sessions, found.logs, found.left_out) == (1, 5, ())
    [listed] = store.list_sessions()
    assert (listed.tactic_path, listed.task) == ("claude-code::session", "Which files are here?")
    costs = store.export_cost_summary()
    assert (costs["calls"], costs["failed_calls"], costs["unpriced_calls"]) == (2, 1, 0)
    # the input stands beside the cache; nothing was written to it, so lllm knows the price
    nanos = 2 * (50 * 1_000 + 40 * 100 + 20 * 5_000)
    assert (costs["prompt_tokens"], costs["total_cost_usd"]) == (180, nanos / 10**9)
    types = [event.type for event in store.events(listed.session_id)]
    assert types.count("tool.returned") == 1
    again = store.import_otlp(path)
    assert (again.events, again.known) == (0, 5)


def test_writes_to_the_cache_cost_what_the_program_says(
    store: lllm.LogStore, tmp_path: Path
) -> None:
    """How long they are kept is not exported, and an hour costs twice the price."""
    store.import_otlp(
        write(
            tmp_path / "logs.jsonl",
            logs(request_of(1, cache_creation_tokens="10", cost_usd=0.0123), scope=CLAUDE),
        )
    )
    assert store.export_cost_summary()["total_cost_usd"] == 0.0123


def test_a_call_that_the_transcript_has_is_not_counted_again(
    store: lllm.LogStore, tmp_path: Path
) -> None:
    """In either order: the records name the request, and so does the transcript."""
    lines = [
        {"type": "user", "uuid": "u0", "message": {"role": "user", "content": "Hello?"}},
        {
            "type": "assistant", "uuid": "u1", "requestId": f"req_{1:024}",
            "message": {
                "id": "msg_1", "role": "assistant", "model": "claude-haiku-4-5",
                "stop_reason": "end_turn", "content": [{"type": "text", "text": "Hello."}],
                "usage": {"input_tokens": 50, "cache_read_input_tokens": 40, "output_tokens": 20},
            },
        },
    ]  # fmt: skip
    folder = tmp_path / "projects" / "-home-ann"
    folder.mkdir(parents=True)
    stamped = [one | {"timestamp": "2026-11-02T08:00:00Z", "cwd": "/home/ann"} for one in lines]
    (folder / "s-1.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in stamped))
    os.utime(folder / "s-1.jsonl", (1_793_000_000, 1_793_000_000))  # its last call is whole
    path = write(tmp_path / "logs.jsonl", logs(request_of(2), scope=CLAUDE))
    store.import_transcripts("claude-code", tmp_path / "projects")
    assert store.import_otlp(path).repeated_calls == 1
    assert store.export_cost_summary()["calls"] == 1
    with lllm.LogStore(lllm.SQLiteBackend(tmp_path / "other.db")) as other:
        other.import_otlp(path)
        other.import_transcripts("claude-code", tmp_path / "projects")
        assert other.export_cost_summary()["calls"] == 1


def test_what_comes_later_is_another_session(store: lllm.LogStore, tmp_path: Path) -> None:
    both = [request_of(1), request_of(500, 2)]
    store.import_otlp(write(tmp_path / "logs.jsonl", logs(both[0], scope=CLAUDE)))
    found = store.import_otlp(write(tmp_path / "logs.jsonl", logs(*both, scope=CLAUDE)))
    assert (found.sessions, found.logs, found.known) == (1, 1, 1)
    assert {one.tags["conversation"] for one in store.list_sessions()} == {"s-1"}


def codex(name: str, at: float, **given: object) -> JSON:
    about = {"event.name": f"codex.{name}", "conversation.id": "c-1", "model": "gpt-5"}
    return record("", about | given, at=at)


def test_a_session_of_codex(store: lllm.LogStore, tmp_path: Path) -> None:
    """Only the end of a stream has tokens; cached ones and reasoning are inside."""
    used = {"event.kind": "response.completed", "input_token_count": 100,
            "cached_token_count": 40, "output_token_count": 20,
            "reasoning_token_count": 8}  # fmt: skip
    path = write(
        tmp_path / "logs.jsonl",
        logs(
            codex("conversation_starts", 0, provider_name="OpenAI"),
            codex("user_prompt", 1, prompt="Which files?", prompt_length="12"),
            codex("api_request", 2, attempt=0, **{"http.response.status_code": 429}),
            codex("api_request", 3, attempt=1, **{"http.response.status_code": 200}),
            codex("sse_event", 4, **{"event.kind": "response.output_item.done"}),
            codex("sse_event", 5, **used),
            codex("tool_result", 6, tool_name="shell", call_id="call_1", success="true",
                  arguments='{"command": ["ls"]}', output="a.py", duration_ms=200),
            codex("sse_event", 7, **used),
        ),
    )  # fmt: skip
    store.import_otlp(path)
    costs = store.export_cost_summary()
    assert (costs["calls"], costs["failed_calls"], costs["unpriced_calls"]) == (2, 1, 0)
    assert (costs["prompt_tokens"], costs["cached_prompt_tokens"]) == (200, 80)
    assert costs["reasoning_tokens"] == 16
    [listed] = store.list_sessions(tactic_path="codex::session")
    returned = [e for e in store.events(listed.session_id) if e.type == "tool.returned"]
    assert len(returned) == 1


def test_thoughts_of_gemini_stand_beside_the_output(store: lllm.LogStore, tmp_path: Path) -> None:
    given = {"session.id": "g-1", "model": "gemini-2.5-flash", "input_token_count": 100,
             "output_token_count": 20, "thoughts_token_count": 8,
             "cached_content_token_count": 40}  # fmt: skip
    store.import_otlp(
        write(tmp_path / "logs.jsonl", logs(record("gemini_cli.api_response", given, at=1)))
    )
    costs = store.export_cost_summary()
    assert (costs["completion_tokens"], costs["reasoning_tokens"]) == (28, 8)


def test_other_records_say_nothing_about_sessions(store: lllm.LogStore, tmp_path: Path) -> None:
    found = store.import_otlp(write(tmp_path / "logs.jsonl", logs(record("http", {"a": 1}))))
    assert (found.sessions, found.other_logs) == (0, 1)
