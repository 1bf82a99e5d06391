"""Locks on files: whose turn it is."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from lllm.events.locks import FairLock, FileLock


def test_a_turn_needs_no_queue(tmp_path: Path) -> None:
    """Who has just had the lock takes it again at once, also while others queue up."""
    lock, queue = FairLock(tmp_path / "a.lock"), FileLock(tmp_path / "a.queue")
    lock._turn_ends = time.monotonic() + 60
    queue.acquire()
    assert lock.acquire()
    lock.release()
    queue.close()
    lock.close()


def test_whose_turn_has_ended_queues_up(tmp_path: Path) -> None:
    """Who has had its turn waits behind those that queue for theirs, though the lock is free."""
    lock, queue = FairLock(tmp_path / "a.lock"), FileLock(tmp_path / "a.queue")
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
    lock, queue = FairLock(tmp_path / "a.lock"), FileLock(tmp_path / "a.queue")
    queue.acquire()
    assert lock.acquire()
    queue.close()
    lock.close()


def test_what_cannot_wait_does_not_queue(tmp_path: Path) -> None:
    """Without waiting, a free lock is had and a held one is not, whoever queues."""
    lock, other = FairLock(tmp_path / "a.lock"), FairLock(tmp_path / "a.lock")
    queue = FileLock(tmp_path / "a.queue")
    queue.acquire()
    assert lock.acquire(wait=False)
    assert not other.acquire(wait=False)
    for one in (queue, lock, other):
        one.close()
