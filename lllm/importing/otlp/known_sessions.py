"""Finds what the log has of a trace, or of a conversation, from earlier imports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from lllm.events.buffered import BufferedLog
from lllm.events.codec import decode_part
from lllm.events.concurrency.decoders import decoder
from lllm.events.errors import LogDamaged
from lllm.events.integrity.session_root import ENDS
from lllm.events.model import Ancestor, SessionStarted
from lllm.projections.engine.skip_damage import skip_corrupt_events

SOURCE = "otlp:"
"""How the foreign ids of sessions begin that were made from OTLP; the trace follows."""


class _Origin(msgspec.Struct):
    session: str = ""
    mode: str = ""


class _Start(msgspec.Struct):
    origin: _Origin | None = None


class _Otel(msgspec.Struct):
    batch: dict[str, str] = {}
    sessions: list[str] = []
    spans: dict[str, msgspec.Raw] = {}


class _Metadata(msgspec.Struct):
    otel: _Otel | None = None


class _Began(msgspec.Struct):
    tactic_path: str
    ancestors: tuple[Ancestor, ...] = ()
    metadata: _Metadata | None = None


_start, _began = decoder(_Start), decoder(_Began)


class EarlierSession(msgspec.Struct, frozen=True):
    """A session that an earlier import made.

    Attributes:
        id: Its id.
        tactic_path: Its path.
        ancestors: The sessions that it was called in, outermost first.
        spans: The ids of its own spans.
        batch: The digests of all spans or records that were written with it, by their ids; empty
            for a session that was written with another.
        together: The ids of the sessions that were written with it, itself included.
        is_ended: True if all of its events are there.
    """

    id: str
    tactic_path: str
    ancestors: tuple[Ancestor, ...]
    spans: frozenset[str]
    batch: dict[str, str]
    together: tuple[str, ...]
    is_ended: bool


def foreign_id(trace: str, part: str) -> str:
    """Make the foreign id of a session; `part` is that of the span it is made from."""
    return f"{SOURCE}{trace}/{part}"


class KnownSessions:
    """Remembers which sessions were made from which trace; the log is read once.

    Args:
        log: The log of the store.
    """

    def __init__(self, log: BufferedLog) -> None:
        self._log = log
        self._ids: defaultdict[str, list[str]] = defaultdict(list)
        backend = log.backend
        for event in skip_corrupt_events(backend, (SessionStarted.type,), 0, backend.head()):
            if b'"' + SOURCE.encode() not in event.data:
                continue
            try:
                origin = decode_part(event.data, _start).origin
            except msgspec.MsgspecError:
                continue  # erased, or of a later version
            if origin is not None and origin.mode == "import":
                self.add(origin.session, event.stream)

    def add(self, foreign: str, session_id: str) -> None:
        """Note a session that was written."""
        if foreign.startswith(SOURCE):
            ids = self._ids[foreign.removeprefix(SOURCE).rpartition("/")[0]]
            if session_id not in ids:
                ids.append(session_id)

    def has(self, trace: str) -> bool:
        """True if the log has a session of a trace."""
        return trace in self._ids

    def of(self, trace: str) -> list[EarlierSession]:
        """Read the sessions of a trace, oldest first; those that can't be read are left out."""
        return [one for session_id in self._ids.get(trace, ()) for one in self._read(session_id)]

    def _read(self, session_id: str) -> Iterator[EarlierSession]:
        try:
            events = self._log.read(stream=session_id)
            first = next(events, None)
            if first is None:
                return
            last = first.type
            for event in events:
                last = event.type
            began = decode_part(first.data, _began)
        except (LogDamaged, msgspec.MsgspecError):
            return
        otel = (began.metadata and began.metadata.otel) or _Otel()
        yield EarlierSession(
            session_id, began.tactic_path, began.ancestors, frozenset(otel.spans), otel.batch,
            tuple(otel.sessions), last in ENDS,
        )  # fmt: skip
