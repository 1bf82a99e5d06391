"""Keeps processes that the code of a replay starts from asking their models.

Sub-tactics of the replayed session take the replay along (see `lllm.replay.carried_sessions`). What
a process calls of its own was never recorded below the session, so it is refused there. A forked
child has the replay in its memory; all others are told: what `multiprocessing` starts in its first
step, what `subprocess` starts by a variable of the environment.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from multiprocessing.process import BaseProcess

import msgspec

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.replay.active_replay import ReplayElsewhere, active_replay, close_process, environment_of
from lllm.sessions.context_values import during
from lllm.sessions.replaced_methods import ReplacedMethods
from lllm.sessions.threads import closed_off

Method = Callable[..., object]


class _Run(msgspec.Struct):
    """The first step of a process of `multiprocessing`."""

    process: BaseProcess
    replay: ReplayElsewhere

    def __call__(self) -> None:
        vars(self.process).pop("run", None)
        close_process(self.replay)
        self.process.run()


class _Work(msgspec.Struct):
    """Work for a ProcessPoolExecutor whose processes may have begun before the replay."""

    function: Method
    replay: ReplayElsewhere

    def __call__(self, *args: object, **kwargs: object) -> object:
        with during(active_replay, self.replay), closed_off():
            return self.function(*args, **kwargs)


class _NewProcesses:
    """Replaces what starts processes, process-wide, while blocks of replays are open."""

    def __init__(self) -> None:
        self._open = 0
        self._lock = ThreadLock()
        self._methods = ReplacedMethods()

    def adapt(self, opened: int) -> None:
        """Replace the methods for the first block, and put them back after the last.

        Args:
            opened: Blocks that are opened, or -1 for one that is left.
        """
        with self._lock.held():
            self._open += opened
            if not self._open:
                self._methods.put_back()
                return
            self._methods.replace(BaseProcess, "start", self._start)
            self._methods.replace(subprocess.Popen, "__init__", self._popen)
            futures = sys.modules.get("concurrent.futures.process")  # or there is no pool yet
            if futures is not None:
                self._methods.replace(futures.ProcessPoolExecutor, "submit", self._submit)

    def _start(self, original: Method) -> Method:
        @wraps(original)
        def start(process: BaseProcess) -> object:
            replay = _closed_block()
            if replay is None or "run" in vars(process):
                return original(process)
            vars(process)["run"] = _Run(process, replay)
            try:
                return original(process)
            finally:
                vars(process).pop("run", None)

        return start

    def _popen(self, original: Method) -> Method:
        signature = inspect.signature(original)

        @wraps(original)
        def begin(*args: object, **kwargs: object) -> object:
            replay = _closed_block()
            if replay is None:
                return original(*args, **kwargs)
            given = signature.bind(*args, **kwargs)
            environment = given.arguments.get("env")
            given.arguments["env"] = {
                **(os.environ if environment is None else environment),
                **environment_of(replay),
            }
            return original(*given.args, **given.kwargs)

        return begin

    def _submit(self, original: Method) -> Method:
        @wraps(original)
        def submit(pool: object, fn: Method, /, *args: object, **kwargs: object) -> object:
            replay = _closed_block()
            return original(pool, fn if replay is None else _Work(fn, replay), *args, **kwargs)

        return submit


def _closed_block() -> ReplayElsewhere | None:
    """Where the replay stands in whose block the code runs; None outside of those of replays."""
    replay = active_replay.get()
    return None if replay is None else replay.elsewhere()


_new_processes = _NewProcesses()


@contextmanager
def processes_closed_off() -> Iterator[None]:
    """A `with` for the block of a replay: processes that begin in it ask no model."""
    _new_processes.adapt(1)
    try:
        yield
    finally:
        _new_processes.adapt(-1)
