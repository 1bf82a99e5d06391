"""Passes on the events of sessions that another process runs in a replay kept in memory."""

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
    """A log in memory that also sends all appended events to the replay's own process."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """Append events, and send them to the replay's own process; see `LogBackend.append`."""
        positions = super().append(events)
        self._progress.tell(Written(tuple(events)))
        return positions


class TellingHost(InMemorySessionHost):
    """Writes sessions in memory, and sends their events to the replay's own process.

    Args:
        progress: The progress of the replay, which sends the events.
        partition: The partition of the replay's own host.
        redact: The redaction rules of the replay's own host; None if it has none.
        prices: The price table of the replay's own host; None if it has none.
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
    """Write events that another process sent, except for agent definitions already written.

    Args:
        host: The host of the replay in its own process.
        events: The events that the other process appended at once.
    """
    known = host.definitions.known
    new = [one for one in events if one.type != AgentDefined.type or one.stream not in known]
    if new:
        host.log.append(new)
    known.update(one.stream for one in new if one.type == AgentDefined.type)
