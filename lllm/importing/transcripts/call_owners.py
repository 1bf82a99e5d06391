"""Tells which session has a call of a model, because transcripts repeat the calls of others."""

from __future__ import annotations

from functools import cached_property

import msgspec

from lllm.events.buffered import BufferedLog
from lllm.events.model import LLMResponded


class _Response(msgspec.Struct):
    response_id: str | None = None


class CallOwners:
    """Remembers the session of each call, so that its cost is counted once.

    Args:
        log: The log of the store; it knows the calls of earlier imports, and those that lllm
            recorded itself.
    """

    def __init__(self, log: BufferedLog) -> None:
        self._log = log

    @cached_property  # not every program names its calls, and the log may be long
    def _owners(self) -> dict[str, str]:
        owners: dict[str, str] = {}
        for event in self._log.read_types((LLMResponded.type,)):
            found = msgspec.json.decode(event.data, type=_Response).response_id
            if found:
                owners.setdefault(found, event.stream)
        return owners

    def is_elsewhere(self, response_id: str, session_id: str) -> bool:
        """True if another session has the call; otherwise it belongs to this one from now on."""
        return self._owners.setdefault(response_id, session_id) != session_id
