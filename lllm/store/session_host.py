"""Opens a store's log and rows, and writes sessions to them.

A LogStore and the sessions written to it share one StoreSessionHost. The store is closed by
`close`, when nothing refers to the host any more, or when the interpreter exits.
"""

from __future__ import annotations

import logging
import pickle
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from lllm.events.backend import KnowsWriters, LogBackend, persists
from lllm.events.buffered import BufferedLog, OnError
from lllm.events.concurrency import finalizer_work
from lllm.events.concurrency.liveness import WriterLiveness
from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.definitions import Definitions, secret_file
from lllm.events.errors import LogError
from lllm.events.files.permissions import FILE_MODE
from lllm.events.recorder import Recorder
from lllm.events.redaction.redact import Redact
from lllm.packages.registry import Runtime
from lllm.pricing.user_prices import PriceTable
from lllm.projections.queries.archivals import begun_archive
from lllm.projections.session.call_session import TacticCallSession
from lllm.projections.view import View
from lllm.store.closing import Closing
from lllm.store.erasure import finish_erasures
from lllm.store.projection_scheduler import CatchUp
from lllm.store.read_model import ReadModel
from lllm.store.session_reader import SessionReader

if TYPE_CHECKING:
    from lllm.audit.periodic_seals import SealPlan
    from lllm.otel.settings import OtelExport

_logger = logging.getLogger("lllm.store")


class StoreSettings(msgspec.Struct, frozen=True):
    """The arguments of a LogStore, by which another process can open it, too."""

    backend: LogBackend
    runtime: Runtime | None
    partition: str
    on_error: OnError
    redact: Redact | None
    views: tuple[View, ...]
    prices: PriceTable | None
    seals: SealPlan | None = None
    otel: OtelExport | None = None


class StoreSessionHost:
    """An open store that sessions are written to; see SessionHost.

    Args:
        settings: The arguments of the store.

    Attributes:
        rows: The rows for lists and sums.
        reader: Loads sessions.

    Raises:
        LogError: The rows can't be written, for another reason than a damaged page.
    """

    def __init__(self, settings: StoreSettings) -> None:
        backend = settings.backend
        self.settings = settings
        self.partition = settings.partition
        self.redact = settings.redact
        self.prices = settings.prices
        self.persists = persists(backend)
        self.read_only = bool(getattr(backend, "read_only", False))
        self.log = BufferedLog(backend, on_error=settings.on_error)
        self._liveness: WriterLiveness | None = None
        if isinstance(backend, KnowsWriters) and not self.read_only:
            self._liveness = backend.liveness
        self.rows = ReadModel(backend, self.log, settings.views)
        locks = self.rows.database.lock_folder if self._liveness is not None else None
        mode = getattr(self.rows.database, "mode", FILE_MODE)
        self.definitions = Definitions(secret_file(locks), mode=mode)
        self.reader = SessionReader(self.log, self.rows, self._liveness, self.redact)
        self._scheduler = CatchUp(self.rows)
        if self._liveness is not None:
            self._liveness.use()
        self._seals = None
        if settings.seals is not None and self.persists and not self.read_only:
            from lllm.audit.periodic_seals import PeriodicSeals

            self._seals = PeriodicSeals(settings.seals, self.log, self.rows.ask)
        self._export = None
        if settings.otel is not None and self.persists and not self.read_only:
            from lllm.otel.export_thread import ExportThread

            self._export = ExportThread(settings.otel, self.log, self.rows, self.reader.catch_up)
        self._closing = Closing(
            self.log, self.rows, self._scheduler, (self._seals, self._export), self._liveness
        )
        # The collector may drop it anywhere, also where this thread holds a lock.
        self._dropped = weakref.finalize(self, finalizer_work.close_later, self._closing)
        self._dropped.atexit = False
        self.rows.build_stale()
        finish_erasures(self)
        self._finish_archives()
        self._begin_threads()

    def _begin_threads(self) -> None:
        """Start the threads that seal and send the log; after a fork, they do not run yet."""
        for thread in (self._seals, self._export):
            if thread is not None:
                thread.begin()

    def _finish_archives(self) -> None:
        """Finish or undo what a crash left of a move to an archive."""
        database = self.rows.database
        if self.read_only or database.read_only or not self.persists:
            return
        with suppress(LogError):  # rows that can't be read are reported by who needs them
            if begun_archive(database) is not None:
                from lllm.archive.archiver import finish_archives

                finish_archives(self)

    def __reduce__(self) -> tuple[Callable[..., StoreSessionHost], tuple[StoreSettings]]:
        """Pickle only the settings; a process that unpickles them opens the store once."""
        return _reopened, (self.settings,)

    @property
    def spans_processes(self) -> bool:
        """True if other processes can write to the same log; see SessionHost."""
        return self._liveness is not None

    def owner(self) -> str:
        """See SessionHost."""
        self._begin_threads()
        try:
            return "" if self._liveness is None else self._liveness.owner()
        except OSError as error:
            _logger.warning("no lock beside the store, so a crash can't be detected: %s", error)
            return ""

    def session_ended(self) -> None:
        """Bring the rows up to date, now or soon; see SessionHost."""
        self._scheduler.session_ended()

    def load_finished(self, recorder: Recorder) -> TacticCallSession:
        """Load a session that has just ended; see SessionHost."""
        return self.reader.load_finished(recorder)

    def close(self) -> None:
        """Close the store; see `LogStore.close`."""
        self._dropped.detach()
        self._closing()


# stores opened in this process for tactics that another one sent
_opened: dict[bytes, StoreSessionHost] = {}
_opening = ThreadLock()


def _reopened(settings: StoreSettings) -> StoreSessionHost:
    """Get the host for settings from another process; it opens its store the first time."""
    backend = settings.backend
    key = pickle.dumps(
        (backend, settings.partition, settings.on_error, settings.redact, settings.views,
         settings.prices, settings.seals, settings.otel)
    )  # fmt: skip
    with _opening.held():
        if key in _opened:
            backend.close()
        else:
            _opened[key] = StoreSessionHost(settings)
        return _opened[key]
