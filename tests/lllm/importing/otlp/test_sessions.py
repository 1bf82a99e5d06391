"""Traces as sessions: the tree, messages, tools, errors, and what comes late or again."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

import lllm
from lllm.importing.otlp import shared_append
from lllm.importing.otlp.decode_json import decode, signals_of
from lllm.importing.otlp.importer import OtlpImporter
from tests.support.otlp import (
    JSON,
    TRACE,
    asks_tool,
    genai,
    logs,
    record,
    request,
    says,
    span,
    tool_said,
    write,
)

ASK = [says("Answer.", "system"), says("How many?")]
ANSWER = says("3.7 million.", "assistant")


def asker() -> list[JSON]:
    """An agent that asks, runs a tool, and asks again; children come before their parents."""
    tool: JSON = {
        "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "population",
        "gen_ai.tool.call.id": "call_1", "gen_ai.tool.call.arguments": '{"city": "Berlin"}',
        "gen_ai.tool.call.result": "3.7",
    }  # fmt: skip
    agent = {
        "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "asker",
        "gen_ai.conversation.id": "c-1", "x.unknown": ["kept"],
    }  # fmt: skip
    return [
        genai(3, parent=2, sent=ASK, said=[asks_tool()], at=1),
        span(4, "execute_tool population", tool, parent=2, at=2.5, took=0.5),
        genai(
            5, parent=2, sent=[*ASK, asks_tool(), tool_said("3.7")], said=[ANSWER], at=4,
            given={"gen_ai.conversation.id": "c-1"},
        ),
        span(2, "invoke_agent asker", agent, parent=1, took=6),
        span(1, "run", took=7),
    ]  # fmt: skip


def importer(store: lllm.LogStore) -> OtlpImporter:
    return OtlpImporter(store, settle=1e9, idle=1e9)


def test_a_trace_is_a_session_and_its_agent_one_below(store: lllm.LogStore, tmp_path: Path) -> None:
    found = store.import_otlp(write(tmp_path / "spans.jsonl", request(*asker())))
    assert (found.sessions, found.spans, found.left_out) == (2, 5, ())
    [listed] = store.list_sessions()
    assert (listed.tactic_path, listed.state) == ("shop::run", "success")
    assert listed.tags["service"] == "shop"
    [child] = store.list_sessions(tactic_path="shop::asker")
    assert child.tags["conversation"] == "c-1"
    assert store.load_session(child.session_id).delivery == "3.7 million."
    types = [event.type for event in store.events(child.session_id)]
    assert types == [
        "session.started", "dialog.opened", "message.added", "message.added", "llm.requested",
        "llm.responded", "tool.called", "tool.returned", "llm.requested", "llm.responded",
        "session.succeeded",
    ]  # fmt: skip


def test_attributes_that_nobody_knows_are_kept(store: lllm.LogStore, tmp_path: Path) -> None:
    store.import_otlp(write(tmp_path / "spans.jsonl", request(*asker())))
    [hit] = store.list_sessions(tactic_path="shop::asker")
    metadata = store.load_session(hit.session_id).metadata
    agent = metadata["otel"]["spans"]["0000000000000002"]
    assert agent["attributes"]["x.unknown"] == ["kept"]
    assert agent["scope"] == "test.scope 1.0"
    call = metadata["otel"]["spans"]["0000000000000003"]["attributes"]
    assert "gen_ai.input.messages" not in call  # they are messages
    assert call["gen_ai.usage.input_tokens"] == 100


def test_importing_again_adds_nothing(store: lllm.LogStore, tmp_path: Path) -> None:
    path = write(tmp_path / "spans.jsonl", request(*asker()), request(*asker()[:2]))
    assert store.import_otlp(path).known == 2
    head = store.backend.head()
    again = store.import_otlp(path)
    assert (again.sessions, again.events, again.spans, again.known) == (0, 0, 0, 7)
    assert store.backend.head() == head


def test_any_order_gives_the_same(tmp_path: Path) -> None:
    ids = []
    for number, spans in enumerate((asker(), asker()[::-1])):
        with lllm.LogStore(lllm.SQLiteBackend(tmp_path / f"{number}.db")) as store:
            store.import_otlp(write(tmp_path / "spans.jsonl", *map(request, spans)))
            ids.append([(one.session_id, one.total_cost) for one in store.list_sessions()])
    assert ids[0] == ids[1]


def test_late_spans_become_a_session_below(store: lllm.LogStore) -> None:
    """Their cost is part of the trace's."""
    spans, one = asker(), importer(store)
    for part in (spans[1:], spans[:1]):
        one.add(signals_of(request(*part)))
        one.write_ready(everything=True)
    assert one.result().sessions == 3
    [listed] = store.list_sessions()
    assert listed.total_cost == 2 * 0.000027
    [asked] = store.list_sessions(tactic_path="shop::chat gpt-4o-mini")
    assert store.load_session(asked.session_id).metadata["otel"]["late"] is True
    head = store.backend.head()
    again = importer(store)
    again.add(signals_of(request(*spans)))
    again.write_ready(everything=True)
    assert (store.backend.head(), again.result().known) == (head, 5)


