"""Real producers of spans send to the receiver: tokens and costs are those that capture records.

They need an environment of their own, with the versions in producers.txt. `.ci/run` makes it; the
environment variable LLLM_OTLP_PRODUCERS names its Python. Without it they are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path

import anthropic
import openai
import pytest

import lllm
from tests.lllm.importing.otlp.test_receiver import served, until
from tests.support import loopback_messages
from tests.support.loopback import JSON, Loopback, Received, Reply, completion, failure
from tests.support.loopback_streams import chat

HERE = Path(__file__).parent
ANSWER = "Berlin has 3.7 million inhabitants."
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# producer: calls, tokens in, cached, out, reasoning, sessions at the top, failures
OPENAI = (3, 400, 240, 80, 28, 1, 1)
AGENT = (2, 250, 140, 50, 18, 1, 0)
ANTHROPIC = (2, 300, 180, 60, 0, 1, 0)
EXPECTED: dict[str, tuple[int, ...]] = {
    "genai_openai": OPENAI,
    "openinference_openai": OPENAI,
    "work_with_pydantic_ai": AGENT,
    "pydantic_ai_twice": AGENT,
    "anthropic_sdk": ANTHROPIC,
    # the anthropic SDK's own spans and those of the instrumentation, of the same calls
    "openinference_anthropic": ANTHROPIC,
    "openinference_langchain": AGENT,
    # it exports no reasoning, and the making of the agent as a trace of its own
    "openllmetry_langchain": (2, 250, 140, 50, 0, 2, 0),
    # each call of the client is a trace, too; their sessions have the answers without costs
    "langchain_twice": (2, 250, 140, 50, 18, 3, 0),
    "openinference_google": (1, 150, 100, 30, 10, 1, 0),
}


def answer(received: Received) -> Reply:
    """What the model says; a tool turn has 100 in and 20 out, an answer 150 and 30."""
    body = received.body
    if "generateContent" in received.path:
        return _google()
    if received.path.endswith("/messages"):
        usage = {"input_tokens": 50, "cache_read_input_tokens": 90,
                 "cache_creation_input_tokens": 10, "output_tokens": 30,
                 "cache_creation": {"ephemeral_5m_input_tokens": 6,
                                    "ephemeral_1h_input_tokens": 4}}  # fmt: skip
        script = loopback_messages.replies(
            loopback_messages.says(ANSWER), id=f"msg_{uuid.uuid4().hex}", usage=usage,
            model="claude-haiku-4-5",
        )  # fmt: skip
        assert callable(script)
        return script(received)
    if body["messages"][-1]["content"] == "fail":
        return failure(400, "no")
    if body.get("stream"):
        return _with_id(chat(ANSWER, usage=_usage(150, 100, 30, 10)))
    if body.get("tools") and not any(one["role"] == "tool" for one in body["messages"]):
        call = {"id": "call_1", "type": "function",
                "function": {"name": "population", "arguments": '{"city":"Berlin"}'}}  # fmt: skip
        return completion(
            {"content": None, "tool_calls": [call]}, finish="tool_calls", id=_new_id(),
            usage=_usage(100, 40, 20, 8),
        )  # fmt: skip
    return completion({"content": ANSWER}, id=_new_id(), usage=_usage(150, 100, 30, 10))


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


def _with_id(reply: Reply) -> Reply:
    """Give a stream an id of its own."""
    assert reply.pieces is not None
    new = _new_id().encode()
    pieces = [
        one.replace(b'"chatcmpl-1"', b'"' + new + b'"') if isinstance(one, bytes) else one
        for one in reply.pieces
    ]
    return Reply(reply.status, reply.body, reply.headers, reply.end, pieces)


def _usage(given: int, cached: int, came_out: int, reasoning: int) -> JSON:
    return {
        "prompt_tokens": given, "completion_tokens": came_out, "total_tokens": given + came_out,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }  # fmt: skip


def _google() -> Reply:
    body = {
        "candidates": [{"content": {"role": "model", "parts": [{"text": ANSWER}]},
                        "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 150, "candidatesTokenCount": 20,
                          "thoughtsTokenCount": 10, "cachedContentTokenCount": 100,
                          "totalTokenCount": 180},
        "modelVersion": "gemini-2.5-flash", "responseId": uuid.uuid4().hex,
    }  # fmt: skip
    return Reply(body=json.dumps(body).encode())


@pytest.fixture(scope="session")
def python() -> str:
    """A Python that has the producers."""
    named = os.environ.get("LLLM_OTLP_PRODUCERS")
    if not named:
        pytest.skip("LLLM_OTLP_PRODUCERS names no Python that has the packages in producers.txt")
    return named


def recorded_by_capture(requests: list[Received], server: Loopback, path: Path) -> lllm.LogStore:
    """The same work, recorded by lllm itself: each request is made again by the same SDK."""
    store = lllm.LogStore(lllm.SQLiteBackend(path))
    url = loopback_messages.base_url(server)
    with (
        openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as chats,
        anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as messages,
    ):
        for client in (chats, messages):
            lllm.capture(client, log_store=store)
        for one in requests:
            with suppress(openai.BadRequestError):
                if one.path.endswith("/messages"):
                    made = messages.messages.create(**one.body)
                else:
                    made = chats.chat.completions.create(**one.body)
                if one.body.get("stream"):
                    list(made)
    return store


@pytest.mark.parametrize("producer", EXPECTED)
def test_a_real_producer(
    producer: str, python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLLM_PROVIDER", "anthropic" if "anthropic" in producer else "openai")
    environment = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
                   "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
                   "PATH": os.environ["PATH"], "HOME": str(tmp_path)}  # fmt: skip
    calls, given, cached, came_out, reasoning, tops, failed = EXPECTED[producer]
    with (
        Loopback() as server,
        lllm.LogStore(lllm.SQLiteBackend(tmp_path / "runs.db"), on_error="raise") as store,
        served(store, tmp_path / "spool", settle=1, idle=1) as (url, _),
    ):
        server.answers(answer)
        ran = subprocess.run(
            [python, str(HERE / "producer_program.py"), producer,
             loopback_messages.base_url(server), url],
            env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr[-3_000:]
        until(lambda: not (tmp_path / "spool").exists() or _settled(store, calls))
        requests = list(server.requests)
        costs = store.export_cost_summary()
        assert (
            costs["calls"], costs["prompt_tokens"], costs["cached_prompt_tokens"],
            costs["completion_tokens"], costs["reasoning_tokens"], costs["failed_calls"],
        ) == (calls, given, cached, came_out, reasoning, failed)  # fmt: skip
        assert costs["unpriced_calls"] == 0
        if producer != "openinference_google":
            with recorded_by_capture(requests, server, tmp_path / "captured.db") as captured:
                truth = captured.export_cost_summary()
            assert costs["total_cost_usd"] == truth["total_cost_usd"] > 0
            assert costs["cache_write_tokens"] == truth["cache_write_tokens"]
        assert len(store.list_sessions()) == tops
        texts = " ".join(str(e.data) for e in store.backend.read() if e.type == "llm.responded")
        assert producer == "anthropic_sdk" or ANSWER in texts


def _settled(store: lllm.LogStore, calls: int) -> bool:
    return store.export_cost_summary()["calls"] >= calls
