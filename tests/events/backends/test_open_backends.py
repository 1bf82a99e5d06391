"""Stores by path and URL, and a backend of another package, which lllm has never heard of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from lllm import ConfigError, LocalFileBackend, LogStore, SQLiteBackend, StoreError
from lllm.events import backends
from lllm.events.backends import open_log
from lllm.events.backends.sqlite.database import Database
from lllm.events.log import BackendKind, KeepsRows, LogBackend, Recorded, open_rows
from tests.support import ROOT

TAPE = ROOT / "tests" / "support" / "tape" / "lllm_tape.py"

# What somebody who writes a backend puts into its tests.
CONTRACT = """
from lllm.events.backends import open_log
from lllm.testing import SharedLogContract

class TestTape(SharedLogContract):
    def open_log(self, folder):
        log = open_log(folder / "log.tape")
        assert type(log).__name__ == "TapeBackend"
        return log
"""

WRITE = """
import sys
from lllm import LogStore

with LogStore.open(sys.argv[1]) as store:
    for number in range(3):
        with store.session(f"tests::job{number}", tags={"n": str(number)}, task="t") as recorder:
            recorder.deliver(number)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in it, as pip installs it."""
    folder = tmp_path_factory.mktemp("tape")
    wheel = folder / "lllm_tape-1.0-py3-none-any.whl"
    info = "lllm_tape-1.0.dist-info"
    files = {
        "lllm_tape.py": TAPE.read_text(),
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: lllm-tape\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        f"{info}/entry_points.txt": "[lllm.backends]\ntape = lllm_tape:KIND\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in files))
    installed = folder / "site"
    install = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target"]
    subprocess.run([sys.executable, *install, str(installed), str(wheel)], check=True)
    return installed


def run(site: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the package installed."""
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_backend_of_another_package_passes_the_contract(site: Path, tmp_path: Path) -> None:
    """The suite that its author runs, opened by the path alone."""
    (tmp_path / "test_tape.py").write_text(CONTRACT)
    ran = run(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", ".", cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert " passed" in ran.stdout


# Runs commands one after the other, and says of each what it printed and its exit code.
COMMANDS = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from lllm.cli import main

for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(json.loads(line))
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.mark.parametrize("url", [False, True])
def test_every_command_works_on_it(site: Path, tmp_path: Path, url: bool) -> None:
    """ls, show, verify, doctor, backup and rebuild --check, though it has the four methods only."""
    store = f"tape://{tmp_path}/runs.tape" if url else "runs.tape"
    with commands(site, tmp_path) as ask:

        def command(*arguments: str, code: int = 0) -> str:
            ended, out, err = ask([*arguments, "--store", store])
            assert ended == code, (arguments, out, err)
            return out + err

        missing = command("ls", code=2)
        assert "There is no tape at" in missing
        assert missing.count("\n") == 1
        assert os.listdir(tmp_path) == []
        wrote = run(site, "-c", WRITE, store, cwd=tmp_path)
        assert wrote.returncode == 0, wrote.stderr
        assert sorted(os.listdir(tmp_path)) == ["runs.tape", "runs.tape.lock"]
        listed = json.loads(command("ls", "--json"))
        paths = [one["tactic_path"] for one in listed]
        assert paths == ["tests::job2", "tests::job1", "tests::job0"]
        assert "tests::job1" in command("ls")
        assert "success" in command("show", listed[0]["session_id"])
        assert "every digest fits" in command("verify")
        assert "nothing to repair" in command("repair")
        assert json.loads(command("doctor", "--json"))["log"]["kind"] == "TapeBackend"
        assert "TapeBackend" in command("doctor")
        assert "as the events say" in command("rebuild", "--check")
        command("backup", "copy")
        with LogStore.open(tmp_path / "copy", make=False) as copy:
            ids = [one.session_id for one in copy.list_sessions()]
            assert ids == [one["session_id"] for one in listed]
        with (tmp_path / "runs.tape").open("r+b") as file:
            file.seek(40)
            file.write(b"XX")
        command("verify", code=1)
        assert "not mended" in command("repair", code=1)


@contextmanager
def commands(site: Path, cwd: Path) -> Iterator[Callable[[list[str]], tuple[int, str, str]]]:
    """The command line in a process where the package is installed."""
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", COMMANDS], cwd=cwd, env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        asking, told = process.stdin, process.stdout

        def ask(arguments: list[str]) -> tuple[int, str, str]:
            asking.write(json.dumps(arguments) + "\n")
            asking.flush()
            code, out, err = json.loads(told.readline())
            return code, out, err

        yield ask
        asking.close()


def test_the_module_is_the_command_line(tmp_path: Path) -> None:
    """`python -m lllm`, where no script is on the path."""
    ran = run(tmp_path, "-m", "lllm", "--version", cwd=tmp_path)
    assert ran.stdout.startswith("lllm ")


# -- stores of lllm's own


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    backends._kinds.cache_clear()
    yield
    backends._kinds.cache_clear()


@pytest.mark.parametrize(
    ("location", "kind"),
    [("runs.db", SQLiteBackend), ("runs.sqlite3", SQLiteBackend), ("logs", LocalFileBackend),
     ("sqlite:///x", SQLiteBackend), (":memory:", SQLiteBackend), ("a.b/", LocalFileBackend)],
)  # fmt: skip
def test_a_new_store_is_what_its_name_says(location: str, kind: type) -> None:
    """A suffix or a scheme; any other name is a folder."""
    with LogStore.open(location, partition="p") as store:
        assert isinstance(store.backend, kind)
        assert store.partition == "p"


@pytest.mark.parametrize(("name", "backend"), [("runs", SQLiteBackend), ("x.db", LocalFileBackend)])
def test_what_is_there_is_recognised(
    name: str, backend: type[SQLiteBackend] | type[LocalFileBackend]
) -> None:
    """Whatever it is called."""
    backend(name).close()
    for make in (True, False):
        with LogStore.open(name, make=make) as store:
            assert isinstance(store.backend, backend)
    with LogStore.open(name, read_only=True) as store:
        assert store.read_only


@pytest.mark.parametrize("location", ["runs.db", "logs", "sqlite:///runs.db", "./logs/"])
def test_nothing_is_made_by_looking(tmp_path: Path, location: str) -> None:
    """make=False is an error where nothing is."""
    with pytest.raises(StoreError, match="There is no store at"):
        LogStore.open(location, make=False)
    assert os.listdir(tmp_path) == []


def test_what_is_no_store(tmp_path: Path) -> None:
    """A folder with other things in it and an empty file are left as they are."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"\xff")
    (tmp_path / "empty.db").touch()
    for make in (True, False):
        with pytest.raises(StoreError, match="folder without a log in it"):
            LogStore.open("photos", make=make)
        with pytest.raises(StoreError, match="empty file, and no store"):
            LogStore.open("empty.db", make=make)
    assert os.listdir(tmp_path / "photos") == ["a.jpg"]
    with pytest.raises(ConfigError, match="s3: is no kind of store"):
        LogStore.open("s3://bucket/x")


# -- rows of a backend of others


class FourMethods:
    """A log of its own, that keeps its rows in a file."""

    rows_in_log = False

    def __init__(self, folder: Path) -> None:
        self._log = LocalFileBackend(folder / "log")
        self._rows = open_rows(self, folder / "mine.sqlite")
        self.read_from: list[int] = []
        self.append, self.head = self._log.append, self._log.head

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """See LogBackend."""
        self.read_from.append(after)
        return self._log.read(after=after, upto=upto, stream=stream)

    def rows_database(self) -> Database:
        """See KeepsRows."""
        return self._rows

    def close(self) -> None:
        """See LogBackend."""
        self._log.close()
        self._rows.close()


def test_a_backend_of_others_keeps_its_rows(tmp_path: Path) -> None:
    """Rows of `open_rows` are there when it is opened again: nothing is read from the beginning."""
    log = FourMethods(tmp_path)
    assert isinstance(log, KeepsRows)
    assert isinstance(log, LogBackend)
    with LogStore(log) as store, store.session("p::t"):
        pass
    again = FourMethods(tmp_path)
    with LogStore(again) as store:
        assert [one.state for one in store.list_sessions()] == ["success"]
    assert 0 not in again.read_from


# -- the registry


def registered(monkeypatch: pytest.MonkeyPatch, **named: str) -> None:
    """Have these entry points installed."""
    found = EntryPoints(EntryPoint(name, value, backends.GROUP) for name, value in named.items())
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda *, group: found.select(group=group)
    )


GREEDY = BackendKind(name="greedy", open=backends._open_jsonl, suffixes=(".db",))
NO_KIND = "no kind"


def test_a_package_that_fails_keeps_no_store_shut(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its entry point is named in a log line, and other stores open."""
    registered(monkeypatch, broken="no_such_module_of_anybodys:KIND")
    open_log("runs.db").close()
    assert "'broken' (no_such_module_of_anybodys:KIND)" in caplog.text


@pytest.mark.parametrize(
    ("value", "match"),
    [(f"{__name__}:GREEDY", r"claims \.db, which 'sqlite' opens already"),
     (f"{__name__}:NO_KIND", "must be a BackendKind, not str")],
)  # fmt: skip
def test_kinds_that_can_not_be(monkeypatch: pytest.MonkeyPatch, value: str, match: str) -> None:
    """Which of two opens a store is never left to chance."""
    registered(monkeypatch, mine=value)
    with pytest.raises(ConfigError, match=match):
        open_log("runs.db")
