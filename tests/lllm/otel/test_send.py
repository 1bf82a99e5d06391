"""What arrives at a receiver: the tree of spans, their attributes, and what is said later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lllm import LogStore, SQLiteBackend, Tactic, tool
from lllm.cli import main
from lllm.invokers.scripted import rate_limited, reply, tool_call
from lllm.otel.span_ids import span_id_of, trace_id_of
from tests.support.otlp_receiver import Answer, OtlpReceiver, parse_json, read_logs, read_spans
from tests.support.runs import Asking, Doing, config


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


class Desk(Tactic, register=False):
    """Asks an agent that has a tool."""

    name = "desk"

    def call(self, task: object, **_: object) -> object:
        agent = self.agents["a"]
        agent.open()
        agent.receive(task)
        return agent.respond().content


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one session: a call of a tool, and an answer."""
    path = tmp_path / "runs.db"
    script = [tool_call("weather", {"city": "Rome"}), "It is sunny."]
    with LogStore(SQLiteBackend(path)) as store:
        desk = Desk(
            config(script, tools=[weather], model_args={"temperature": 0.5}), log_store=store
        )
        desk("How is Rome?", tags={"env": "test"})
    return path


def send(path: Path, receiver: OtlpReceiver, *options: str) -> int:
    """Run `lllm otel send`."""
    return main(["otel", "send", "--store", str(path), "--endpoint", receiver.url, *options])


def test_a_session_is_a_tree_of_spans(path: Path) -> None:
    """Each step is a span below its caller, with the names of the GenAI conventions."""
    with OtlpReceiver() as receiver:
        assert send(path, receiver) == 0
    spans = receiver.all_spans
    by_id = {span.id: span for span in spans}
    tree = [(span.name, by_id[span.parent].name if span.parent else None) for span in spans]
    assert tree == [
        ("invoke_workflow desk", None),
        ("invoke_agent a", "invoke_workflow desk"),
        ("chat gpt-4o-mini", "invoke_agent a"),
        ("chat gpt-4o-mini", "invoke_agent a"),
        ("execute_tool weather", "invoke_agent a"),
    ]
    [record] = LogStore.open(path).list_sessions()
    assert {span.trace for span in spans} == {trace_id_of(record.session_id).hex()}
    assert spans[2].id == span_id_of(record.session_id, "model", 1).hex()
    assert [span.kind for span in spans] == [1, 1, 3, 3, 1]
    assert all(span.start <= span.end for span in spans)
    assert receiver.requests[0].headers["content-encoding"] == "gzip"
    assert receiver.requests[0].resource == {"service.name": "lllm"}


