"""A store moves from one backend to another; the backup of one in PostgreSQL is a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from benchmarks.generate import fill
from lllm import (
    ImportRefused,
    LocalFileBackend,
    LogStore,
    PostgresBackend,
    SQLiteBackend,
)
from lllm.cli import main
from lllm.events.backend import LogBackend
from lllm.events.envelope import NewEvent
from lllm.events.integrity.verify import verify
from tests.support import analyst_data
from tests.support.postgres import new_schema, server
from tests.support.waiting import HANG


def write(store: LogStore) -> dict[str, str]:
    """Sessions of all kinds, and statements about them; the ids of some."""
    fill(store.backend, 8)
    ids = analyst_data.fill(store.backend)
    analyst_data.tag(store.backend, ids["october"], "team", "green")
    store.annotate(ids["november"], name="correct", value=True, by="ada")
    store.hold(ids["november"], reason="a case", by="ada")
    store.save_error(ValueError("outside of any session"))
    store.erase_session(ids["unpriced"], reason="asked", by="ada")
    return ids


def moved(log: LogBackend, but: str = "") -> list[NewEvent]:
    """All events in their order without positions, but those of one session or about it."""
    found = [event.without_position() for event in log.read()]
    return [one for one in found if not but or (one.stream != but and but.encode() not in one.data)]


def test_a_store_moves_around(tmp_path: Path) -> None:
    """From SQLite to PostgreSQL, to JSON lines and back to SQLite: every event arrives as it was
    and in its order, so seals fit, and lists, sums and tables are the same. What was erased does
    not move, and is named."""
    with ExitStack() as stack:
        first = before = stack.enter_context(LogStore(SQLiteBackend(tmp_path / "first.db")))
        ids = write(first)
        original = moved(first.log, but=ids["unpriced"])
        for backend in (
            PostgresBackend(server().url(new_schema())),
            LocalFileBackend(tmp_path / "logs"),
            SQLiteBackend(tmp_path / "last.db"),
        ):
            store = stack.enter_context(LogStore(backend))
            if before is first:
                with pytest.raises(ImportRefused, match=f"{ids['unpriced']} was erased there"):
                    store.import_sessions(before.backend)
            else:
                store.import_sessions(before.backend)
            assert moved(store.log) == original
            assert verify(store.backend).is_sound
            assert store.load_session(ids["october"]) == first.load_session(ids["october"])
            assert store.annotations([ids["november"]]) == first.annotations([ids["november"]])
            assert len(store.holds(ids["november"])) == 1
            for table in ("attempts", "messages", "tools", "calls"):
                assert store.to_arrow(table) == before.to_arrow(table)
            before = store
        assert before.import_sessions(tmp_path / "logs").events == 0


def test_the_backup_of_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is one SQLite file that opens by itself, with its rows: the same events in the same order,
    so that a seal of the original fits; nothing is appended to it."""
    url, copy = server().url(new_schema()), tmp_path / "copy.db"
    with LogStore.open(url) as store:
        ids = write(store)
        listed = [one.session_id for one in store.list_sessions()]
        original = [event.without_position() for event in store.log.read()]
        sealed = store.seal()
        assert main(["backup", str(copy), "--store", url]) == 0
        assert "seals" not in capsys.readouterr().out
        assert store.archive(before="2100-01-01", to=tmp_path / "old", by="ada").sessions
        assert main(["backup", str(tmp_path / "later.db"), "--store", url]) == 0
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "later.db", "old"]
    assert "earlier seals don't fit it" in capsys.readouterr().out
    with LogStore(SQLiteBackend(copy, read_only=True)) as opened:
        assert opened.lag == 0
        assert [event.without_position() for event in opened.log.read()] == original
        assert [event.position for event in opened.log.read()] == [*range(1, len(original) + 1)]
        assert [one.session_id for one in opened.list_sessions()] == listed
        assert opened.load_session(ids["november"]).state == "success"
        assert len(opened.search("Three")) > 0
    (tmp_path / "seal.txt").write_text(sealed)
    capsys.readouterr()
    seal = ["--checkpoint", str(tmp_path / "seal.txt")]
    assert main(["verify", "--store", str(copy), "--json", *seal]) == 0
    assert json.loads(capsys.readouterr().out)["events"] == len(original)
    with LogStore(SQLiteBackend(copy)) as opened:  # and from it, sessions can be archived
        archived = opened.archive(before="2100-01-01", to=tmp_path / "old", by="ada").sessions
        assert ids["october"] in archived
        assert ids["november"] not in archived  # a hold keeps it
    with LogStore.open(tmp_path / "old") as old:
        assert old.load_session(ids["october"]).state == "success"


_BACKUP = (
    "import sys; from lllm.cli import main; main(['backup', sys.argv[1], '--store', sys.argv[2]])"
)


@pytest.mark.slow
def test_a_killed_backup_of_a_server(tmp_path: Path) -> None:
    """There is no copy then, or a whole one; the next backup clears what it left."""
    url, copy = server().url(new_schema()), tmp_path / "copy.db"
    with closing(PostgresBackend(url)) as log:
        fill(log, 300)
        for wait in (0.0, 0.1, 0.3):
            process = subprocess.Popen([sys.executable, "-c", _BACKUP, str(copy), url])
            until = time.monotonic() + HANG
            draft = tmp_path / "copy.db.partial" / "copy"
            while not draft.exists() and process.poll() is None and time.monotonic() < until:
                time.sleep(0.001)
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            process.wait(HANG)
            if copy.exists():  # it was done before
                _check_whole(copy)
        with LogStore(log) as store:
            store.backup(copy)
    _check_whole(copy)
    assert os.listdir(tmp_path) == []


def _check_whole(copy: Path) -> None:
    """Check a copy, and delete it."""
    with closing(SQLiteBackend(copy, read_only=True)) as made:
        assert verify(made).is_sound
    copy.unlink()
