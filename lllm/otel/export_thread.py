"""Sends a store to a receiver while a program runs, in a thread of its own.

The program never waits for it. Of several processes that write to one store, one sends what all of
them record; when it ends, another one goes on. A failure is logged once, and tried again.
"""

from __future__ import annotations

import _thread
import logging
import threading
import time
from collections.abc import Callable

from lllm.events.backend import LogBackend
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.locks import ProcessLock
from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.otel.delivery import Delivery, Undelivered
from lllm.otel.exporter import Exporter
from lllm.otel.open_exporter import http_output, open_exporter, receiver_name
from lllm.otel.sent_position import sender_lock
from lllm.otel.settings import OtelExport
from lllm.store.read_model import ReadModel

_logger = logging.getLogger("lllm.store")

_POLL = 0.5  # seconds between two looks at the log
_LOOK_FOR_DEAD = 30.0  # seconds between two looks for sessions whose process died
_REMEMBER = 60.0  # seconds after which a position is stored although nothing was sent
_OTHERS = 5.0  # seconds between two looks whether another process still sends
_AFTER_ERROR = 10.0  # seconds


class ExportThread:
    """Sends a store until it is closed.

    Args:
        settings: Where to send it, and what.
        log: The log of the store.
        rows: The rows of the store.
        look_for_dead: Brings the rows up to date, and finds sessions whose process died.
    """

    def __init__(
        self,
        settings: OtelExport,
        log: LogBackend,
        rows: ReadModel,
        look_for_dead: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._log = log
        self._rows = rows
        self._look_for_dead = look_for_dead
        self._lock = ThreadLock()
        self._run_: _Run | None = None
        self._closed = False
        register_after_fork(self)

    def after_fork(self) -> None:
        """Forget the thread after a fork: a child has none, and `begin` starts a new one."""
        self._lock = ThreadLock()
        self._run_ = None

    def begin(self) -> None:
        """Start the thread if it does not run."""
        if self._run_ is not None or self._closed:
            return
        with self._lock.held():
            if self._run_ is None and not self._closed:
                run = _Run(self._settings, self._log, self._rows, self._look_for_dead)
                try:
                    _thread.start_new_thread(run.run, ())
                except RuntimeError:  # the interpreter ends, or there are too many threads
                    return
                self._run_ = run

    def close(self) -> None:
        """Send what is left, for as long as the settings allow, and stop the thread."""
        self._closed = True
        run, self._run_ = self._run_, None
        if run is not None:
            run.end(self._settings.close_seconds)


class _Run:
    """One run of the thread."""

    def __init__(
        self,
        settings: OtelExport,
        log: LogBackend,
        rows: ReadModel,
        look_for_dead: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._log = log
        self._rows = rows
        self._look_for_dead = look_for_dead
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._delivery: Delivery | None = None
        self._is_abandoned = False
        self._told = ""

    def end(self, seconds: float) -> None:
        """Ask the thread to send what is left and to end, and wait for it.

        Args:
            seconds: The longest time to wait. After that, the thread writes nothing any more.
        """
        self._stop.set()
        if not self._ended.wait(seconds):
            self._is_abandoned = True
            if self._delivery is not None:
                self._delivery.is_abandoned = True
            _logger.warning(
                "not everything was sent to %s before the store was closed; it is sent when the "
                "store is next opened with `otel`, or by `lllm otel send`",
                receiver_name(self._settings),
            )

    def run(self) -> None:
        """Send until asked to end; errors are logged, and do not end it."""
        lock: ProcessLock | None = None
        try:
            lock = self._wait_for_others()
            while not self._is_over():
                try:
                    self._send()
                except Undelivered:
                    return  # only at the end; it was logged
                except Exception as error:  # a full disk, a damaged log, rows out of reach
                    self._tell(f"the store could not be sent: {error}")
                    if self._stop.wait(_AFTER_ERROR):
                        return
        except Exception as error:  # the lock can't be opened
            self._tell(f"the store can't be sent: {error}")
        finally:
            if lock is not None:
                lock.close()
            self._ended.set()

    def _is_over(self) -> bool:
        return self._ended.is_set() or self._is_abandoned

    def _wait_for_others(self) -> ProcessLock | None:
        lock = sender_lock(self._rows.database, receiver_name(self._settings))
        while lock is not None and not lock.acquire(wait=False):
            if self._stop.wait(_OTHERS):
                self._ended.set()  # the other process sends what this one recorded
                break
        return lock

    def _send(self) -> None:
        """Send what there is and what comes, until asked to end."""
        exporter, self._delivery = self._open()
        reached, looked, stored = -1, 0.0, time.monotonic()
        while True:
            is_last = self._stop.is_set()
            now = time.monotonic()
            if now - looked > _LOOK_FOR_DEAD:
                looked = now
                self._look_for_dead()
            head = self._log.head()
            if head != reached:
                exporter.send(upto=head)
                reached = head
            if is_last or now - stored > _REMEMBER:
                stored = now
                exporter.remember()
            self._told = ""
            if is_last:
                self._ended.set()
                return
            self._stop.wait(_POLL)

    def _open(self) -> tuple[Exporter, Delivery | None]:
        return open_exporter(
            self._log, self._rows, self._settings, http_output(self._settings),
            receiver_name(self._settings), wait=self._wait, tell=self._tell,
        )  # fmt: skip

    def _wait(self, seconds: float) -> bool:
        """Wait before the next try; at the end there is none."""
        return self._stop.wait(seconds)

    def _tell(self, message: str) -> None:
        if message != self._told and not self._is_abandoned:
            self._told = message
            _logger.warning("%s", message)
