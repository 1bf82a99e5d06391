"""Erases the payloads of whole streams; all digests of the log still match afterwards.

The digest of an event covers a commitment to its payload and not the payload itself. So payload and
salt can be removed if the 32 bytes of the commitment stay. The first event of a stream is erased
last, because it has the salt for the commitments of the others. So an interrupted erasure can be
finished later.
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
    """Check that a log can erase payloads.

    Args:
        log: The backend of the log.

    Returns:
        The same log.

    Raises:
        ErasureRefused: The log can't erase payloads.
    """
    why = getattr(log, "why_not_erasable", None)
    if isinstance(log, ErasesPayloads) and why is None:
        return log
    why = why or "its backend has no `erase_payloads` (see lllm.events.backend.ErasesPayloads)."
    raise ErasureRefused(f"{log!r} can't erase payloads: {why} Nothing was erased.")


def without_payloads(events: Iterable[Recorded]) -> list[Recorded]:
    """Make the erased form of all events of one stream.

    Args:
        events: All events of the stream, in order.

    Returns:
        The events that still have a payload, in erased form; events that are erased already are
        left out.

    Raises:
        LogDamaged: An event differs from what was written, so its commitment would prove nothing.
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
                "it was. `lllm verify` lists all damage.",
                position=event.position,
                stream=event.stream,
            )
        erased.append(erase(event, salt))
    return erased


def erase_events(log: LogBackend, erased: Sequence[Recorded]) -> None:
    """Erase the payloads of events, permanently.

    Args:
        log: The backend of the log.
        erased: All events of some streams, in the form that `without_payloads` returns.

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
