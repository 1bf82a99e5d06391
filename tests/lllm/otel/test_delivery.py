"""Receivers that are away, full, strict or wrong: nothing is lost, and nothing secret is told."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lllm import ConfigError, LogStore, SQLiteBackend
from lllm.cli import main
from lllm.otel import OtelExport
from lllm.otel.delivery import Undelivered
from lllm.otel.open_exporter import http_output, open_exporter
from lllm.otel.sent_position import read_sent
from lllm.otel.settings import receiver_of
from lllm.store.log_store import session_host
from tests.support.otlp_receiver import Answer, OtlpReceiver

SECRET = "sk-secret-0123456789"


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    """A store with twenty sessions of one span each."""
    store = LogStore(SQLiteBackend(tmp_path / "runs.db"))
    for number in range(20):
        with store.session(f"p::s{number}"):
            pass
    return store


class Sender:
    """Sends a store, and notes what it says and how long it would wait."""

    def __init__(
        self, store: LogStore, url: str, *, patience: float | None = None, **settings: object
    ) -> None:
        self.said: list[str] = []
        self.waits: list[float] = []
        host = session_host(store)
        given = OtelExport(endpoint=url, **settings)  # type: ignore[arg-type]
        self.exporter, _ = open_exporter(
            host.log, host.rows, given, http_output(given), "here",
            wait=self._wait, patience=patience, tell=self.said.append,
        )  # fmt: skip
        self.last_wait = 0

    def _wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        return bool(self.last_wait) and len(self.waits) >= self.last_wait


def names(receiver: OtlpReceiver) -> list[str]:
    """The sessions whose spans came, in order."""
    return [span.name.removeprefix("invoke_workflow ") for span in receiver.all_spans]


ALL = [f"s{number}" for number in range(20)]


def test_a_busy_receiver_is_asked_again(store: LogStore) -> None:
    """429 and 503 wait as long as Retry-After says, or else longer and longer; all of it comes."""
    with OtlpReceiver() as receiver:
        receiver.script(
            Answer(503, headers={"Retry-After": "7"}),
            Answer(429),
            Answer(502),
            Answer(504),
            Answer(),
        )
        sender = Sender(store, receiver.url)
        sender.exporter.send()
        assert names(receiver) == ALL
    assert sender.waits[0] == 7
    assert 0.8 * 2 <= sender.waits[1] <= 1.2 * 2
    assert 0.8 * 4 <= sender.waits[2] <= 1.2 * 4
    assert sender.said[-1] == "The receiver takes requests again."


def test_a_dead_receiver_keeps_the_position(store: LogStore) -> None:
    """What was not accepted is sent by the next sender; what was is not sent again."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    sender = Sender(store, f"http://127.0.0.1:{port}", patience=0)
    with pytest.raises(Undelivered, match="can't be reached"):
        sender.exporter.send()
    assert read_sent(session_host(store).rows.database) == []
    with OtlpReceiver(port) as receiver:
        receiver.script(Answer(), Answer(503))
        sender = Sender(store, receiver.url, batch_bytes=2_000)
        sender.last_wait = 3
        with pytest.raises(Undelivered):
            sender.exporter.send()
        there = len(receiver.all_spans)
        assert 0 < there < 20
        receiver.script(Answer())
        Sender(store, receiver.url, batch_bytes=2_000).exporter.send()
        assert names(receiver) == ALL


