"""How a store ends, and how it goes into another process."""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING

from lllm.catching_up import CatchUp
from lllm.events.database import Database
from lllm.events.holding import HoldingLog, OnError
from lllm.events.liveness import Liveness
from lllm.events.locks import ThreadLock, tell_after_fork
from lllm.events.log import LogBackend
from lllm.events.recorder import Redact
from lllm.price_table import PriceTable
from lllm.projections.projector import Projector
from lllm.projections.view import View

if TYPE_CHECKING:
    from lllm.runtime import Runtime
    from lllm.store import LogStore


class OpenSessions:
    """How many sessions this process has begun in a store and not ended."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()
        tell_after_fork(self)

    def after_fork(self) -> None:
        """The parent's open sessions are the parent's."""
        self.count = 0
        self._lock = threading.Lock()

    def add(self, number: int) -> None:
        """One more, or with -1 one less."""
        with self._lock:
            self.count += number


def close_parts(
    log: HoldingLog,
    database: Database,
    projector: Projector,
    catch_up: CatchUp,
    liveness: Liveness | None,
    sessions: OpenSessions,
) -> None:
    """Close what a store is made of; also at the interpreter's exit, where nobody closed it."""
    catch_up.close()
    log.close()
    projector.close()
    database.close()
    if liveness is not None:
        # The lock file of a process that ends with sessions open is what tells that they died.
        liveness.close(keep_file=sessions.count > 0)


_opened: dict[bytes, LogStore] = {}  # in this process, for tactics that another one sent
_opening = ThreadLock()


def reopened(
    backend: LogBackend,
    runtime: Runtime | None,
    partition: str,
    on_error: OnError,
    redact: Redact | None,
    views: tuple[View, ...],
    prices: PriceTable | None,
) -> LogStore:
    """The store that another process sent: opened by the first tactic that brings it."""
    from lllm.store import LogStore

    key = pickle.dumps((backend, partition, on_error, redact, views, prices))
    with _opening.held():
        if key in _opened:
            backend.close()
        else:
            _opened[key] = LogStore(
                backend,
                runtime=runtime,
                partition=partition,
                on_error=on_error,
                redact=redact,
                views=views,
                prices=prices,
            )
        return _opened[key]
