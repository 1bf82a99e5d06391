"""Stores of every kind are sent: on servers, in folders, damaged, read only, with long sessions."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.cli import main
from lllm.otel.sent_position import SentPosition, read_sent, store_sent
from lllm.otel.trace_places import TracePlaces
from lllm.otel.waiting_events import WaitingEvents
from lllm.store.log_store import session_host
from tests.lllm.otel.test_send import send
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.postgres import new_schema, server

MAKERS: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: str(folder / "runs.db"),
    "jsonl": lambda folder: str(folder / "logs"),
    "postgres": lambda _: server().url(new_schema()),
}


KINDS = ["sqlite", "jsonl", pytest.param("postgres", marks=pytest.mark.slow)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_store_remembers_what_was_sent(kind: str, tmp_path: Path) -> None:
    """Positions are kept in each of them, and tags are read from each."""
    location = MAKERS[kind](tmp_path)
    with OtlpReceiver() as receiver:
        with LogStore.open(location) as store:
            for number in range(3):
                with store.session(f"p::s{number}", tags={"n": str(number)}) as session:
                    pass
                store.tag(session.session_id, {"late": "x"})
        command = ["otel", "send", "--store", location, "--endpoint", receiver.url]
        assert main(command) == 0
        assert main(command) == 0
        assert main([*command, "--name", "other"]) == 0
    spans = receiver.all_spans
    assert [span.name[-2:] for span in spans] == ["s0", "s1", "s2"] * 2
    assert [span.attributes["lllm.tag.n"] for span in spans] == ["0", "1", "2"] * 2
    assert all(span.attributes["tag.tags"][0] == "late=x" for span in spans)
    with LogStore.open(location) as store:
        [first, other] = session_host(store).rows.ask(read_sent)
        assert (first.name, other.name) == (f"{receiver.url}/v1/traces", "other")
        assert first.spans == other.spans == 3
        assert first.logs == other.logs == 3
        assert first.position == other.position == store.log.head()


def test_a_store_that_cannot_be_written_goes_to_a_new_file_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere the position could not be kept, and every run would send all of it again."""
    path, file = tmp_path / "runs.db", tmp_path / "spans.jsonl"
    with LogStore(SQLiteBackend(path)) as store, store.session("p::one"):
        pass
    with LogStore.open(path, read_only=True) as store, OtlpReceiver() as receiver:
        from lllm import LogReadOnly
        from lllm.otel import OtelExport
        from lllm.otel.send_store import SendOptions, send_store

        host = session_host(store)
        settings = OtelExport(endpoint=receiver.url)

        def sent(options: SendOptions) -> int:
            look = host.reader.catch_up
            return send_store(host.log, host.rows, look, settings, options, print).spans

        with pytest.raises(LogReadOnly, match="remembered"):
            sent(SendOptions())
        assert sent(SendOptions(dry_run=True)) == 1
        assert sent(SendOptions(path=file)) == 1
        with pytest.raises(LogReadOnly):
            sent(SendOptions(path=file))
        with pytest.raises(LogReadOnly):
            store_sent(host.rows.database, SentPosition("x"))
    assert len(file.read_bytes().splitlines()) == 1
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert not receiver.requests
    capsys.readouterr()


def test_a_damaged_event_is_passed_over(tmp_path: Path) -> None:
    """The other sessions are sent, and the damaged one as far as it can be read."""
    path = tmp_path / "logs"
    with LogStore(LocalFileBackend(path)) as store:
        for number in range(3):
            with store.session(f"p::s{number}"):
                pass
    [segment] = path.glob("*.jsonl")
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[3] = b"x" * (len(lines[3]) - 1) + b"\n"
    segment.write_bytes(b"".join(lines))
    with OtlpReceiver() as receiver:
        send(path, receiver)
    assert [span.name[-2:] for span in receiver.all_spans] == ["s0", "s2"]


def test_an_entry_that_lllm_never_writes_is_passed_over(tmp_path: Path) -> None:
    """A negative position is that of nobody: all of it is sent."""
    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store, store.session("p::one"):
        pass
    with OtlpReceiver() as receiver:
        send(path, receiver)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE otel_sent SET position = -1")
        assert send(path, receiver) == 0
    assert len(receiver.all_spans) == 2


def test_long_sessions_leave_the_memory(tmp_path: Path) -> None:
    """When too much waits, the oldest session is dropped, and read again when it ends."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        with store.session("p::long") as long:
            for _ in range(5):
                with store.session("p::short", task="x" * 400):
                    pass
        events = list(store.log.read())
        waiting = WaitingEvents(store.log, most=1_500)
        ended = [found for event in events if (found := waiting.take(event)) is not None]
        assert [[event.seq for event in one] for one in ended] == [[1, 2]] * 6
        assert ended[-1][0].stream == long.session_id
        assert waiting._bytes == 0
        places = TracePlaces(waiting.start_of)
        assert places.of("unknown") is None
        assert places.of(long.session_id) == TracePlaces(waiting.start_of).of(long.session_id)
