"""An SQLite store that is open keeps its locks, whatever else its process does with the file.

POSIX drops every lock that a process holds on a file as soon as the process closes any descriptor
of it (https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_).
Without its locks, a writer is unseen by others: the next program that closes the database removes
the write-ahead log from under it, with all that is acknowledged later.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lllm import LogStore, SQLiteBackend

# Each is done in the process that has the store open, where `store`, `path` (of the file), `tmp` (a
# folder) and `session` (an id) are at hand.
OPERATIONS = {
    "nothing": "pass",
    "open_read_only": "SQLiteBackend(path, read_only=True).close()",
    "open_a_read_only_store": """
        with LogStore(SQLiteBackend(path, read_only=True)) as other:
            assert other.list_sessions()
            other.load_session(session)
    """,
    "open_another_store": """
        with LogStore(SQLiteBackend(path)) as other:
            assert other.list_sessions()
    """,
    "open_by_a_relative_path": """
        os.chdir(path.parent)
        with LogStore(SQLiteBackend(path.name)) as other:
            other.list_sessions()
    """,
    "open_by_a_link_to_its_folder": """
        (tmp / "linked").symlink_to(path.parent)
        for read_only in (False, True):
            with LogStore(SQLiteBackend(tmp / "linked" / path.name, read_only=read_only)) as other:
                other.list_sessions()
    """,
    "open_by_a_link_to_the_file": """
        (tmp / "linked.db").symlink_to(path)
        for read_only in (False, True):
            with LogStore(SQLiteBackend(tmp / "linked.db", read_only=read_only)) as other:
                assert other.list_sessions()
    """,
    "open_where_the_locks_are_gone": """
        os.rename(f"{path}-lllm", tmp / "aside")
        SQLiteBackend(path).close()
        SQLiteBackend(path, read_only=True).close()
    """,
    "fail_to_open_what_is_beside_it": """
        for suffix in ("-wal", "-shm"):
            for read_only in (False, True):
                try:
                    SQLiteBackend(f"{path}{suffix}", read_only=read_only)
                except LogError:
                    continue
                raise AssertionError(suffix)
    """,
    "fail_to_open_as_another_kind": """
        for read_only in (False, True):
            try:
                LocalFileBackend(path, read_only=read_only)
            except LogError:
                continue
            raise AssertionError
    """,
    "fail_to_open_a_newer_format": """
        from lllm.events.backends.sqlite.database import Database
        from lllm.events.backends.sqlite.read_only import ReadOnlyDatabase
        lock = Path(f"{path}-lllm") / "write.lock"
        for attempt in (
            lambda: Database(path, lock=lock, version=0),
            lambda: ReadOnlyDatabase(path, writers=lock, version=0),
        ):
            try:
                attempt()
            except LogTooNew:
                continue
            raise AssertionError
    """,
    "doctor": "examine(store, thorough=True)",
    "doctor_read_only": """
        with LogStore(SQLiteBackend(path, read_only=True)) as other:
            examine(other, thorough=True)
    """,
    "verify": "assert not verify(store.backend).damages",
    "verify_read_only": """
        with contextlib.closing(SQLiteBackend(path, read_only=True)) as log:
            assert not verify(log).damages
    """,
    "backup": "store.backup(tmp / 'copy.db')",
    "backup_read_only": """
        with LogStore(SQLiteBackend(path, read_only=True)) as other:
            other.backup(tmp / "copy.db")
    """,
    "fail_to_back_up": """
        for to in (path, path.parent, tmp / "no" / "folder"):
            try:
                store.backup(to)
            except LogError:
                continue
            raise AssertionError
    """,
    "export": """
        store.export_session(session)
        store.export_session(session, format="jsonl")
        store.export_cost_summary()
    """,
    "rebuild": "store.rebuild(); store.rebuild(check=True)",
    "follow": "next(store.follow(after=0))",
    "checkpoint": """
        database = store.backend.database._shared
        database._writer.wal.checkpoint_at = 1
        database._writer.checkpoint()
    """,
    "collected": """
        LogStore(SQLiteBackend(path)).list_sessions()
        gc.collect()
    """,
    "fork": """
        child = os.fork()
        if child == 0:
            store.list_sessions()
            store.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        store.list_sessions()
    """,
    "command_line": """
        for words in ("ls", "ls --json", f"show {session}", f"events {session}", "verify",
                      f"export {session}", "doctor", "doctor --thorough", "rebuild", "cost",
                      "rebuild --check", f"tag {session} c=d", f"backup {tmp / 'copied.db'}"):
            command, *rest = words.split()
            with contextlib.redirect_stdout(io.StringIO()) as said:
                assert main([command, "--store", str(path), *rest]) == 0, (words, said.getvalue())
    """,
}
_PRELUDE = """
import contextlib, gc, io, json, os, signal, subprocess, sys
from pathlib import Path
from lllm import LocalFileBackend, LogError, LogStore, LogTooNew, SQLiteBackend
from lllm.cli import main
from lllm.doctor.examine import examine
from lllm.events.integrity.verify import verify
from tests.support.echo import echo

path, tmp = Path(sys.argv[1]), Path(sys.argv[2])
store = LogStore(SQLiteBackend(path))
echo(store)("task", tags={"a": "b"})
session = store.list_sessions()[0].session_id
"""
_FOREIGN = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT count(*) FROM events").fetchone()
connection.close()
"""
_REST = f"""
subprocess.run([sys.executable, "-c", {_FOREIGN!r}, str(path)], check=True)
for number in range(10):
    print(store.save_error(ValueError(str(number))), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
_LISTENING = """
opened = []
def listen(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        opened.append(os.path.realpath(os.fsdecode(arguments[0])))
sys.addaudithook(listen)
"""
_TOLD = """
print(json.dumps([one for one in opened if one.startswith(os.path.realpath(path))]), flush=True)
"""


def run(code: str, place: Path) -> subprocess.CompletedProcess[str]:
    """A process that has a store open and runs some code beside it."""
    for folder in ("place", "tmp"):
        (place / folder).mkdir()
    arguments = [str(place / "place" / "runs.db"), str(place / "tmp")]
    return subprocess.run(
        [sys.executable, "-c", _PRELUDE + code, *arguments],
        capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_acknowledged_later_outlives_the_process(operation: str, tmp_path: Path) -> None:
    """The store is open, its process does something of ours with the file, another program opens
    and closes it: what is appended then is there after a SIGKILL."""
    ran = run(textwrap.dedent(OPERATIONS[operation]) + _REST, tmp_path)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    acknowledged = ran.stdout.split()
    assert len(acknowledged) == 10
    with LogStore(SQLiteBackend(tmp_path / "place" / "runs.db")) as store:
        for stream in acknowledged:
            assert len(list(store.events(stream))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_descriptor_of_the_live_file_is_opened(operation: str, tmp_path: Path) -> None:
    """Python itself never opens the file, its -wal or its -shm: SQLite alone knows when one of them
    may be closed."""
    code = _LISTENING + textwrap.dedent(OPERATIONS[operation]) + _TOLD
    ran = run(code, tmp_path)
    assert ran.returncode == 0, ran.stderr
    path = os.path.realpath(tmp_path / "place" / "runs.db")
    opened = set(json.loads(ran.stdout.splitlines()[-1]))
    assert opened.isdisjoint({path, f"{path}-wal", f"{path}-shm"})
