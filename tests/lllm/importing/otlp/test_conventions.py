"""Each convention, with the traps that real exports have: what is counted, and what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lllm
from tests.support.otlp import JSON, genai, inference, request, span, write

OPENAI_20 = 0.000027  # 100 in and 20 out at gpt-4o-mini's prices


def counted(store: lllm.LogStore, path: Path, *spans: JSON) -> tuple[int, int, int, int]:
    """Import spans: the calls, the unpriced ones, the tokens in and out."""
    found = store.import_otlp(write(path / "spans.jsonl", request(*spans)))
    assert found.left_out == ()
    costs = store.export_cost_summary()
    return (
        costs["calls"], costs["unpriced_calls"], costs["prompt_tokens"],
        costs["completion_tokens"],
    )  # fmt: skip


def details(store: lllm.LogStore) -> tuple[int, int, int]:
    costs = store.export_cost_summary()
    return (
        costs["cached_prompt_tokens"], costs["cache_write_tokens"], costs["reasoning_tokens"]
    )  # fmt: skip


VERCEL = {
    "ai.operationId": "ai.generateText.doGenerate", "ai.model.provider": "openai.chat",
    "ai.model.id": "gpt-4o-mini", "ai.response.id": "chatcmpl-v", "ai.response.text": "3.7",
    "ai.prompt.messages": json.dumps([{"role": "user", "content": [
        {"type": "text", "text": "How many?"}]}]),
}  # fmt: skip
ADK = {
    "gen_ai.system": "gcp.vertex.agent", "gen_ai.request.model": "gemini-2.5-flash",
    "gcp.vertex.agent.llm_request": json.dumps({"model": "gemini-2.5-flash", "config": {
        "system_instruction": "Answer."}, "contents": [
            {"role": "user", "parts": [{"text": "How many?"}]}]}),
    "gcp.vertex.agent.llm_response": json.dumps({
        "content": {"role": "model", "parts": [{"text": "3.7"}]}, "finish_reason": "STOP",
        "usage_metadata": {"prompt_token_count": 100, "candidates_token_count": 20,
                           "thoughts_token_count": 8, "cached_content_token_count": 40}}),
    "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20,
}  # fmt: skip
ONE_CALL: dict[str, tuple[JSON, tuple[int, int], tuple[int, int, int]]] = {
    "GenAI, new names": (
        genai(1, tokens={"input_tokens": 100, "output_tokens": 20,
                         "cache_read.input_tokens": 40, "cache_write.input_tokens": 10,
                         "reasoning.output_tokens": 8}),
        (100, 20), (40, 10, 8),
    ),
    "GenAI, both names of what is written to the cache": (
        genai(1, tokens={"input_tokens": 100, "output_tokens": 20,
                         "cache_creation.input_tokens": 10, "cache_write.input_tokens": 10}),
        (100, 20), (0, 10, 0),
    ),
    "OpenLLMetry, old names": (
        span(1, "openai.chat", {
            "llm.request.type": "chat", "gen_ai.system": "OpenAI",
            "gen_ai.request.model": "gpt-4o-mini", "gen_ai.response.model": "gpt-4o-mini",
            "gen_ai.usage.prompt_tokens": 100, "gen_ai.usage.completion_tokens": 20,
            "gen_ai.usage.cache_read_input_tokens": 40, "gen_ai.usage.reasoning_tokens": 8,
            "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "How many?",
            "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "3.7"}),
        (100, 20), (40, 0, 8),
    ),
    "Pydantic AI: reasoning only among the details": (
        genai(1, tokens={"input_tokens": 100, "output_tokens": 20, "cache_read.input_tokens": 40,
                         "details.reasoning_tokens": 8, "details.cache_read_tokens": 40}),
        (100, 20), (40, 0, 8),
    ),
    "OpenInference": (
        inference(1, tokens={"prompt": 100, "completion": 20, "total": 120,
                             "prompt_details.cache_read": 40, "completion_details.reasoning": 8}),
        (100, 20), (40, 0, 8),
    ),
    "OpenInference: thoughts in the total alone": (
        inference(1, tokens={"prompt": 100, "completion": 12, "total": 120,
                             "completion_details.reasoning": 8}),
        (100, 20), (0, 0, 8),
    ),
    "Vercel, version 4": (
        span(1, "ai.generateText.doGenerate", VERCEL | {
            "ai.usage.promptTokens": 100, "ai.usage.completionTokens": 20}),
        (100, 20), (0, 0, 0),
    ),
    "Vercel, version 5": (
        span(1, "ai.streamText.doStream", VERCEL | {
            "ai.operationId": "ai.streamText.doStream", "ai.usage.inputTokens": 100,
            "ai.usage.outputTokens": 20, "ai.usage.reasoningTokens": 8,
            "ai.usage.cachedInputTokens": 40, "ai.usage.totalTokens": 120}),
        (100, 20), (40, 0, 8),
    ),
    "Vercel, version 6: the names of both conventions": (
        span(1, "ai.generateText.doGenerate", VERCEL | {
            "gen_ai.operation.name": "chat", "gen_ai.response.id": "chatcmpl-v",
            "ai.usage.inputTokens": 100, "ai.usage.outputTokens": 20,
            "ai.usage.inputTokenDetails.cacheReadTokens": 40,
            "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20}),
        (100, 20), (40, 0, 0),
    ),
    "Google ADK: thoughts beside the answer": (
        span(1, "call_llm", ADK), (100, 28), (40, 0, 8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_CALL)
@pytest.mark.money
def test_the_tokens_of_one_call(name: str, store: lllm.LogStore, tmp_path: Path) -> None:
    made, tokens, more = ONE_CALL[name]
    assert counted(store, tmp_path, made) == (1, 0, *tokens)
    assert details(store) == more


UNKNOWN: dict[str, JSON] = {
    "no attribute": genai(1, tokens={}),
    "0 and 0": genai(1, tokens={"input_tokens": 0, "output_tokens": 0}),
    "no output": genai(1, tokens={"input_tokens": 100}),
    "OpenInference": inference(1, tokens={}),
    "Vercel": span(1, "ai.generateText.doGenerate", VERCEL),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_usage_that_was_not_exported_is_unknown(
    name: str, store: lllm.LogStore, tmp_path: Path
) -> None:
    assert counted(store, tmp_path, UNKNOWN[name])[:2] == (1, 1)


@pytest.mark.money
def test_the_hour_of_the_anthropic_sdk(store: lllm.LogStore, tmp_path: Path) -> None:
    """Of 10 tokens that are written to the cache, 4 are kept for an hour, at twice the price."""
    made = genai(
        1,
        tokens={"input_tokens": 100, "output_tokens": 20, "cache_read.input_tokens": 40,
                "cache_write.input_tokens": 10},
        given={
            "gen_ai.provider.name": "anthropic", "gen_ai.request.model": "claude-haiku-4-5",
            "gen_ai.response.model": "claude-haiku-4-5",
            "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 6,
            "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 4,
        },
    )  # fmt: skip
    assert counted(store, tmp_path, made) == (1, 0, 100, 20)
    assert details(store) == (40, 10, 0)
    # 50 in, 40 from the cache, 6 to it for 5 minutes and 4 for an hour, 20 out
    nanos = 50 * 1_000 + 40 * 100 + 6 * 1_250 + 4 * 2_000 + 20 * 5_000
    assert store.export_cost_summary()["total_cost_usd"] == nanos / 10**9


def agent(number: int, name: str, given: JSON | None = None, *, parent: int = 0) -> JSON:
    return span(
        number, f"invoke_agent {name}",
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name} | (given or {}),
        parent=parent, took=9,
    )  # fmt: skip


DOUBLED: dict[str, tuple[list[JSON], int]] = {
    "aggregated usage of an agent": (
        [agent(1, "asker", {"gen_ai.aggregated_usage.input_tokens": 200,
                            "gen_ai.usage.input_tokens": 200, "gen_ai.usage.output_tokens": 40}),
         genai(2, parent=1), genai(3, parent=1)], 2,
    ),
    "turn, task and workflow": (
        [span(1, "Agent workflow", {"openinference.span.kind": "AGENT",
                                    "llm.token_count.prompt": 100}),
         span(2, "turn", {"openinference.span.kind": "CHAIN", "llm.token_count.prompt": 100,
                          "llm.token_count.completion": 20}, parent=1),
         inference(3, parent=2)], 1,
    ),
    "outer and inner spans of Vercel": (
        [span(1, "ai.generateText", {"ai.operationId": "ai.generateText",
                                     "ai.usage.inputTokens": 200, "ai.usage.outputTokens": 40,
                                     "gen_ai.usage.input_tokens": 200}),
         *[span(n, "ai.generateText.doGenerate", VERCEL | {
             "ai.usage.inputTokens": 100, "ai.usage.outputTokens": 20,
             "ai.response.id": f"chatcmpl-{n:020}"}, parent=1) for n in (2, 3)]], 2,
    ),
    "workflow and task of OpenLLMetry": (
        [span(1, "asker.workflow", {"traceloop.span.kind": "workflow",
                                    "gen_ai.usage.input_tokens": 200,
                                    "gen_ai.usage.output_tokens": 40}, took=9),
         span(2, "execute_task", {"traceloop.span.kind": "task",
                                  "gen_ai.usage.input_tokens": 200}, parent=1, took=8),
         genai(3, parent=2), genai(4, parent=2)], 2,
    ),
    "the SDK of MCP between an agent and a call": (
        [agent(1, "asker"),
         span(2, "MCP send tools/call t", {"mcp.method.name": "tools/call"}, parent=1, took=8),
         genai(3, parent=2)], 1,
    ),
    "two libraries, one span below the other": (
        [agent(1, "asker"), genai(2, parent=1, id_="chatcmpl-x"),
         genai(3, parent=2, id_="chatcmpl-x", at=0.1, took=0.5)], 1,
    ),
    "two libraries, without ids": (
        [inference(2, given={"output.value": "3.7 million."}),
         inference(3, parent=2, given={"output.value": "3.7 million."})], 1,
    ),
    "two libraries, side by side": (
        [agent(1, "asker"), genai(2, parent=1, id_="chatcmpl-x"),
         inference(3, parent=1, id_="chatcmpl-x", at=0.1)], 1,
    ),
    "a short id that a local server gives again later": (
        [agent(1, "asker"), genai(2, parent=1, id_="chatcmpl-7"),
         genai(3, parent=1, id_="chatcmpl-7", at=5)], 2,
    ),
    "an agent of Google's kit, whose call has a span of its own inside": (
        [span(2, "call_llm", ADK),
         genai(3, parent=2, given={"gen_ai.operation.name": "generate_content"})], 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DOUBLED)
def test_each_call_is_counted_once(name: str, store: lllm.LogStore, tmp_path: Path) -> None:
    spans, calls = DOUBLED[name]
    assert counted(store, tmp_path, *spans) == (calls, 0, calls * 100, calls * 20)


@pytest.mark.money
def test_costs_that_were_not_billed_are_not_taken(store: lllm.LogStore, tmp_path: Path) -> None:
    """Libraries compute them, and one wrote numbers of tokens in their place."""
    one = genai(1, given={"operation.cost": 7.0, "gen_ai.usage.cost": 7.0})
    other = inference(2, trace="f" * 32, given={"llm.cost.total": 120, "llm.cost.prompt": 100})
    assert counted(store, tmp_path, one, other) == (2, 0, 200, 40)
    assert store.export_cost_summary()["total_cost_usd"] == 2 * OPENAI_20


def test_a_call_is_counted_once_across_traces(store: lllm.LogStore, tmp_path: Path) -> None:
    """A library that does not set the current context leaves the other's spans in other traces."""
    one = inference(2, parent=1, id_="chatcmpl-1")
    other = genai(3, id_="chatcmpl-1", trace="f" * 32, at=0.1, took=0.8)
    assert counted(store, tmp_path, agent(1, "asker"), one, other)[0] == 1
    again = store.import_otlp(tmp_path / "spans.jsonl")
    assert (again.events, again.known) == (0, 3)


@pytest.mark.money
def test_the_address_decides_who_bills(
    store: lllm.LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the SDK says nothing where a gateway or a local server was called."""
    made = genai(1, given={"server.address": "llm.example.org"})
    assert counted(store, tmp_path, made)[1] == 1
    monkeypatch.setenv("LLLM_PROVIDER", "openai")
    made = genai(2, trace="b" * 32, given={"server.address": "llm.example.org"})
    assert counted(store, tmp_path, made)[:2] == (2, 1)
    assert store.export_cost_summary()["total_cost_usd"] == OPENAI_20
