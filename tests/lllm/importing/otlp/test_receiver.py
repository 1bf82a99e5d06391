"""The receiver over HTTP: what it acknowledges is durable, and it says no where it must."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import lllm
from lllm.events.errors import ConfigError
from lllm.importing.otlp.receiver import FloodedError, OtlpReceiver
from lllm.importing.otlp.receiver_app import listen, make_app
from lllm.importing.otlp.spool import Spool
from lllm.web.server import make_server
from tests.support.otlp import JSON, genai, logs, record, request, span

JSON_TYPE = "application/json"


def post(
    url: str, body: bytes, kind: str = JSON_TYPE, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Send a request: status, body and headers of the answer."""
    named = {"content-type": kind} | {name.replace("_", "-"): one for name, one in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, named)) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with closing(error):
            return error.code, error.read(), dict(error.headers)


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so, for at most 30 seconds."""
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end, "it never became so"
        time.sleep(0.05)


def encoded(one: JSON) -> bytes:
    return json.dumps(one).encode()


@contextmanager
def served(store: lllm.LogStore, spool: Path, **options: float) -> Iterator[tuple[str, object]]:
    """A receiver that writes traces at once, as the command runs it."""
    kept = Spool(spool)
    receiver = OtlpReceiver(store, kept, **{"settle": 0.1, "idle": 0.1} | options)  # type: ignore[arg-type]
    receiver.start()
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        server = make_server(make_app(receiver, "127.0.0.1", port))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}", receiver
        finally:
            server.should_exit = True
            thread.join()
            receiver.stop()
            kept.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[lllm.LogStore]:
    with lllm.LogStore(lllm.SQLiteBackend(tmp_path / "runs.db"), on_error="raise") as opened:
        yield opened


def test_each_form_of_a_request(store: lllm.LogStore, tmp_path: Path) -> None:
    """JSON, protobuf and gzip; an answer has the form of its request."""
    json_format = pytest.importorskip("google.protobuf.json_format")
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    based = request(genai(1))
    message = service.ExportTraceServiceRequest()
    for whole in based["resourceSpans"]:
        for part in whole["scopeSpans"]:
            for one in part["spans"]:
                import base64

                for name in ("traceId", "spanId"):
                    one[name] = base64.b64encode(bytes.fromhex(one[name])).decode()
    json_format.ParseDict(based, message)
    with served(store, tmp_path / "spool") as (url, _):
        status, body, headers = post(
            f"{url}/v1/traces", message.SerializeToString(), "application/x-protobuf"
        )
        assert (status, body, headers["content-type"]) == (200, b"", "application/x-protobuf")
        packed = gzip.compress(encoded(request(genai(2, trace="b" * 32))))
        status, body, _ = post(f"{url}/v1/traces", packed, content_encoding="gzip")
        assert (status, json.loads(body)) == (200, {})
        record_ = record("codex.user_prompt", {"conversation.id": "c-1", "prompt": "Hello?"})
        assert post(f"{url}/v1/logs", encoded(logs(record_)))[0] == 200
        assert post(f"{url}/v1/metrics", b"{}")[0] == 200
        until(lambda: len(store.list_sessions()) == 3)
    assert store.export_cost_summary()["calls"] == 2
    assert not (tmp_path / "spool").exists()  # nothing waits


BAD: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "no JSON": (b"{", {}, 400, "it is not JSON"),
    "another format": (b'{"a": 1}', {}, 400, "it is no request of OTLP"),
    "no protobuf": (b"\xff\xff", {"kind": "application/x-protobuf"}, 400, "in protobuf"),
    "another type": (b"x", {"kind": "text/plain"}, 415, "text/plain"),
    "another packing": (b"x", {"content_encoding": "br"}, 415, "not gzip"),
    "no gzip": (b"x" * 99, {"content_encoding": "gzip"}, 400, "not gzip"),
    "half a gzip": (gzip.compress(b"{}" * 999)[:-20], {"content_encoding": "gzip"}, 400, "cut off"),
    "a bomb": (gzip.compress(b"\0" * (65 << 20)), {"content_encoding": "gzip"}, 413, "unpacked"),
    "a web page": (b"{}", {"origin": "http://evil.example"}, 403, "web page"),
    "another host": (b"{}", {"host": "evil.example"}, 421, "answers only"),
}


def test_bad_requests(store: lllm.LogStore, tmp_path: Path) -> None:
    """One clear answer each, and the next request is taken."""
    pytest.importorskip("opentelemetry.proto")
    with served(store, tmp_path / "spool") as (url, _):
        for name, (body, headers, status, why) in BAD.items():
            found = post(f"{url}/v1/traces", body, **headers)
            assert (found[0], why in found[1].decode(errors="replace")) == (status, True), name
        partly = request(genai(1), span(2, "x", startTimeUnixNano="17"))
        status, answered, _ = post(f"{url}/v1/traces", encoded(partly))
        partial = json.loads(answered)["partialSuccess"]
        assert (status, partial["rejectedSpans"]) == (200, "1")
        assert "its start is 17" in partial["errorMessage"]
        until(lambda: len(store.list_sessions()) == 1)


def test_a_flood_is_refused(store: lllm.LogStore, tmp_path: Path) -> None:
    """What was acknowledged comes in, and what was not can be sent again."""
    bodies = [encoded(request(genai(n, trace=f"{n:032x}"))) for n in range(1, 61)]
    with served(store, tmp_path / "spool", most_spooled=10_000, idle=0.5) as (url, _):
        codes = [post(f"{url}/v1/traces", body) for body in bodies]
        refused = [body for body, one in zip(bodies, codes, strict=True) if one[0] == 429]
        assert 0 < len(refused) < 60
        assert all(one[2]["retry-after"] == "1" for one in codes if one[0] == 429)
        until(lambda: len(store.list_sessions(limit=100)) == 60 - len(refused))
        while refused:
            refused = [body for body in refused if post(f"{url}/v1/traces", body)[0] == 429]
            time.sleep(0.05)
    assert store.export_cost_summary()["calls"] == 60


def test_what_waits_to_be_read_is_bounded(store: lllm.LogStore, tmp_path: Path) -> None:
    with closing(Spool(tmp_path / "spool")) as spool:
        receiver = OtlpReceiver(store, spool, most_queued=1_000)  # it does not run yet
        body = encoded(request(genai(1)))
        receiver.reserve(len(body))
        receiver.accept("traces json", body, len(body))
        with pytest.raises(FloodedError):
            receiver.reserve(len(body))


def test_a_store_that_cannot_be_written(
    store: lllm.LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests wait on disk, and come in when it can be written again."""
    append, broken = store.log.append, threading.Event()

    def fails(_: object) -> object:
        broken.set()
        raise lllm.LogUnavailable("the disk is full")

    monkeypatch.setattr("lllm.importing.otlp.receiver._AGAIN", 0.05)
    monkeypatch.setattr(store.log, "append", fails)
    with served(store, tmp_path / "spool") as (url, _):
        assert post(f"{url}/v1/traces", encoded(request(genai(1))))[0] == 200
        assert broken.wait(20)
        monkeypatch.setattr(store.log, "append", append)
        until(lambda: len(store.list_sessions()) == 1)


