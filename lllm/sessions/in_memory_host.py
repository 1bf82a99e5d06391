"""Keeps the sessions of a tactic without a store in memory, until the call ends.

They are recorded anyway, so that `return_session=True` and sub-tactics work in the same way with
and without a store.
"""

from __future__ import annotations

from lllm.events.backend import LogBackend
from lllm.events.backends.memory import MemoryBackend
from lllm.events.backends.noop import NoOpBackend
from lllm.events.buffered import BufferedLog
from lllm.events.definitions import Definitions
from lllm.events.recorder import Recorder
from lllm.events.redaction.redact import Redact
from lllm.pricing.user_prices import PriceTable
from lllm.projections.session.call_session import TacticCallSession
from lllm.sessions.load_finished import fold_finished


class InMemorySessionHost:
    """A log in memory for a single call; see SessionHost.

    Args:
        persists: True if the session will be read after the call.
        partition: The partition of the store, if the call has a store that keeps nothing.
        redact: The redaction of that store; None for lllm's own rules.
        prices: The user's prices of that store; None for none.
    """

    spans_processes = False

    def __init__(
        self,
        *,
        persists: bool,
        partition: str = "",
        redact: Redact | None = None,
        prices: PriceTable | None = None,
    ) -> None:
        self.persists = persists
        self.partition = partition
        self.redact = redact
        self.prices = prices
        backend: LogBackend = MemoryBackend() if persists else NoOpBackend()
        self.log = BufferedLog(backend)
        self.definitions = Definitions()

    def owner(self) -> str:
        """Return "", because no other process can read this log."""
        return ""

    def session_ended(self) -> None:
        """Do nothing, because there are no rows."""

    def load_finished(self, recorder: Recorder) -> TacticCallSession:
        """Build the session from the events in memory; see SessionHost."""
        return fold_finished(self.log, recorder)
