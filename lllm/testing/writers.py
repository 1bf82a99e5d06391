"""Writers for the test suite of backends: in threads, processes and forks.

Everything here is defined at the top level, so that it can be sent to another process by pickle.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TypeVar

from lllm.events.backend import LogBackend
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import AppendConflict

T = TypeVar("T")
OpenLog = Callable[[Path], LogBackend]

WRITERS = 8  # threads or processes at a time
PATIENCE = 60.0  # seconds of waiting, after which a test fails


def event(
    stream: str, seq: int, data: bytes = b"{}", *, type_: str = "test.happened", time: int = 0
) -> NewEvent:
    """Make an event; the same arguments give the same digest.

    Args:
        stream: The name of the stream.
        seq: The number of the event in the stream, from 1.
        data: The payload.
        type_: The type of the event.
        time: Nanoseconds UTC.

    Returns:
            The event to append.
    """
    return seal(b"", stream, seq, time, type_, 1, data)


def batch(stream: str, number: int, size: int = 3) -> list[NewEvent]:
    """Make the events of one append.

    Args:
        stream: The name of the stream.
        number: The number of the append in the stream, from 0.
        size: The number of events.

    Returns:
            The events, which follow those of the append before.
    """
    first = number * size + 1
    return [event(stream, seq, b'{"append":%d}' % number) for seq in range(first, first + size)]


def without_positions(events: Iterable[Recorded]) -> list[NewEvent]:
    """Convert events that were read to the form in which they were appended.

    Args:
        events: The events as a log returned them.

    Returns:
            The same events without their positions.
    """
    return [one.without_position() for one in events]


def append_batches(log: LogBackend, stream: str, count: int) -> list[int]:
    """Append a number of batches to one stream.

    Args:
        log: The log to append to.
        stream: The name of the stream.
        count: The number of batches.

    Returns:
        The positions of all events that were appended.
    """
    return [position for n in range(count) for position in log.append(batch(stream, n))]


def append_in_process(open_log: OpenLog, folder: Path, number: int) -> list[int]:
    """Append a stream of this process's own, at the same time as other processes.

    Args:
        open_log: A function that opens the log in a folder.
        folder: The folder of the log.
        number: The number of the process.

    Returns:
        The positions of all events that were appended.
    """
    log = open_log(folder)
    _wait_for_all()
    positions = append_batches(log, f"s{number}", 25)
    log.close()
    return positions


def race_in_process(open_log: OpenLog, folder: Path, number: int) -> tuple[list[int], list[int]]:
    """Try to be the first to write some streams.

    Args:
        open_log: A function that opens the log in a folder.
        folder: The folder of the log.
        number: The number of the process.

    Returns:
        The positions of ten events that all processes append equally, and the numbers of those of
        ten streams, different in each process, that this process was the first to write.
    """
    log = open_log(folder)
    _wait_for_all()
    positions: list[int] = []
    wins = []
    for n in range(10):
        positions += log.append([event(f"same{n}", 1)])
        try:
            log.append([event(f"differ{n}", 1, b"%d" % number)])
        except AppendConflict:
            continue
        wins.append(n)
    log.close()
    return positions, wins


def append_until_killed(open_log: OpenLog, folder: Path, sending: Connection) -> None:
    """Append batches until killed, and report each that is stored.

    Args:
        open_log: A function that opens the log in a folder.
        folder: The folder of the log.
        sending: Receives the number of each stored batch.
    """
    log = open_log(folder)
    number = 0
    while True:
        log.append(batch("s", number))
        sending.send(number)
        number += 1


def fork(run: Callable[[], object]) -> int:
    """Run a function in a forked child, which then exits.

    Args:
        run: The function for the child.

    Returns:
        The exit code of the child.
    """
    with warnings.catch_warnings():
        # Python 3.12 warns of forks in a process with threads; the test is about exactly that.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


_barrier: Barrier | None = None  # for the processes that start together; set in each of them


def _set_barrier(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _wait_for_all() -> None:
    assert _barrier is not None
    _barrier.wait(PATIENCE)


@cache
def _processes() -> ProcessPoolExecutor:
    # Spawned, because the parent may have threads. Kept for all tests, because starting takes time.
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(WRITERS)
    return ProcessPoolExecutor(
        WRITERS, mp_context=context, initializer=_set_barrier, initargs=(barrier,)
    )


def in_processes(
    run: Callable[[OpenLog, Path, int], T], open_log: OpenLog, folder: Path
) -> list[T]:
    """Run a function in several processes that start together.

    Args:
        run: The function to run, called with `open_log`, `folder` and the number of the process.
        open_log: A function that opens the log in a folder.
        folder: The folder of the log.

    Returns:
        The result of each process.
    """
    tasks = [_processes().submit(run, open_log, folder, n) for n in range(WRITERS)]
    return [task.result(timeout=PATIENCE) for task in tasks]
