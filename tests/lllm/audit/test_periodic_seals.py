"""A service seals its log again and again, and never notices."""

from __future__ import annotations

import datetime as dt
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lllm import AuditError, ConfigError, LocalFileBackend, LogStore, SQLiteBackend
from lllm.audit.keys import PrivateKey, write_key_files
from lllm.audit.sealing import read_anchor
from lllm.cli import main
from lllm.events.backend import LogBackend

KEY = PrivateKey("example.com/log", b"k" * 32)


def opened(kind: str, folder: Path) -> LogBackend:
    """A log in a folder."""
    return (
        SQLiteBackend(folder / "runs.db") if kind == "sqlite" else LocalFileBackend(folder / "logs")
    )


def wait(until: Callable[[], object]) -> None:
    """Wait for another thread or process."""
    for _ in range(1_000):
        if until():
            return
        time.sleep(0.02)
    raise AssertionError("nothing happened")


def seals(folder: Path) -> list[Path]:
    """The seals in a folder, the smallest log first."""
    return sorted(one for one in folder.glob("*") if not one.name.startswith("."))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
def test_while_a_service_runs(kind: str, here: Path, tmp_path: Path) -> None:
    """New events are sealed, nothing twice, the last ones at the end; all fit, and are signed."""
    there, key = tmp_path / "there", tmp_path / "key"
    write_key_files(key, KEY)
    store = LogStore(opened(kind, here), seal_every=0.02, seal_to=there, seal_key=key)
    with store:
        for count in range(1, 4):
            with store.session("work"):
                pass
            wait(lambda count=count: len(seals(there)) >= count)
        time.sleep(0.1)  # nothing new
        known = len(seals(there))
        with store.session("work"):
            pass
    assert len(seals(there)) in (known + 1, known + 2)
    anchors = [read_anchor(one, [KEY.public]) for one in seals(there)]
    assert [one.verdict for one in anchors] == ["good"] * len(anchors)
    sizes = [one.checkpoint.size for one in anchors]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == 8
    path = here / ("runs.db" if kind == "sqlite" else "logs")
    options = [text for one in seals(there) for text in ("--checkpoint", str(one))]
    assert main(["verify", "--store", str(path), *options, "--key", f"{key}.pub"]) == 0


def test_nothing_breaks_the_program(
    here: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no seal can be written, that is logged once, and tried again."""
    there = tmp_path / "there"
    there.write_text("in the way")
    with (
        caplog.at_level(logging.WARNING, "lllm.store"),
        LogStore(opened("sqlite", here), seal_every=dt.timedelta(seconds=0.02), seal_to=there)
        as store,
    ):  # fmt: skip
        with store.session("work"):
            pass
        wait(lambda: caplog.records)
        time.sleep(0.1)
        assert len(caplog.records) == 1
        assert "could not be sealed" in caplog.text
        there.unlink()
        wait(lambda: there.is_dir() and seals(there))
    assert len(seals(there)) == 1


def test_another_root_is_said(here: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A seal of as many events that are others stays, and the log is not sealed over it."""
    there = tmp_path / "there"
    there.mkdir()
    (there / "000000000002-0000000000000000").write_text("earlier")
    store = LogStore(opened("sqlite", here), seal_every="1h", seal_to=there)
    with store, store.session("work"):
        pass
    assert "another root" in caplog.text
    assert [one.read_text() for one in seals(there)] == ["earlier"]


def test_options(here: Path, tmp_path: Path) -> None:
    """What is missing, invalid or beside the store is an error that says so, and no store opens."""
    there = tmp_path / "there"
    for options in (
        {"seal_every": 60}, {"seal_to": there}, {"seal_every": 0, "seal_to": there},
        {"seal_every": "soon", "seal_to": there}, {"seal_every": -1, "seal_to": there},
        {"seal_every": None, "seal_key": KEY},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            LogStore(opened("sqlite", here), **options)  # type: ignore[arg-type]
    for options in (
        {"seal_to": here}, {"seal_to": here / "logs"}, {"seal_to": there, "seal_key": here / "key"},
        {"seal_to": there, "seal_key": there / "no key"},
    ):  # fmt: skip
        with pytest.raises(AuditError):
            LogStore(opened("jsonl", here), seal_every=60, **options)  # type: ignore[arg-type]
    assert not there.exists()


def test_another_process_seals_too(here: Path, tmp_path: Path) -> None:
    """The settings go along where a store is pickled; a key in memory does not."""
    there = tmp_path / "there"
    with LogStore(opened("sqlite", here), seal_every=60, seal_to=there) as store:
        sent = pickle.dumps(store)
    run = (
        "import pickle, sys\n"
        "with pickle.loads(sys.stdin.buffer.read()) as store:\n"
        "    with store.session('work'): pass\n"
    )
    subprocess.run([sys.executable, "-c", run], input=sent, check=True, timeout=60)
    assert len(seals(there)) == 1
    with (
        LogStore(opened("sqlite", here), seal_every=60, seal_to=there, seal_key=KEY) as store,
        pytest.raises(TypeError, match="private key can't be pickled"),
    ):
        pickle.dumps(store)


FORKED = """
import os, sys, time
from pathlib import Path
from lllm import LogStore, SQLiteBackend
there = Path(sys.argv[2])
store = LogStore(SQLiteBackend(sys.argv[1]), seal_every=0.02, seal_to=there)
with store.session("of the parent"):
    pass
while not list(there.glob("0*")):
    time.sleep(0.01)
child = os.fork()
with store.session("of both"):
    pass
if child == 0:
    assert store._host._seals._stop is not None  # a thread of its own
    while not list(there.glob("000000000006-*")):
        time.sleep(0.01)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("sealed", flush=True)
with store.session("killed"):
    while True:
        time.sleep(0.01)
"""


def test_forks_and_kill_9(here: Path, tmp_path: Path) -> None:
    """Parent and child go on sealing; what was sealed when the process is killed is whole."""
    there, path = tmp_path / "there", here / "runs.db"
    service = subprocess.Popen(
        [sys.executable, "-c", FORKED, str(path), str(there)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert service.stdout is not None
        assert service.stdout.readline() == "sealed\n"
        wait(lambda: list(there.glob("000000000007-*")))
    finally:
        os.kill(service.pid, signal.SIGKILL)
        service.wait()
        if service.stdout is not None:
            service.stdout.close()
    options = [text for one in seals(there) for text in ("--checkpoint", str(one))]
    assert main(["verify", "--store", str(path), *options]) == 0