def test_what_is_refused_is_counted_and_told(store: LogStore) -> None:
    """A partial success and a 400 are for good; the rest goes on."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTracePartialSuccess,
        ExportTraceServiceResponse,
    )

    partly = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=3, error_message="too old")
    )
    with OtlpReceiver() as receiver:
        receiver.script(
            Answer(200, partly.SerializeToString()), Answer(400, b"bad \x1b span"), Answer()
        )
        sender = Sender(store, receiver.url, batch_bytes=2_000)
        sender.exporter.send()
    counts = sender.exporter.counts
    assert counts.rejected > 3
    assert counts.spans + counts.rejected == 20
    assert sender.said[0].startswith("The receiver refuses 3 of ")
    assert sender.said[0].endswith("spans: too old")
    assert "answers 400: bad span" in sender.said[1]
    assert sender.exporter.sent.rejected == counts.rejected
    assert not sender.waits


def test_a_request_that_is_too_large_is_divided(store: LogStore) -> None:
    """413 halves it, down to a single span, which is counted as refused."""
    with OtlpReceiver() as receiver:
        receiver.script(Answer(413), Answer(413), Answer())
        sender = Sender(store, receiver.url)
        sender.exporter.send()
        assert names(receiver) == ALL
        receiver.script(Answer(413))
        with store.session("p::late"):
            pass
        sender.exporter.send()
    assert sender.exporter.counts.rejected == 1


def test_an_error_of_the_receiver_does_not_stop_all_for_ever(store: LogStore) -> None:
    """A request that gets 500 again and again counts as refused."""
    with OtlpReceiver() as receiver:
        receiver.script(*[Answer(500)] * 6, Answer())
        sender = Sender(store, receiver.url, batch_bytes=2_000)
        sender.exporter.send()
    assert len(sender.waits) == 5
    counts = sender.exporter.counts
    assert counts.rejected
    assert counts.spans + counts.rejected == 20


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_a_wrong_receiver_is_said_at_once(store: LogStore, status: int) -> None:
    """With a wrong key or address, a command ends without a loss; a service goes on trying."""
    with OtlpReceiver() as receiver:
        receiver.script(Answer(status, f"no: {SECRET}".encode()))
        sender = Sender(store, receiver.url, patience=60, headers={"x-key": SECRET})
        with pytest.raises(Undelivered, match=f"answers {status}: no: \\*\\*\\*$"):
            sender.exporter.send()
        assert not sender.waits
        receiver.script(Answer(status), Answer())
        Sender(store, receiver.url).exporter.send()
        assert names(receiver) == ALL


def test_headers_come_from_everywhere_and_go_nowhere_else(
    store: LogStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Headers of the environment, of options, of files and of the URL are sent, and never shown."""
    store.close()
    (tmp_path / "key").write_text(f"{SECRET}\n")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-env=Bearer%20{SECRET},x-both=env")
    command = ["otel", "send", "--store", str(tmp_path / "runs.db"), "--header", "X-Both=option"]
    with OtlpReceiver() as receiver:
        receiver.script(Answer(), Answer(401, SECRET.encode()))
        url = receiver.url.replace("//", f"//user:{SECRET}@")
        file = f"x-file=@{tmp_path / 'key'}"
        assert main([*command, "--endpoint", url, "--header", file]) == 0
        headers = receiver.requests[0].headers
        assert main([*command, "--endpoint", url, "--again"]) == 1
        assert main(["otel", "status", "--store", str(tmp_path / "runs.db")]) == 0
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", SECRET)
        assert main([*command, "--endpoint", url]) == 2
        assert main(["otel", "send", "--store", str(tmp_path / "runs.db"), "--header", SECRET]) == 2
        assert main([*command, "--endpoint", f"ftp://user:{SECRET}@there"]) == 2
    assert headers["x-env"] == f"Bearer {SECRET}"
    assert headers["x-both"] == "option"
    assert headers["x-file"] == SECRET
    assert headers["authorization"].startswith("Basic ")
    said = "".join(capsys.readouterr())
    assert SECRET not in said
    assert "answers 401: ***" in said
    assert SECRET not in repr(OtelExport(endpoint=url, headers={"a": SECRET}))
    assert SECRET.encode() not in (tmp_path / "runs.db").read_bytes()


def test_the_variables_of_opentelemetry() -> None:
    """Their addresses, with and without a path, are those of the specification."""

    def urls(endpoint: str | None = None, **variables: str) -> list[str]:
        named = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in variables.items()}
        return [*receiver_of(OtelExport(endpoint=endpoint), named).urls.values()]

    assert urls() == ["http://localhost:4318/v1/traces", "http://localhost:4318/v1/logs"]
    both = ["https://a/x/v1/traces", "https://a/x/v1/logs"]
    assert urls("https://a/x") == urls("https://a/x/") == urls("https://a/x/v1/traces") == both
    assert urls(ENDPOINT="https://a/x") == both
    assert urls(ENDPOINT="https://a", TRACES_ENDPOINT="https://b/t") == [
        "https://b/t", "https://a/v1/logs",
    ]  # fmt: skip
    assert urls("http://c", TRACES_ENDPOINT="https://b/t")[0] == "http://c/v1/traces"
    for wrong in ("localhost:4318", "http://", "http://a:4317", "http://a:port"):
        with pytest.raises(ConfigError):
            urls(wrong)
    with pytest.raises(ConfigError, match="grpc"):
        receiver_of(OtelExport(), {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    about = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,x=%41", "OTEL_SERVICE_NAME": "b"}
    assert receiver_of(OtelExport(), about).resource == {"service.name": "b", "x": "A"}


def test_two_senders_to_one_receiver(
    store: LogStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second one is told, and sends nothing."""
    from lllm.otel.sent_position import sender_lock

    with OtlpReceiver() as receiver:
        lock = sender_lock(session_host(store).rows.database, f"{receiver.url}/v1/traces")
        assert lock is not None
        assert lock.acquire(wait=False)
        command = ["otel", "send", "--store", str(tmp_path / "runs.db"), "--endpoint", receiver.url]
        assert main(command) == 2
        assert "Another process sends this store" in capsys.readouterr().err
        lock.close()
        assert main(command) == 0
        assert names(receiver) == ALL


def test_an_older_copy_of_the_store_is_sent_from_its_beginning(store: LogStore) -> None:
    """A position behind the end of the log is that of another log."""
    from lllm.otel.sent_position import SentPosition, store_sent

    rows = session_host(store).rows.database
    store_sent(rows, SentPosition("here", position=store.log.head() + 1))
    with OtlpReceiver() as receiver:
        Sender(store, receiver.url).exporter.send()
        assert names(receiver) == ALL
