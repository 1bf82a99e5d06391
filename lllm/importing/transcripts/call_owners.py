"""Tells which session has a call of a model, because calls are exported and copied repeatedly."""

from __future__ import annotations

from functools import cached_property

import msgspec

from lllm.events.buffered import BufferedLog
from lllm.events.codec import decode_part
from lllm.events.concurrency.decoders import decoder
from lllm.events.model import LLMResponded
from lllm.projections.engine.skip_damage import skip_corrupt_events

_UNIQUE = (
    16  # characters of an id that no other call has; servers on one's own machine have shorter
)
_APART = 2 * 10**9  # nanoseconds between the ends that two programs see of the same call


class _Response(msgspec.Struct):
    response_id: str | None = None
    request_id: str | None = None


_response = decoder(_Response)


class CallOwners:
    """Remembers the session of each call, so that its cost is counted once.

    Damaged events are left out; `lllm verify` reports them.

    Args:
        log: The log of the store; it knows the calls of earlier imports, and those that lllm
            recorded itself.
    """

    def __init__(self, log: BufferedLog) -> None:
        self._log = log

    @cached_property  # not every program names its calls, and the log may be long
    def _owners(self) -> dict[str, tuple[tuple[str, int], ...]]:
        owners: dict[str, tuple[tuple[str, int], ...]] = {}
        backend = self._log.backend
        for event in skip_corrupt_events(backend, (LLMResponded.type,), 0, backend.head()):
            try:
                found = decode_part(event.data, _response)
            except msgspec.MsgspecError:
                continue  # erased, or of a later version
            for name in (found.response_id, found.request_id):
                if name:
                    owners[name] = (*owners.get(name, ()), (event.stream, event.time))
        return owners

    def is_elsewhere(self, response_id: str, session_id: str) -> bool:
        """True if another session has the call; otherwise it belongs to this one from now on."""
        owners = self._owners.setdefault(response_id, ((session_id, 0),))
        return owners[0][0] != session_id

    def is_elsewhere_at(self, name: str, session_id: str, *, began: int, ended: int) -> bool:
        """True if another session has a call that was made at a time.

        Servers on one's own machine number their answers, so a short id is only of the same call if
        the call ended at the same time.

        Args:
            name: The provider's id of the answer, or of the request.
            session_id: The session that asks; it has the call from now on if no other has.
            began: The beginning of the call, nanoseconds UTC.
            ended: Its end, nanoseconds UTC.
        """
        owners = self._owners.get(name, ())
        for owner, time in owners:
            if len(name) >= _UNIQUE or began - _APART <= time <= ended + _APART:
                return owner != session_id
        self._owners[name] = (*owners, (session_id, ended))
        return False
