"""Which writers are known to be dead: those whose lock is free, on this host, and nobody else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from lllm.events.concurrency.liveness import Liveness, host

HOLDER = """
import sys, time
from pathlib import Path
from lllm.events.concurrency.liveness import Liveness
liveness = Liveness(Path(sys.argv[1]))
owner = liveness.owner()
if len(sys.argv) > 2:
    import os
    if os.fork() > 0:
        time.sleep(600)
print(owner, flush=True)
sys.stdout.close()
time.sleep(600)
"""


def holder(folder: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """A process that holds an owner lock, and the owner's name."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), *options],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    owner = process.stdout.readline().strip()
    process.stdout.close()
    return process, owner


def test_a_process_is_dead_once_it_is(tmp_path: Path) -> None:
    """While a process lives its lock can't be had; after kill -9 it can."""
    process, owner = holder(tmp_path)
    here = Liveness(tmp_path)
    assert not here.is_dead(owner, host())
    process.kill()
    process.wait()
    assert here.is_dead(owner, host())
    assert here.is_dead(owner, host())
    here.forget(owner)
    assert not here.is_dead(owner, host())


def test_a_forked_child_does_not_keep_its_parent_alive(tmp_path: Path) -> None:
    """A child that outlives its parent has closed the parent's lock."""
    process, owner = holder(tmp_path, "fork")
    process.kill()
    process.wait()
    try:
        assert Liveness(tmp_path).is_dead(owner, host())
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_another_host_is_never_dead(tmp_path: Path) -> None:
    """A lock that is free here says nothing about a process on another machine."""
    process, owner = holder(tmp_path)
    process.kill()
    process.wait()
    assert not Liveness(tmp_path).is_dead(owner, "elsewhere")


def test_a_copied_store_declares_nobody_dead(tmp_path: Path) -> None:
    """The locks in a copy are free, and are not the ones that the writers hold."""
    process, owner = holder(tmp_path / "original")
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    assert not Liveness(tmp_path / "copy").is_dead(owner, host())
    process.kill()
    process.wait()
    assert not Liveness(tmp_path / "copy").is_dead(owner, host())


def test_this_process_is_alive(tmp_path: Path) -> None:
    """A process never takes itself for dead, and has one lock however often it asks."""
    here = Liveness(tmp_path)
    assert here.owner() == here.owner()
    assert not here.is_dead(here.owner(), host())
    assert not Liveness(tmp_path).is_dead(here.owner(), host())


def test_owners_that_are_no_names(tmp_path: Path) -> None:
    """An owner that an attacker wrote never becomes a path elsewhere."""
    outside = tmp_path / "outside.lock"
    outside.write_text("")
    here = Liveness(tmp_path / "locks")
    here.owner()
    for owner in ("../outside", "/etc/passwd", "", "a\0b", "x" * 5000):
        assert not here.is_dead(owner, host())
        here.forget(owner)
    assert outside.exists()


def test_closing_removes_the_lock_unless_sessions_are_open(tmp_path: Path) -> None:
    """A closed owner leaves no file; one that leaves sessions open leaves the file that tells."""
    here = Liveness(tmp_path)
    owner = here.owner()
    here.close()
    assert list(tmp_path.iterdir()) == []
    owner = here.owner()
    here.close(keep_file=True)
    assert here.is_dead(owner, host())
