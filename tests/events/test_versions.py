"""Two versions of the library on one log, each going on with what it can read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from tests.support.echo import echo

KINDS = {"sqlite": SQLiteBackend, "jsonl": LocalFileBackend}

# What a release does that changes an event: another version, and the step from the one before.
_NEWER = """
import sys
from lllm.events import codec, model
model.LLMResponded.version = 2
codec.UPCASTERS["llm.responded", 1] = lambda payload: payload | {"finish": "lifted"}

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from tests.support.echo import echo
kind = {"sqlite": SQLiteBackend, "jsonl": LocalFileBackend}[sys.argv[1]]
with LogStore(kind(sys.argv[2])) as store:
    if sys.argv[3] == "write":
        echo(store)("newer")
    tasks = [str(store.load_session(one.session_id).task) for one in store.list_sessions()]
    calls, lag = store.export_cost_summary()["calls"], store.lag
    print(*tasks, calls, lag, store.rebuild(check=True).difference)
"""


def newer(kind: str, path: Path, what: str) -> str:
    """What a process with the newer library says of the log."""
    told = subprocess.run(
        [sys.executable, "-c", _NEWER, kind, path, what], check=True, capture_output=True, text=True
    )
    return told.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_versions_on_one_log(kind: str, tmp_path: Path) -> None:
    """The newer one reads all that the older wrote; the older one reads what it can, leaves the
    newer one's rows alone, and what it writes beside them is not lost."""
    path = tmp_path / "log"
    with LogStore(KINDS[kind](path)) as older:
        echo(older)("first")
        assert newer(kind, path, "write") == "newer first 2 0 None"
        listed = older.list_sessions()
        assert [one.state for one in listed] == ["success", "success"]
        assert [one.calls for one in listed] == [1, 1]
        loaded = older.load_session(listed[0].session_id)
        assert (loaded.task, loaded.state, loaded.delivery) == ("newer", "success", "newer")
        session = echo(older)("older", return_session=True)
        assert (session.task, session.state) == ("older", "success")
        assert older.lag > 0
        checked = set(older.rebuild(check=True).views)  # those that the newer one did not build
        assert checked >= {"sessions", "tags"}
        assert not checked & {"costs", "calls"}
    with LogStore(KINDS[kind](path)) as older:
        assert len(older.list_sessions()) == 3
    assert newer(kind, path, "read") == "older newer first 3 0 None"
    with LogStore(KINDS[kind](path)) as older:
        assert [one.calls for one in older.list_sessions()] == [1, 1, 1]
