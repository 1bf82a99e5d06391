"""Where the sessions of a tactic without a log store go: into memory, for as long as a call takes.

They are recorded all the same, so that `return_session=True` and sub-tactics work alike with and
without a store.
"""

from __future__ import annotations

from lllm.events.holding import HoldingLog
from lllm.events.log import LogBackend
from lllm.events.memory import MemoryBackend
from lllm.events.noop import NoOpBackend
from lllm.events.recorder import Definitions, Recorder
from lllm.events.redaction import Redact
from lllm.finished import fold_finished
from lllm.price_table import PriceTable
from lllm.projections.call_session import TacticCallSession


class Homeless:
    """A log of one call's own.

    keeps: whether anyone will look at it afterwards. partition, redact, prices: those of the store
    that keeps nothing, where there is one.
    """

    can_travel = False

    def __init__(
        self,
        *,
        keeps: bool,
        partition: str = "",
        redact: Redact | None = None,
        prices: PriceTable | None = None,
    ) -> None:
        self.keeps = keeps
        self.partition = partition
        self.redact = redact
        self.prices = prices
        backend: LogBackend = MemoryBackend() if keeps else NoOpBackend()
        self.log = HoldingLog(backend)
        self.definitions = Definitions()

    def owner(self) -> str:
        """No process needs to ask whether this one is alive."""
        return ""

    def closed(self, *, root: bool) -> None:
        """Nothing to do: there are no rows."""

    def finished(self, recorder: Recorder) -> TacticCallSession:
        """The session, folded from what was kept."""
        return fold_finished(self.log, recorder)
