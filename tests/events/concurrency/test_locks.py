"""Locks between processes and between threads: whose turn it is."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from lllm.events.backends.sqlite.database import Database
from lllm.events.concurrency import decoders, fork_handlers, late_imports
from lllm.events.concurrency.fair_locks import FairFileLock, FairThreadLock
from lllm.events.concurrency.locks import FileLock
from lllm.events.concurrency.robust_locks import RobustLock
from lllm.events.errors import LogUnavailable
from lllm.packages import loader
from lllm.projections.engine import projector, rebuild


def test_a_turn_needs_no_queue(tmp_path: Path) -> None:
    """Who has just had the lock takes it again at once, also while others queue up."""
    lock, queue = FairFileLock(tmp_path / "a.lock"), FileLock(tmp_path / "a.queue")
    lock._turn_ends = time.monotonic() + 60
    queue.acquire()
    assert lock.acquire()
    lock.release()
    queue.close()
    lock.close()


def test_whose_turn_has_ended_queues_up(tmp_path: Path) -> None:
    """Who has had its turn waits behind those that queue for theirs, though the lock is free."""
    lock = FairFileLock(tmp_path / "a.lock", turn=60, patience=60)
    queue = FileLock(tmp_path / "a.queue")
    lock._turn_ends = time.monotonic()
    queue.acquire()
    had = threading.Event()

    def take() -> None:
        lock.acquire()
        had.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not had.wait(0.05)
    queue.release()
    thread.join()
    assert had.is_set()
    assert queue.acquire(wait=False)  # whoever has its turn leaves the queue to the next
    queue.close()
    lock.close()


def test_who_comes_seldom_needs_no_queue(tmp_path: Path) -> None:
    """Who has not had the lock for a while takes it when it is free."""
    lock, queue = FairFileLock(tmp_path / "a.lock"), FileLock(tmp_path / "a.queue")
    queue.acquire()
    assert lock.acquire()
    queue.close()
    lock.close()


def test_what_cannot_wait_does_not_queue(tmp_path: Path) -> None:
    """Without waiting, a free lock is had and a held one is not, whoever queues."""
    lock, other = FairFileLock(tmp_path / "a.lock"), FairFileLock(tmp_path / "a.lock")
    queue = FileLock(tmp_path / "a.queue")
    queue.acquire()
    assert lock.acquire(wait=False)
    assert not other.acquire(wait=False)
    for one in (queue, lock, other):
        one.close()


def held_by_another(lock: FairThreadLock, took: list[str], name: str) -> threading.Thread:
    """A thread that waits for a lock, and notes when it has had it."""

    def take() -> None:
        with lock:
            took.append(name)

    thread = threading.Thread(target=take)
    thread.start()
    while not lock._waiting:
        time.sleep(0.001)
    return thread


def test_a_thread_whose_turn_has_ended_lets_others_go_first() -> None:
    """Who gives the lock back and wants it again has it after those that waited."""
    lock = FairThreadLock(turn=0)
    took: list[str] = []
    lock.acquire()
    thread = held_by_another(lock, took, "other")
    lock.release()
    with lock:
        took.append("again")
    thread.join()
    assert took == ["other", "again"]


def test_a_thread_in_its_turn_goes_on() -> None:
    """A turn has room for many: others are not let in between two."""
    lock = FairThreadLock(turn=60)
    took: list[str] = []
    with lock:
        lock.acquire()  # it is never free, so that nobody can be quicker
        thread = held_by_another(lock, took, "other")
        lock.release()
        with lock:
            took.append("again")
    thread.join()
    assert took == ["again", "other"]


def test_a_thread_never_waits_for_itself() -> None:
    """Who has the lock may take it again, also when its turn is over and others wait."""
    lock = FairThreadLock(turn=0)
    took: list[str] = []
    with lock:
        thread = held_by_another(lock, took, "other")
        with lock, lock:
            took.append("inside")
    thread.join()
    assert took == ["inside", "other"]
    with lock:  # nothing is left behind
        pass
    assert lock._claims == {}


def test_a_thread_stops_waiting() -> None:
    """A lock that others hold longer than one will wait is not had, and can be had later."""
    lock = FairThreadLock()
    had: list[bool] = []

    def take(timeout: float) -> None:
        had.append(lock.acquire(timeout=timeout))
        if had[-1]:
            lock.release()

    with lock:
        for timeout in (0.0, 0.01):
            thread = threading.Thread(target=take, args=(timeout,))
            thread.start()
            thread.join()
    take(0.0)
    assert had == [False, False, True]
    assert (lock._claims, lock._waiting) == ({}, set())


def test_threads_exclude_each_other() -> None:
    """However short the turns, one thread at a time has it, and none is forgotten."""
    lock = FairThreadLock(turn=1e-6)
    inside = total = 0

    def count() -> None:
        nonlocal inside, total
        for number in range(2_000):
            timeout = -1 if number % 3 else 0.0
            if lock.acquire(timeout=timeout):
                with lock:
                    inside += 1
                    assert inside == 1
                    total += 1
                    inside -= 1
                lock.release()

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(count) for _ in range(8)]:
            future.result()
    assert total >= 8 * 1_333
    assert (lock._claims, lock._waiting) == ({}, set())


def test_a_lock_of_rows_that_can_not_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever projects or rebuilds is told with an error of lllm's where the file of its lock can't
    be opened, or the file system has no locks."""
    (tmp_path / "file").touch()
    nowhere = tmp_path / "file" / "a.lock"
    with closing(Database(tmp_path / "a.db", lock=tmp_path / "a.lock", version=1)) as database:
        database.lock_folder = nowhere.parent
        with pytest.raises(LogUnavailable):
            database.process_lock(nowhere.name)
    with monkeypatch.context() as patched:
        patched.setattr(FileLock, "acquire", _no_locks)
        with (
            pytest.raises(LogUnavailable, match="No locks"),
            rebuild.only_rebuild(FileLock(tmp_path / "a.lock")),
        ):
            pass


def _no_locks(_: FileLock) -> bool:
    raise OSError(errno.ENOLCK, "No locks available")


def test_who_waits_for_another_process_sleeps(tmp_path: Path) -> None:
    """Waiting for a lock costs next to no time of the processor."""
    lock, other = FairFileLock(tmp_path / "a.lock"), FileLock(tmp_path / "a.lock")
    assert other.acquire()
    began = time.thread_time()
    assert not lock.take(time.monotonic(), 0.3)
    assert time.thread_time() - began < 0.15
    other.close()
    lock.close()


def test_loads_pause_before_imports_and_these_before_decoders() -> None:
    """A fork takes them in the order in which one may need another, so no two wait in a ring."""
    order = {thing: order for order, things in fork_handlers._pausable.items() for thing in things}
    assert order[loader._one_load] < order[late_imports._one] < order[decoders._one]


def test_the_lock_of_who_projects_keeps_no_file_open(tmp_path: Path) -> None:
    """Its file is open as long as it is held, and not until somebody collects it."""
    file = FileLock(tmp_path / "project.lock")
    held = projector._Alone(RobustLock(), file, 1.0)
    frame = sys._getframe()
    assert held.enter(frame)
    fd = file._fd
    assert fd is not None
    held.exit()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
