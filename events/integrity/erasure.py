"""Erases the payloads of whole streams, while every digest of the log still fits.

The digest of an event covers a commitment to its payload and not the payload, so payload and salt
can go, and the 32 bytes of the commitment stay in their place. The first event of a stream goes
last: the salt stands in it, which the commitments of the others are made with. So whatever
interrupts an erasure, the next one can finish it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lllm.events import codec
from lllm.events.backend import ErasesPayloads, LogBackend
from lllm.events.digest import commitment_of_erased, digest_of, erase
from lllm.events.envelope import Recorded
from lllm.events.errors import ErasureRefused, LogDamaged

_BATCH = 500  # events that are erased at once


def check_erasable(log: LogBackend) -> ErasesPayloads:
    """Return the log as one that can erase payloads.

    Args:
        log: The backend itself.

    Raises:
        ErasureRefused: It can't.
    """
    if not isinstance(log, ErasesPayloads):
        raise ErasureRefused(
            f"{log!r} can't erase payloads: its backend has no `erase_payloads` (see "
            "lllm.events.backend.ErasesPayloads). Nothing was erased."
        )
    return log


def without_payloads(events: Iterable[Recorded]) -> list[Recorded]:
    """Make the events of one stream as they are without their payloads.

    Args:
        events: All events of the stream, in order.

    Returns:
        Those that have a payload; what was erased before is left out.

    Raises:
        LogDamaged: An event is not what was written, so its commitment would prove nothing.
    """
    erased: list[Recorded] = []
    salt: bytes | None = None
    for event in events:
        if salt is None:
            salt = codec.salt_of(event)
        if commitment_of_erased(event.data) is not None:
            continue
        if digest_of(event, salt) != event.digest:
            raise LogDamaged(
                f"Event {event.seq} of {event.stream!r} (position {event.position}) can't be "
                "erased: its digest does not fit its content, so nothing could prove later what "
                "it was. `lllm verify` tells more.",
                position=event.position,
                stream=event.stream,
            )
        erased.append(erase(event, salt))
    return erased


def erase_events(log: LogBackend, erased: Sequence[Recorded]) -> None:
    """Erase the payloads of events, for good.

    Args:
        log: The backend itself.
        erased: All events of some streams, as `without_payloads` made them.

    Raises:
        ErasureRefused: The log can't erase payloads.
        LogUnavailable: The log can't be written.
    """
    erasable = check_erasable(log)
    later = [event for event in erased if event.seq > 1]
    firsts = [event for event in erased if event.seq == 1]
    for part in (later, firsts):
        for start in range(0, len(part), _BATCH):
            erasable.erase_payloads(part[start : start + _BATCH])
