"""Keeps processes that are started in a replay from asking real models.

Sub-tactics that run in other processes take the replay along; see `lllm.replay.carried_sessions`.
All other calls of such a process were never recorded below the session, so they are refused. A
process learns of the replay in one of three ways: a forked child has it in its memory, a process of
`multiprocessing` gets it in its first step, and one of `subprocess` in an environment variable.
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
    """Runs first in a process of `multiprocessing`, and has its calls of models refused."""

    process: BaseProcess
    replay: ReplayElsewhere

    def __call__(self) -> None:
        vars(self.process).pop("run", None)
        close_process(self.replay)
        self.process.run()


class _Work(msgspec.Struct):
    """Runs a function in a ProcessPoolExecutor, whose processes may be older than the replay."""

    function: Method
    replay: ReplayElsewhere

    def __call__(self, *args: object, **kwargs: object) -> object:
        with during(active_replay, self.replay), closed_off():
            return self.function(*args, **kwargs)


class _NewProcesses:
    """Replaces the methods that start processes, process-wide, while a replay's block is open."""

    def __init__(self) -> None:
        self._open = 0
        self._lock = ThreadLock()
        self._methods = ReplacedMethods()

    def adapt(self, opened: int) -> None:
        """Replace the methods at the first open block, and restore them after the last.

        Args:
            opened: The change in the number of open blocks: 1 on entering one, -1 on leaving one.
        """
        with self._lock.held():
            self._open += opened
            if not self._open:
                self._methods.put_back()
                return
            self._methods.replace(BaseProcess, "start", self._start)
            self._methods.replace(subprocess.Popen, "__init__", self._popen)
            futures = sys.modules.get("concurrent.futures.process")  # None if no pool can exist yet
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
    """What refuses the calls of a process that starts now; None outside of closed replays."""
    replay = active_replay.get()
    return None if replay is None else replay.elsewhere()


_new_processes = _NewProcesses()


@contextmanager
def processes_closed_off() -> Iterator[None]:
    """Keep processes that start in the `with` block from asking models."""
    _new_processes.adapt(1)
    try:
        yield
    finally:
        _new_processes.adapt(-1)