def test_one_process_uses_a_spool(tmp_path: Path) -> None:
    with (
        closing(Spool(tmp_path / "spool")),
        pytest.raises(ConfigError, match="Another process receives"),
    ):
        Spool(tmp_path / "spool")
    with pytest.raises(ConfigError, match="this machine only"):
        listen("0.0.0.0", 0)


@pytest.mark.slow
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """SIGKILL in the middle: the next receiver makes sessions of what the first acknowledged."""
    path = tmp_path / "runs.db"
    command = [sys.executable, "-m", "lllm", "otel", "receive", "--store", str(path), "--port", "0"]
    acknowledged = 0
    for kill in (True, False):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = re.match(r"(http://\S+) receives OTLP", process.stdout.readline())
        assert said is not None
        for number in range(10):
            n = number + 1 + 100 * kill
            # half of them without their root, which never comes
            one = genai(n, trace=f"{n:032x}", parent=0 if number % 2 else 999)
            acknowledged += post(f"{said[1]}/v1/traces", encoded(request(one)))[0] == 200
        process.send_signal(signal.SIGKILL if kill else signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        if not kill:
            assert process.returncode in (0, 130), rest
            assert "10 traces without a root wait" in rest
    assert acknowledged == 20
    with lllm.LogStore(lllm.SQLiteBackend(path)) as store:
        assert store.export_cost_summary()["calls"] == 10
    with (
        lllm.LogStore(lllm.SQLiteBackend(path), on_error="raise") as store,
        served(store, Path(f"{path}-otlp")),
    ):
        until(lambda: store.export_cost_summary()["calls"] == 20)
    assert not os.path.exists(f"{path}-otlp")
