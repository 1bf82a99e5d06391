"""Where sessions of a replay are written that another process runs, and that is kept in memory."""

from __future__ import annotations

from collections.abc import Sequence

from lllm.events.backends.memory import MemoryBackend
from lllm.events.buffered import BufferedLog
from lllm.events.envelope import NewEvent
from lllm.events.model import AgentDefined
from lllm.events.redaction.redact import Redact
from lllm.pricing.user_prices import PriceTable
from lllm.replay.progress import Progress, Written
from lllm.sessions.host import SessionHost
from lllm.sessions.in_memory_host import InMemorySessionHost


class _TellingLog(MemoryBackend):
    """A log in memory that tells the replay's own process what is appended."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """See LogBackend."""
        positions = super().append(events)
        self._progress.tell(Written(tuple(events)))
        return positions


class TellingHost(InMemorySessionHost):
    """See SessionHost.

    Args:
        progress: Through which the events are told.
        partition: Of the replay's own host.
        redact: Of that.
        prices: Of that.
    """

    def __init__(
        self,
        progress: Progress,
        *,
        partition: str,
        redact: Redact | None,
        prices: PriceTable | None,
    ) -> None:
        super().__init__(persists=True, partition=partition, redact=redact, prices=prices)
        self.log = BufferedLog(_TellingLog(progress))


def write_told(host: SessionHost, events: Sequence[NewEvent]) -> None:
    """Write what another process told.

    Args:
        host: The replay's own.
        events: Of one append there.
    """
    known = host.definitions.known
    new = [one for one in events if one.type != AgentDefined.type or one.stream not in known]
    if new:
        host.log.append(new)
    known.update(one.stream for one in new if one.type == AgentDefined.type)
