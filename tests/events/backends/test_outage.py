"""The disk fills, a file goes away: the call goes on, and what waits is written when it can be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lllm import LocalFileBackend, LogStore, LogUnavailable, SQLiteBackend
from lllm.events.log import LogBackend
from tests.support.echo import echo

KINDS = {"sqlite": SQLiteBackend, "jsonl": LocalFileBackend}

_FULL = """
import resource, signal, sys, warnings
from lllm import LocalFileBackend, LogStore, SQLiteBackend
from tests.support.echo import echo

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
kind, path = {"sqlite": SQLiteBackend, "jsonl": LocalFileBackend}[sys.argv[1]], sys.argv[2]
with warnings.catch_warnings(record=True) as caught, LogStore(kind(path)) as store:
    warnings.simplefilter("always")
    tactic = echo(store)
    tactic("while there is space")
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), unlimited[1]))
    for number in range(3):
        assert tactic(f"full {number} " + "x" * 100_000).startswith("full")
        assert len(store.list_sessions()) >= 1
    assert len(store.log.held) > 10, len(store.log.held)
    (one,) = [w for w in caught if "events wait in memory" in str(w.message)]
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert store.log.write_held(now=True)
    assert len(store.list_sessions(state="success")) == 4
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk(kind: str, tmp_path: Path) -> None:
    """While nothing can be written the calls go on with one warning, lists say what they know, and
    all events stand in the log, in order, once there is space again."""
    subprocess.run([sys.executable, "-c", _FULL, kind, str(tmp_path / "log"), "300000"], check=True)
    with LogStore(KINDS[kind](tmp_path / "log")) as store:
        sessions = store.list_sessions(state="success")
        tasks = [str(store.load_session(one.session_id).task)[:6] for one in reversed(sessions)]
        assert tasks == ["while ", "full 0", "full 1", "full 2"]
        assert store.rebuild(check=True).difference is None


def _without(path: Path) -> Path:
    """Take a log away, to another place."""
    aside = path.with_name("aside")
    aside.mkdir()
    for part in path.parent.glob(f"{path.name}*"):
        part.rename(aside / part.name)
    return aside


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_that_is_taken_away(kind: str, tmp_path: Path) -> None:
    """Events are not written to a file that nobody can find: they wait, and are written when it is
    back, or the closing says how many are lost."""
    path = tmp_path / "log"
    store = LogStore(KINDS[kind](path))
    echo(store)("there")
    aside = _without(path)
    with pytest.warns(RuntimeWarning, match=r"log.*(deleted|moved).*") as told:
        echo(store)("gone")
    assert len(told) == 1
    assert len(store.log.held) > 5
    assert not path.exists()
    for part in aside.iterdir():
        part.rename(tmp_path / part.name)
    assert store.log.write_held(now=True)
    assert len(store.list_sessions(state="success")) == 2
    store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_another_log_in_its_place(kind: str, tmp_path: Path) -> None:
    """A log that was replaced while it was open gets nothing of the other's, also at the end."""
    path, other = tmp_path / "log", tmp_path / "other"
    with LogStore(KINDS[kind](other)) as another:
        echo(another)("another's")
    store = LogStore(KINDS[kind](path))
    echo(store)("there")
    _without(path)
    for part in tmp_path.glob("other*"):
        part.rename(tmp_path / part.name.replace("other", "log"))
    replaced = LogStore(KINDS[kind](path))
    echo(replaced)("another's")
    with pytest.warns(RuntimeWarning, match="events wait"):
        echo(store)("lost")
    with pytest.warns(RuntimeWarning, match="they are lost"):
        store.close()
    assert len(replaced.list_sessions()) == 2
    echo(replaced)("another's")
    replaced.close()
    with LogStore(KINDS[kind](path)) as again:
        tasks = {again.load_session(one.session_id).task for one in again.list_sessions()}
        assert tasks == {"another's"}
        assert len(again.list_sessions()) == 3


def test_another_database_outlives_the_end_of_the_first(tmp_path: Path) -> None:
    """A process that ends takes nothing of the database that stands in its own one's place."""
    code = f"""
import sys
from lllm import LogStore, SQLiteBackend
from tests.support.echo import echo
store = LogStore(SQLiteBackend({str(tmp_path / "log")!r}))
echo(store)("there")
print("ready", flush=True)
sys.stdin.readline()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        _without(tmp_path / "log")
        with LogStore(SQLiteBackend(tmp_path / "log")) as store:
            echo(store)("another's")
            waiting = (tmp_path / "log-wal").stat()
            process.communicate(b"end\n")
            assert process.returncode == 0
            assert waiting.st_size > 0
            assert (tmp_path / "log-wal").stat().st_ino == waiting.st_ino
            echo(store)("another's")
    with LogStore(SQLiteBackend(tmp_path / "log")) as store:
        assert len(store.list_sessions(state="success")) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_stopping_at_once(kind: str, tmp_path: Path) -> None:
    """With on_error="raise" a call on a log that went away is LogUnavailable before any model is
    asked."""
    backend: LogBackend = KINDS[kind](tmp_path / "log")
    store = LogStore(backend, on_error="raise")
    tactic = echo(store)
    tactic("there")
    _without(tmp_path / "log")
    with pytest.raises(LogUnavailable, match=r"deleted|moved"):
        tactic("gone")
    store.close()