def test_an_import_that_was_killed_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each append, in a store of its own."""
    monkeypatch.setattr(shared_append, "_MOST", 2)
    path = write(tmp_path / "spans.jsonl", request(*asker()))

    class Killed(BaseException):
        pass

    with lllm.LogStore(lllm.SQLiteBackend(tmp_path / "whole.db")) as store:
        store.import_otlp(path)
        whole = sorted((one.stream, one.type) for one in store.backend.read())
    for appends in range(1, 9):
        left = appends
        with lllm.LogStore(lllm.SQLiteBackend(tmp_path / f"{appends}.db")) as store:
            append = store.log.append

            def killed(events: object, append: object = append) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed
                return append(events)  # type: ignore[operator]

            with monkeypatch.context() as patched:
                patched.setattr(store.log, "append", killed)
                with suppress(Killed):
                    store.import_otlp(path)
            store.import_otlp(path)
            store.import_otlp(path)
            found = sorted((one.stream, one.type) for one in store.backend.read())
            assert found == whole, appends


def test_a_failed_call_and_a_failed_session(store: lllm.LogStore, tmp_path: Path) -> None:
    failed = genai(2, parent=1, tokens={}, error="Error code: 400",
                   given={"error.type": "openai.BadRequestError",
                          "http.response.status_code": 400})  # fmt: skip
    store.import_otlp(
        write(tmp_path / "spans.jsonl", request(failed, span(1, "run", error="No answer.")))
    )
    costs = store.export_cost_summary()
    assert (costs["calls"], costs["failed_calls"]) == (0, 1)
    [listed] = store.list_sessions()
    assert listed.state == "failure"
    [call] = store.list_calls()
    assert call.error_type == "openai.BadRequestError"


def test_a_tool_of_a_client_and_a_server_is_one_run(store: lllm.LogStore, tmp_path: Path) -> None:
    method = {"mcp.method.name": "tools/call"}
    path = write(
        tmp_path / "spans.jsonl",
        request(
            span(2, "MCP send tools/call population", method, parent=1),
            span(3, "tools/call population", method | {
                "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "population"},
                parent=2),
            span(4, "MCP send tools/list", {"mcp.method.name": "tools/list"}, parent=1),
            span(1, "run"),
        ),
    )  # fmt: skip
    store.import_otlp(path)
    [listed] = store.list_sessions()
    called = [one for one in store.events(listed.session_id) if one.type == "tool.called"]
    assert len(called) == 1


def test_the_content_of_a_call_that_comes_as_an_event(store: lllm.LogStore) -> None:
    one = importer(store)
    content = {"gen_ai.output.messages": json.dumps([ANSWER]),
               "gen_ai.input.messages": json.dumps(ASK)}  # fmt: skip
    event = record("gen_ai.client.inference.operation.details", content,
                   traceId=TRACE, spanId=f"{1:016x}")  # fmt: skip
    one.add(signals_of(logs(event)))
    one.add(signals_of(request(genai(1))))
    one.write_ready(everything=True)
    [listed] = store.list_sessions()
    assert listed.task == "How many?"
    assert store.load_session(listed.session_id).delivery == "3.7 million."


def test_spans_that_name_each_other_as_parents(store: lllm.LogStore, tmp_path: Path) -> None:
    path = write(tmp_path / "spans.jsonl", request(genai(1, parent=2), genai(2, parent=1)))
    assert store.import_otlp(path).spans == 2
    assert store.export_cost_summary()["calls"] == 2


def test_protobuf_and_json_are_the_same() -> None:
    """Also a span whose ids are in base64, as protobuf's own JSON has them."""
    import base64

    from lllm.importing.otlp.decode_protobuf import decode_traces

    json_format = pytest.importorskip("google.protobuf.json_format")
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    whole = request(*asker())
    based = json.loads(json.dumps(whole))
    for one in based["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in one:
                one[name] = base64.b64encode(bytes.fromhex(one[name])).decode()
    message = json_format.ParseDict(based, service.ExportTraceServiceRequest())
    binary = decode_traces(message.SerializeToString()).spans
    text = decode(json.dumps(whole).encode()).spans
    assert [one.digest for one in binary] == [one.digest for one in text]
    assert binary == text == decode(json.dumps(based).encode()).spans


def test_another_process_imports_the_same(
    store: lllm.LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sessions stay, and the others of the same append are written."""
    path = Path(str(store.backend.path))  # type: ignore[attr-defined]
    spans = [genai(n, trace=f"{n:032x}") for n in range(1, 6)]
    one = importer(store)
    one.add(signals_of(request(*spans)))
    append = store.log.append

    def second(events: object) -> object:
        monkeypatch.undo()
        with lllm.LogStore(lllm.SQLiteBackend(path)) as other:
            rival = importer(other)
            rival.add(signals_of(request(spans[2])))
            rival.write_ready(everything=True)
        return append(events)  # type: ignore[arg-type]

    monkeypatch.setattr(store.log, "append", second)
    one.write_ready(everything=True)
    assert store.export_cost_summary()["calls"] == 5
    assert one.result().sessions == 4


def test_spans_that_lllm_sent_come_back(store: lllm.LogStore, tmp_path: Path) -> None:
    """To the store that they were made from, and to another one."""
    from lllm.cli import main

    store.import_otlp(write(tmp_path / "spans.jsonl", request(*asker())))
    path, sent = str(tmp_path / "runs.db"), str(tmp_path / "sent.jsonl")
    assert main(["otel", "send", "--store", path, "--file", sent, "--messages"]) == 0
    found = store.import_otlp(sent)
    assert (found.sessions, found.events, found.left_out) == (0, 0, ())
    with lllm.LogStore(lllm.SQLiteBackend(tmp_path / "other.db")) as other:
        other.import_otlp(sent)
        costs, truth = other.export_cost_summary(), store.export_cost_summary()
    assert costs["total_cost_usd"] == truth["total_cost_usd"] > 0
    assert costs["prompt_tokens"] == truth["prompt_tokens"] == 200
