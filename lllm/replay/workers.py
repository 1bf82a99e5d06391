"""Replays many sessions in worker processes, and survives code that ends its process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import msgspec

from lllm.replay.ignored_parts import Ignore
from lllm.replay.recorded_session import RecordedSession
from lllm.replay.recording_file import is_file, read_file
from lllm.replay.recording_reader import read_recording
from lllm.replay.replay import Replay
from lllm.replay.target import ReplayTarget, load_target
from lllm.replay.verdict import ReplayResult, failed, verdict_of
from lllm.sessions.in_memory_host import InMemorySessionHost
from lllm.store.log_store import LogStore, session_host
from lllm.store.session_host import StoreSessionHost

T = TypeVar("T")
Progress = Callable[[int, int], None]

_AT_ONCE = 16  # sessions per job of a worker, so that sending jobs takes little time
_MOST_DEATHS = 5  # of workers, after which the remaining sessions are not tried


class _Job(NamedTuple):
    """The store, the code and the options with which each worker replays."""

    store: str | None
    using: str
    ignore: tuple[Ignore, ...]


class ReplayWorkers:
    """Replays sessions with today's code in worker processes; use it in a `with` statement.

    Args:
        store: The path or URL of the store, which is only read. None if all sessions are exported
            files.
        using: The name of the code, such as "my_module:make_tactic"; see `load_target`. Only the
            workers import it.
        jobs: The number of worker processes.
        ignore: Parts of requests that are not compared: key paths and patterns, as for
            `LogStore.replay`.
    """

    def __init__(
        self, store: str | None, using: str, jobs: int, ignore: Sequence[Ignore] = ()
    ) -> None:
        self._job = _Job(store, using, tuple(ignore))
        self._jobs = jobs
        self._processes: set[BaseProcess] = set()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._stop()

    def tactic_path(self) -> str | None:
        """Give the stable path of the tactic whose sessions the code can replay.

        Returns:
            The stable path; None for a plain function, which has none.

        Raises:
            ConfigError: The code can't be imported, or is neither a tactic nor a function.
            BrokenProcessPool: The import of the code ended the worker process.
        """
        return self._submit(_path_of, self._job).result()

    def replay(
        self, sessions: Sequence[str], progress: Progress | None = None
    ) -> list[ReplayResult]:
        """Replay sessions in the workers.

        Args:
            sessions: Whole session ids, or paths of exported files.
            progress: Called after each session with the number of finished sessions and the number
                of all sessions; None for no such calls.

        Returns:
            One result for each session, in the order of `sessions`. If the code ended its process,
            the result has the verdict "failed".
        """
        found: dict[str, ReplayResult] = {}
        size = max(1, min(_AT_ONCE, len(sessions) // (self._jobs * 4)))
        deaths = 0
        while left := [one for one in sessions if one not in found]:
            try:
                for done in self._results(left, size):
                    found[done.session_id] = done
                    if progress is not None:
                        progress(len(found), len(sessions))
            except BrokenProcessPool:
                self._stop()
                if size == 1 and self._jobs == 1:
                    deaths += 1
                    [culprit, *_] = [one for one in left if one not in found]
                    found[culprit] = failed(culprit, "The code ended its process.")
                if deaths == _MOST_DEATHS:
                    why = f"It was not tried: the code ended {deaths} processes before."
                    rest = [one for one in left if one not in found]
                    found |= {one: failed(one, why) for one in rest}
                size = self._jobs = 1  # so that the next death can be blamed on one session
        return [found[one] for one in sessions]

    def _results(self, session_ids: Sequence[str], size: int) -> Iterator[ReplayResult]:
        parts = [session_ids[first : first + size] for first in range(0, len(session_ids), size)]
        futures: list[Future[list[ReplayResult]]] = []
        broken: BrokenProcessPool | None = None
        try:
            for part in parts:
                futures.append(self._submit(_replay_each, self._job, part))
        except BrokenProcessPool as error:
            broken = error
        for future in as_completed(futures):
            try:
                results = future.result()
            except BrokenProcessPool as error:
                broken = error
            else:
                yield from results
        if broken is not None:
            raise broken

    def _submit(self, function: Callable[..., T], *given: object) -> Future[T]:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # a fresh process for the code
            self._pool = ProcessPoolExecutor(self._jobs, context, initializer=_begin)
        before = set(multiprocessing.active_children())
        future = self._pool.submit(function, *given)
        self._processes |= set(multiprocessing.active_children()) - before
        return future

    def _stop(self) -> None:
        """End the worker processes, even if the code has left threads running in them."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in self._processes:
                process.terminate()
            for process in self._processes:
                process.join()
        self._pool, self._processes = None, set()


# -- in a worker


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it, without a traceback
    os.dup2(2, 1)  # what the code prints is no part of the command's output
    sys.path.insert(0, os.getcwd())
    # `git bisect` changes files faster than the times by which Python knows a stale .pyc file.
    sys.dont_write_bytecode = True


class _Opened(NamedTuple):
    target: ReplayTarget
    store: LogStore | None


_opened: dict[_Job, _Opened] = {}


def _open(job: _Job) -> _Opened:
    if job not in _opened:
        target = load_target(job.using)
        store = job.store and LogStore.open(job.store, read_only=True, make=False)
        _opened[job] = _Opened(target, store or None)
    return _opened[job]


def _path_of(job: _Job) -> str | None:
    return _open(job).target.tactic_path


def _replay_each(job: _Job, session_ids: Sequence[str]) -> list[ReplayResult]:
    opened = _open(job)
    return [replay_one(opened.target, opened.store, one, ignore=job.ignore) for one in session_ids]


def replay_one(
    target: ReplayTarget, store: LogStore | None, session: str, *, ignore: Sequence[Ignore] = ()
) -> ReplayResult:
    """Replay one session in this process, without writing to the store.

    Args:
        target: The code to replay with.
        store: The store that holds the session; None for an exported file.
        session: The whole id of the session, or the path of the exported file.
        ignore: Parts of requests that are not compared: key paths and patterns, as for
            `LogStore.replay`.

    Returns:
        The result. Its verdict is "failed" if the session can't be read.
    """
    began = time.perf_counter()
    try:
        host = None if store is None else session_host(store)
        own = target.own_host or host or InMemorySessionHost(persists=True)
        in_memory = InMemorySessionHost(
            persists=True, partition=own.partition, redact=own.redact, prices=own.prices
        )
        recording = _recording(host, session)
        result = verdict_of(target, Replay(recording, in_memory, ignore=ignore))
    except Exception as error:  # the other sessions are still replayed
        result = failed(session, str(error) or type(error).__name__)
    seconds = time.perf_counter() - began
    return msgspec.structs.replace(result, session_id=session, seconds=seconds)


def _recording(host: StoreSessionHost | None, session: str) -> RecordedSession:
    if host is None or is_file(session):
        return read_recording(read_file(session), None, session)
    source = repr(host.settings.backend)
    return read_recording(host.reader.recording(session), session, source)
