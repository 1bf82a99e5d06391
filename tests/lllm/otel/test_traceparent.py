"""Spans of lllm are below the OpenTelemetry spans that the program has around its calls."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from anthropic import Anthropic
from openai import OpenAI
from opentelemetry import trace

from lllm import LogStore, SQLiteBackend, capture
from lllm.otel.span_ids import span_id_of, trace_id_of
from lllm.sessions.trace_context import current_traceparent
from tests.lllm.otel.test_send import send
from tests.support import loopback_messages
from tests.support.loopback import Loopback, text
from tests.support.otlp_receiver import OtlpReceiver, Span

TRACE = 0x4BF92F3577B34DA6A3CE929D0E0E4736


def within(span: int, trace_id: int = TRACE) -> AbstractContextManager[object]:
    """A `with` in which a span of the program is current."""
    context = trace.SpanContext(trace_id, span, is_remote=False, trace_flags=trace.TraceFlags(1))
    return trace.use_span(trace.NonRecordingSpan(context))


def sent(path: Path) -> dict[str, Span]:
    """The spans that a receiver gets, by name."""
    with OtlpReceiver() as receiver:
        send(path, receiver)
    return receiver.spans


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def test_a_session_is_below_the_span_around_it(path: Path) -> None:
    """The session keeps the span; its trace is that of the span, also for what is below."""
    with LogStore(SQLiteBackend(path)) as store:
        with within(0xA), store.session("p::outer") as outer, store.session("p::inner"):
            pass
        with store.session("p::alone") as alone:
            pass
        [started, *_] = store.events(outer.session_id)
    assert b'"traceparent":"00-%032x-%016x-01"' % (TRACE, 0xA) in started.data
    spans = sent(path)
    outer_span, inner = spans["invoke_workflow outer"], spans["invoke_workflow inner"]
    assert (outer_span.trace, outer_span.parent) == (f"{TRACE:032x}", f"{0xA:016x}")
    assert (inner.trace, inner.parent) == (f"{TRACE:032x}", outer_span.id)
    assert outer_span.flags & 0x300 == 0x300
    assert inner.flags & 0x300 == 0x100
    assert spans["invoke_workflow alone"].trace == trace_id_of(alone.session_id).hex()


def test_a_span_inside_of_a_session_is_the_parent_of_what_is_in_it(path: Path) -> None:
    """What is innermost around a session is its parent: a session, or a span of the program."""
    with LogStore(SQLiteBackend(path)) as store:
        with (
            within(0xA),
            store.session("p::outer"),
            within(0xB),
            store.session("p::inner"),
            store.session("p::leaf"),
        ):
            pass
        with store.session("p::bare"), within(0xC, TRACE + 1), store.session("p::other"):
            pass
    spans = sent(path)
    assert spans["invoke_workflow inner"].parent == f"{0xB:016x}"
    assert spans["invoke_workflow leaf"].parent == spans["invoke_workflow inner"].id
    other = spans["invoke_workflow other"]
    assert (other.trace, other.parent) == (f"{TRACE + 1:032x}", f"{0xC:016x}")


def test_a_captured_call_is_below_the_span_around_it(path: Path) -> None:
    """With and without a session; attempts of a call without one have no span above them."""
    with Loopback() as server, LogStore(SQLiteBackend(path)) as store:
        server.answers(text("Hello."))
        client = capture(OpenAI(base_url=server.url, api_key="sk-test"), log_store=store)

        def ask(model: str) -> None:
            messages = [{"role": "user", "content": "Hi."}]
            client.chat.completions.create(model=model, messages=messages)  # type: ignore[call-overload]

        with within(0xA):
            ask("one")
            with store.session("p::s"):
                ask("two")
                with within(0xB):
                    ask("three")
        ask("four")
        client.close()
    spans = sent(path)
    assert sorted(spans) == ["chat four", "chat one", "chat three", "chat two", "invoke_workflow s"]
    assert spans["chat one"].parent == f"{0xA:016x}"
    assert spans["chat two"].parent == spans["invoke_workflow s"].id
    assert spans["chat three"].parent == f"{0xB:016x}"
    assert spans["chat four"].parent == ""
    assert {span.trace for span in spans.values()} - {spans["chat four"].trace} == {f"{TRACE:032x}"}


class CountedTracer(trace.Tracer):
    """Makes spans of its own, as the SDK of OpenTelemetry does, and remembers their names."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def start_span(self, name: str, *_: object, **__: object) -> trace.Span:  # type: ignore[override]
        self.made.append(name)
        context = trace.get_current_span().get_span_context()
        number = 0xF000 + len(self.made)
        flags = trace.TraceFlags(1)
        return trace.NonRecordingSpan(trace.SpanContext(context.trace_id, number, False, flags))

    @contextmanager
    def start_as_current_span(self, name: str, *_: object, **__: object) -> Iterator[trace.Span]:  # type: ignore[override]
        with trace.use_span(self.start_span(name)) as span:
            yield span


def test_a_call_of_anthropic_is_below_the_span_of_the_program(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not below the span that the SDK makes itself, which may not be sent."""
    tracer = CountedTracer()
    monkeypatch.setattr(trace.ProxyTracer, "_tracer", property(lambda _: tracer))
    with Loopback() as server, LogStore(SQLiteBackend(path)) as store:
        server.answers(loopback_messages.replies(loopback_messages.says("Hello.")))
        url = loopback_messages.base_url(server)
        client = capture(Anthropic(base_url=url, api_key="sk-test"), log_store=store)

        def ask() -> None:
            client.messages.create(
                model="claude-sonnet-5",
                max_tokens=9,
                messages=[{"role": "user", "content": "Hi"}],
            )

        with within(0xA):
            ask()
        client.close()
        monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY", "false")
        quiet = Anthropic(base_url=url, api_key="sk-test")
        client = capture(quiet, log_store=store)
        with within(0xA):
            ask()
        client.close()
    assert tracer.made == ["anthropic.messages.create"]  # by the first client alone
    with OtlpReceiver() as receiver:
        send(path, receiver)
    assert [(span.name, span.parent) for span in receiver.all_spans] == [
        ("chat claude-sonnet-5", f"{0xA:016x}")
    ] * 2


def test_what_is_said_of_a_captured_call_names_its_first_attempt(path: Path) -> None:
    """A call without a session has no span of a session that a tag could name."""
    with Loopback() as server, LogStore(SQLiteBackend(path)) as store:
        server.answers(text("Hello."))
        client = capture(OpenAI(base_url=server.url, api_key="sk-test"), log_store=store)
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi."}])
        client.close()
        [record] = store.list_sessions()
        store.tag(record.session_id, {"late": "yes"})
    with OtlpReceiver() as receiver:
        send(path, receiver)
    [log], [span] = receiver.logs, receiver.all_spans
    assert log.span == span.id == span_id_of(record.session_id, "model", 1).hex()


def test_a_program_without_opentelemetry_never_loads_it(tmp_path: Path) -> None:
    """Neither recording nor opening a store imports it; nothing current is no trace context."""
    code = (
        "import sys\nfrom lllm import LogStore, SQLiteBackend\n"
        "with LogStore(SQLiteBackend('runs.db')) as store, store.session('p::s'): pass\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not tops & {'opentelemetry', 'google'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert current_traceparent() is None


def test_a_broken_tracer_is_not_the_programs_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A span of another kind, or a module that is half imported, is no span."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", sys)
    assert current_traceparent() is None
