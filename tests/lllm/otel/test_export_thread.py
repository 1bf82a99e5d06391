"""A service sends its sessions while it runs, and never notices."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lllm import ConfigError, LocalFileBackend, LogStore, NoOpBackend, SQLiteBackend
from lllm.events.backend import LogBackend
from lllm.otel import OtelExport
from lllm.otel.sent_position import read_sent
from lllm.store.log_store import session_host
from tests.support.otlp_receiver import Answer, OtlpReceiver


def wait(until: Callable[[], object]) -> None:
    """Wait for another thread or process."""
    for _ in range(4_000):  # a look for dead processes may be half a minute away
        if until():
            return
        time.sleep(0.02)
    raise AssertionError("nothing happened")


def names(receiver: OtlpReceiver) -> list[str]:
    """The sessions whose spans came, in order."""
    return [span.name.removeprefix("invoke_workflow ") for span in receiver.all_spans]


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
def test_sessions_are_sent_while_the_program_runs(kind: str, tmp_path: Path) -> None:
    """What has ended comes soon, and the last ones come before the store is closed."""
    backend: LogBackend = SQLiteBackend(tmp_path / "runs.db")
    if kind == "jsonl":
        backend = LocalFileBackend(tmp_path / "logs")
    with OtlpReceiver() as receiver:
        store = LogStore(backend, otel=OtelExport(endpoint=receiver.url, service_name="desk"))
        with store.session("p::one"):
            pass
        wait(lambda: names(receiver) == ["one"])
        with store.session("p::two"):
            pass
        store.close()
        assert names(receiver) == ["one", "two"]
        assert receiver.requests[0].resource == {"service.name": "desk"}
        with LogStore.open(backend.path, otel=OtelExport(endpoint=receiver.url)):  # type: ignore[attr-defined]
            pass
        assert names(receiver) == ["one", "two"]


def test_a_dead_receiver_disturbs_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One warning; closing waits for nothing; the next process sends it all."""
    with OtlpReceiver() as receiver:
        receiver.script(Answer(503, headers={"Retry-After": "600"}))
        settings = OtelExport(endpoint=receiver.url)
        store = LogStore(SQLiteBackend(tmp_path / "runs.db"), otel=settings)
        with store.session("p::one"):
            pass
        wait(lambda: receiver.requests)
        for _ in range(3):
            with store.session("p::more"):
                pass
        store.close()
        assert len(receiver.requests) <= 2
        said = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
        assert len(said) == 1
        assert "answers 503" in said[0]
        receiver.script(Answer())
        with LogStore(SQLiteBackend(tmp_path / "runs.db"), otel=settings):
            pass
        assert names(receiver) == ["one", "more", "more", "more"]


def test_a_receiver_that_hangs_keeps_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing waits for `close_seconds`; what the thread learns later is not written."""
    go_on = threading.Event()
    with OtlpReceiver() as receiver:
        take = receiver.take

        def hang(*request: object) -> Answer:
            go_on.wait(30)
            return take(*request)  # type: ignore[arg-type]

        receiver.take = hang  # type: ignore[method-assign,assignment]
        settings = OtelExport(endpoint=receiver.url, close_seconds=0.1)
        store = LogStore(SQLiteBackend(tmp_path / "runs.db"), otel=settings)
        with store.session("p::one"):
            pass
        store.close()
        assert "not everything was sent" in caplog.text
        go_on.set()
        wait(lambda: names(receiver) == ["one"])
        receiver.take = take  # type: ignore[method-assign]
        with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
            assert read_sent(session_host(store).rows.database) == []


@pytest.mark.slow
def test_of_two_stores_one_sends(tmp_path: Path) -> None:
    """The second one goes on when the first is closed."""
    with OtlpReceiver() as receiver:
        settings = OtelExport(endpoint=receiver.url)
        first = LogStore(SQLiteBackend(tmp_path / "runs.db"), otel=settings)
        with first.session("p::one"):
            pass
        wait(lambda: names(receiver) == ["one"])
        second = LogStore(SQLiteBackend(tmp_path / "runs.db"), otel=settings)
        with second.session("p::two"):
            pass
        wait(lambda: names(receiver) == ["one", "two"])
        second.close()
        first.close()
        assert names(receiver) == ["one", "two"]


def test_after_a_fork_the_parent_goes_on_sending(tmp_path: Path) -> None:
    """The child records, and the parent's thread sends what both have recorded."""
    with OtlpReceiver() as receiver:
        store = LogStore(
            SQLiteBackend(tmp_path / "runs.db"), otel=OtelExport(endpoint=receiver.url)
        )
        with store.session("p::parent"):
            pass
        wait(lambda: names(receiver) == ["parent"])
        child = os.fork()
        if not child:
            try:
                with store.session("p::child"):
                    pass
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        wait(lambda: names(receiver) == ["parent", "child"])
        store.close()


def test_settings_are_checked_when_the_store_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong address or protocol is said at once; a store that keeps nothing sends nothing."""
    for wrong in (
        OtelExport(endpoint="localhost:4318"),
        OtelExport(headers={"a b": "c"}),
        OtelExport(batch_bytes=1),
        OtelExport(message_bytes=0),
    ):
        with pytest.raises(ConfigError):
            LogStore(SQLiteBackend(tmp_path / "runs.db"), otel=wrong)
    monkeypatch.setitem(sys.modules, "google.protobuf.message", None)
    monkeypatch.delitem(sys.modules, "lllm.otel.protobuf_format", raising=False)
    with pytest.raises(ImportError, match="lllm\\[otel\\]"):
        LogStore(SQLiteBackend(tmp_path / "runs.db"), otel=OtelExport())
    with OtlpReceiver() as receiver:
        json = OtelExport(endpoint=receiver.url, protocol="http/json")
        with LogStore(NoOpBackend(), otel=json) as store, store.session("p::one"):
            pass
        assert not receiver.requests


def test_a_store_that_was_pickled_sends_too(tmp_path: Path) -> None:
    """The settings go to other processes, as those of seals do."""
    with OtlpReceiver() as receiver:
        settings = OtelExport(endpoint=receiver.url, headers={"x-key": "k"})
        store = LogStore(SQLiteBackend(tmp_path / "runs.db"), otel=settings)
        again = pickle.loads(pickle.dumps(store))
        assert session_host(again).settings.otel == settings
        again.close()
        store.close()


SERVICE = """
import sys, time
from lllm import LogStore, SQLiteBackend
from lllm.otel import OtelExport
store = LogStore(SQLiteBackend("runs.db"), otel=OtelExport(endpoint=sys.argv[1]))
with store.session("p::ended"):
    pass
store.session("p::open").__enter__()
print("there", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_a_session_whose_process_was_killed_ends_at_its_last_event(tmp_path: Path) -> None:
    """The next sender finds it, sends it as interrupted, and says so in a log record."""
    with OtlpReceiver() as receiver:
        command = [sys.executable, "-c", SERVICE, receiver.url]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            wait(lambda: names(receiver) == ["ended"])
            process.send_signal(signal.SIGKILL)
        with LogStore(SQLiteBackend(tmp_path / "runs.db"), otel=OtelExport(endpoint=receiver.url)):
            wait(lambda: len(names(receiver)) == 2)
    span = receiver.spans["invoke_workflow open"]
    assert span.attributes["error.type"] == "interrupted"
    assert span.end == span.start  # its only event
    [log] = receiver.logs
    assert (log.name, log.span) == ("lllm.session.interrupted", span.id)