def test_only_attempts_have_tokens_and_costs(path: Path) -> None:
    """The sums over spans are those of the store: sessions and agents have none of their own."""
    with OtlpReceiver() as receiver:
        send(path, receiver)
    [record] = LogStore.open(path).list_sessions()
    spans = receiver.all_spans
    assert sum(span.attributes.get("lllm.price.nanos", 0) for span in spans) == round(
        record.total_cost * 1e9
    )
    with_usage = [span for span in spans if any("usage" in key for key in span.keys)]
    assert {span.name for span in with_usage} == {"chat gpt-4o-mini"}
    [first, second] = with_usage
    assert first.attributes["gen_ai.operation.name"] == "chat"
    assert first.attributes["gen_ai.request.temperature"] == 0.5
    assert first.attributes["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert first.attributes["gen_ai.conversation.id"] == record.session_id
    assert second.attributes["gen_ai.usage.cost"] == second.attributes["lllm.price.nanos"] / 1e9
    root = receiver.spans["invoke_workflow desk"].attributes
    assert root["lllm.tag.env"] == "test"
    assert root["tag.tags"] == ["env=test"]


def test_messages_are_sent_only_where_that_is_asked_for(path: Path) -> None:
    """No text of a user, a model or a tool is in a span unless --messages is given; then it is
    last."""
    with OtlpReceiver() as receiver:
        send(path, receiver)
        assert "Rome" not in str(receiver.all_spans)
        assert "sunny" not in str(receiver.all_spans)
        receiver.requests.clear()
        send(path, receiver, "--messages", "--again")
    first, second = [span for span in receiver.all_spans if span.name.startswith("chat")]
    assert [one["role"] for one in json.loads(second.attributes["gen_ai.input.messages"])] == [
        "user", "assistant", "tool",
    ]  # fmt: skip
    assert json.loads(second.attributes["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "It is sunny."}],
            "finish_reason": "stop",
        }
    ]
    [called] = json.loads(first.attributes["gen_ai.output.messages"])
    assert called["parts"][0]["arguments"] == {"city": "Rome"}
    assert second.keys[-3:] == [
        "gen_ai.tool.definitions", "gen_ai.input.messages", "gen_ai.output.messages",
    ]  # fmt: skip
    did = receiver.spans["execute_tool weather"].attributes
    assert did["gen_ai.tool.call.result"] == "sunny in Rome"
    assert json.loads(did["gen_ai.tool.call.arguments"]) == {"city": "Rome"}


def test_what_was_sent_is_remembered(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run sends nothing, also after a rebuild; --again sends the same ids again."""
    with OtlpReceiver() as receiver:
        assert main(["otel", "status", "--store", str(path)]) == 1
        send(path, receiver, "--dry-run")
        assert not receiver.requests
        send(path, receiver)
        first = receiver.all_spans
        main(["rebuild", "--store", str(path)])
        assert send(path, receiver) == 0
        assert receiver.all_spans == first
        capsys.readouterr()
        assert main(["otel", "status", "--store", str(path)]) == 0
        assert capsys.readouterr().out == (
            f"{receiver.url}/v1/traces: 5 spans, 0 log records sent, 0 refused; up to date\n"
        )
        send(path, receiver, "--again")
    assert receiver.all_spans == [*first, *first]


def test_what_is_said_later_is_a_log_record(path: Path) -> None:
    """Tags, annotations, holds and erasures name the span that they are about."""
    with LogStore.open(path) as store:
        [record] = store.list_sessions()
        id_ = record.session_id
        store.tag(id_, {"reviewed": "yes"})
        store.annotate(id_, name="correct", value=True, comment="as expected", by="ann")
        store.annotate(id_, name="tone", value="kind", step=2)
        store.hold(id_, by="legal", reason="case 7")
        store.save_error(ValueError("outside"))
    with OtlpReceiver() as receiver:
        send(path, receiver)
        with LogStore.open(path) as store:
            store.release(id_, by="legal", reason="closed")
        send(path, receiver)
        with LogStore.open(path) as store:
            store.erase_session(id_, by="ann", reason="asked for")
        send(path, receiver)
        spans = len(receiver.all_spans)
        send(path, receiver, "--again", "--no-logs")  # an erased session has no spans any more
        assert len(receiver.all_spans) == spans == 5
    logs = receiver.logs
    assert [log.name for log in logs] == [
        "lllm.session.tagged", "gen_ai.evaluation.result", "gen_ai.evaluation.result",
        "lllm.session.held", "lllm.error.recorded", "lllm.session.released", "lllm.session.erased",
    ]  # fmt: skip
    # an erased session does not tell any more in which trace it was
    session, step = span_id_of(id_, "session").hex(), span_id_of(id_, "model", 2).hex()
    assert [log.span for log in logs] == [session, session, step, session, "", session, ""]
    assert logs[1].attributes["gen_ai.evaluation.score.value"] == 1.0
    assert logs[1].attributes["gen_ai.evaluation.explanation"] == "as expected"
    assert logs[2].attributes["gen_ai.evaluation.score.label"] == "kind"
    assert len({log.attributes["log.record.uid"] for log in logs}) == len(logs)
    assert receiver.spans["invoke_workflow desk"].attributes["lllm.tag.reviewed"] == "yes"


def test_each_attempt_is_a_span_and_each_retry_a_log_record(tmp_path: Path) -> None:
    """A rate limit and the answer after it are two spans; the retry names the first."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        Asking(config([rate_limited(), "Hello."]), log_store=store)("Hi.")
    with OtlpReceiver() as receiver:
        send(path, receiver)
    failed, answered = [span for span in receiver.all_spans if span.name.startswith("chat")]
    assert failed.error is not None
    assert failed.attributes["http.response.status_code"] == 429
    assert failed.attributes["error.type"]
    assert "http.request.resend_count" not in failed.attributes
    assert failed.attributes["gen_ai.usage.cost"] == 0  # a refused request is known to be free
    assert answered.error is None
    assert answered.attributes["http.request.resend_count"] == 1
    [retry] = receiver.logs
    assert (retry.name, retry.span) == ("lllm.retry.scheduled", failed.id)


def test_a_call_without_a_price_has_no_cost(tmp_path: Path) -> None:
    """Unknown is not zero: neither of costs nor of tokens."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        script = [reply("Hello.", model="nobody-knows-it")]
        Asking(config(script, model_name="nobody-knows-it"), log_store=store)("Hi.")
        Asking(config([reply("Hello.", usage=None)]), log_store=store)("Hi.")
    with OtlpReceiver() as receiver:
        send(path, receiver)
    unknown, without = [span for span in receiver.all_spans if span.name.startswith("chat")]
    assert unknown.attributes["lllm.price.status"] == "unpriced"
    assert "gen_ai.usage.cost" not in unknown.attributes
    assert "gen_ai.usage.input_tokens" in unknown.attributes
    assert "gen_ai.usage.input_tokens" not in without.attributes
    assert "gen_ai.usage.cost" not in without.attributes


def test_sessions_below_are_in_the_trace_of_their_root(tmp_path: Path) -> None:
    """A session in a session is a span below it, whichever ends first; failures say why."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:

        def outer(_: Doing) -> object:
            with store.session("p::inner"):
                raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            Doing(outer, log_store=store)("x")
    with OtlpReceiver() as receiver:
        send(path, receiver)
    inner, doing = receiver.spans["invoke_workflow inner"], receiver.spans["invoke_workflow doing"]
    assert (inner.trace, inner.parent) == (doing.trace, doing.id)
    assert inner.error == "broken"
    assert inner.attributes["error.type"] == "ValueError"
    [(name, exception)] = inner.events
    assert name == "exception"
    assert "Traceback" in exception["exception.stacktrace"]


def test_a_replay_is_linked_to_the_original(path: Path) -> None:
    """The span of a replay or fork links to that of the session that it was made from."""
    with LogStore.open(path) as store:
        [record] = store.list_sessions()
        desk = Desk(config([], tools=[weather], model_args={"temperature": 0.5}), log_store=store)
        with store.replay(record.session_id):
            desk("How is Rome?", tags={"env": "test"})
    with OtlpReceiver() as receiver:
        send(path, receiver)
    original, replayed = [
        span for span in receiver.all_spans if span.name == "invoke_workflow desk"
    ]
    assert replayed.links == [(original.trace, original.id)]
    assert replayed.attributes["lllm.origin.mode"] == "replay"
    assert sum(span.attributes.get("gen_ai.usage.cost", 0) for span in receiver.all_spans[5:]) == 0


def test_a_file_gets_otlp_in_json(path: Path, tmp_path: Path) -> None:
    """Each line is a request in OTLP's JSON; a second run appends what is new; a new file gets all,
    and a line that a crash cut off is removed."""
    file = tmp_path / "spans.jsonl"
    command = ["otel", "send", "--store", str(path), "--file", str(file)]
    assert main(command) == 0
    [line] = file.read_bytes().splitlines()
    spans, resource = read_spans(parse_json(line))  # type: ignore[arg-type]
    with OtlpReceiver() as receiver:
        send(path, receiver)
    assert spans == receiver.all_spans
    assert resource == {"service.name": "lllm"}
    with file.open("ab") as cut:
        cut.write(b'{"resourceSpans":[{"resou')
    with LogStore.open(path) as store:
        store.tag(store.list_sessions()[0].session_id, {"late": "yes"})
    assert main(command) == 0
    first, second = file.read_bytes().splitlines()
    assert first == line
    [log], _ = read_logs(parse_json(second))  # type: ignore[arg-type]
    assert log.attributes["lllm.tag.late"] == "yes"
    file.unlink()
    assert main(command) == 0
    assert len(read_spans(parse_json(file.read_bytes().splitlines()[0]))[0]) == 5  # type: ignore[arg-type]


def test_json_over_http(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_EXPORTER_OTLP_PROTOCOL chooses JSON, which says the same as protobuf."""
    with OtlpReceiver() as receiver:
        send(path, receiver, "--messages")
        first = receiver.all_spans
        receiver.requests.clear()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
        send(path, receiver, "--messages", "--again")
        assert receiver.requests[0].headers["content-type"] == "application/json"
    assert receiver.all_spans == first


def test_a_receiver_that_takes_no_logs_gets_the_spans(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A 404 for log records is told and counted; --no-logs sends none."""
    with LogStore.open(path) as store:
        store.tag(store.list_sessions()[0].session_id, {"late": "yes"})
    with OtlpReceiver() as receiver:
        receiver.script(Answer(), Answer(404))
        assert send(path, receiver) == 1
        assert "Log records (tags, retries, annotations) are not sent" in capsys.readouterr().err
        receiver.script(Answer())
        assert send(path, receiver, "--no-logs", "--again") == 0
    assert not receiver.logs
    assert len(receiver.all_spans) == 10
