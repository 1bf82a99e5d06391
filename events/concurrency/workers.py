"""A few worker threads that do blocking work for event loops.

They do not use `threading.Thread` or the executor of the loop, whose `start` waits until the new
thread runs. Up to Python 3.11 a thread has the ident of its creator at first, so an exception that
other code raises in the creator (PyThreadState_SetAsyncExc) may end the new thread before its first
step, and `start` would wait forever. Here only the work itself is waited for, and the waiting code
checks now and then that a thread is still doing it.

A thread ends when no work is queued, so that a later fork has one thread less.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context

from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.thread_frames import thread_frames

LOOK_SECONDS = 0.05  # seconds between two checks whether a thread still does the work
_MOST = 8  # the most threads at the same time


class Job:
    """A piece of work, run in the context of the code that created it.

    Args:
        work: The function to run. It may be called again if its thread was interrupted in the
            middle.
        done: A function that is called in the thread when the work has ended.
    """

    def __init__(self, work: Callable[[], None], done: Callable[[], object]) -> None:
        self._work = work
        self._done = done
        self._context = copy_context()
        self._thread = 0  # the thread that does the work
        self.is_over = False
        self.error: BaseException | None = None  # the error with which the work ended

    def do(self) -> None:
        """Run the work to its end."""
        self._thread = threading.get_ident()
        try:
            self._context.copy().run(self._work)
        except BaseException as error:
            self.error = error
        self.is_over = True
        self._done()

    @property
    def is_at_work(self) -> bool:
        """True if a thread is running the job now."""
        return not self.is_over and self._thread in thread_frames()


class _Workers:
    """The queued jobs, and the threads that run them."""

    def __init__(self) -> None:
        self._begin()
        register_after_fork(self)

    def _begin(self) -> None:
        self._waiting: deque[Job] = deque()  # append and popleft are atomic
        self._at_work: dict[int, None] = {}  # the running threads
        self._starting: dict[object, float] = {}  # and since when, as times of the monotonic clock

    def after_fork(self) -> None:
        """Forget the jobs, which the parent's threads run."""
        self._begin()

    def add(self, job: Job) -> None:
        """Queue a job."""
        self._waiting.append(job)
        self.start()

    def again(self, job: Job) -> None:
        """Queue a job again if it was lost, and replace threads that died."""
        if not (job.is_over or job.is_at_work or job in tuple(self._waiting)):
            self._waiting.append(job)
        alive = thread_frames()
        for thread in tuple(self._at_work):
            if thread not in alive:
                self._at_work.pop(thread, None)
        for token, since in tuple(self._starting.items()):
            if time.monotonic() - since > LOOK_SECONDS:
                self._starting.pop(token, None)
        self.start()

    def start(self) -> None:
        """Start another thread if jobs are waiting."""
        if self._waiting and len(self._at_work) + len(self._starting) < _MOST:
            token = object()
            self._starting[token] = time.monotonic()
            try:
                _thread.start_new_thread(self._run, (token,))
            except RuntimeError:  # there are too many threads, or the interpreter ends
                self._starting.pop(token, None)
                with suppress(IndexError):
                    self._waiting.popleft().do()

    def _run(self, token: object) -> None:
        thread = threading.get_ident()
        try:
            self._at_work[thread] = None
            self._starting.pop(token, None)
            while self._waiting:
                try:
                    job = self._waiting.popleft()
                except IndexError:
                    break  # another thread has taken the job
                job.do()
                del job
        finally:
            self._at_work.pop(thread, None)
            self.start()  # jobs that came after the last check


_workers = _Workers()
add = _workers.add
again = _workers.again
