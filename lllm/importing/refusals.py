"""Refuses the sessions of a source that can't be imported, before any event is copied.

Each event is checked against its digest, its place in its stream, and what the store has in that
place. An error refuses the whole tree of sessions that the event belongs to: without one of its
descendants, a session would be incomplete, and its cost too low. If the definition of an agent is
refused, all sessions that refer to it are refused, too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from lllm.events import codec
from lllm.events.damage import Damage
from lllm.events.digest import digest_of
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged
from lllm.events.integrity.merkle import RightEdge
from lllm.events.integrity.session_root import ENDS, root_problem
from lllm.events.model import (
    EVENTS,
    AgentDefined,
    AgentStarted,
    Erased,
    Event,
    LLMRequested,
    LogGap,
    SessionArchived,
    SessionInterrupted,
    SessionRestored,
    SessionStarted,
)
from lllm.importing.already_stored import KnownEvents
from lllm.importing.stream_notes import StreamNote, StreamNotes

_REFERRING = (AgentStarted.type, LLMRequested.type)  # types of events that refer to a definition
_DEFINITION = "definition-"
# Types of statements of which any two with the same name are equal.
SAID_BY_MANY = (AgentDefined.type, SessionInterrupted.type)


class _Refused(Exception):
    """Raised with the reason why an event can't be imported."""


class StreamChecks:
    """Checks the events of one source, and notes which of them to copy.

    Args:
        known: Looks up what the store has already.
        notes: The notes about the source, which it writes.
        awaiting: True to leave sessions for another round if something that they refer to is
            missing.
    """

    def __init__(self, known: KnownEvents, notes: StreamNotes, *, awaiting: bool) -> None:
        self._known = known
        self._notes = notes
        self._awaiting = awaiting
        # each: the number of lost events, and the first and the last time
        self._gaps: list[list[int]] = []
        self._bad_definitions: set[str] = set()
        self._archived: dict[str, tuple[Recorded, SessionArchived]] = {}

    def take(self, event: Recorded | Damage) -> None:
        """Check the next event of the source.

        Args:
            event: The event, or the Damage in its place.
        """
        if isinstance(event, Damage):
            self._refuse(event.stream, event.position, event.what)
            return
        try:
            self._check(event)
        except _Refused as refused:
            self._refuse(event.stream, event.position, str(refused))
        except LogDamaged as damage:
            self._refuse(event.stream, event.position, f"what is here of it is damaged: {damage}")

    def _refuse(self, stream: str, place: int, why: str) -> None:
        note = self._notes.get(stream)
        if note is None:
            note = self._notes.add(stream, StreamNote(stream, place=place))
        self._notes.refuse(note.root, place, why)
        if stream.startswith(_DEFINITION):
            self._bad_definitions.add(stream)

    def refuse_living(self, lives: Callable[[str, str], bool | None]) -> set[str]:
        """Refuse the sessions that are still being written, and write the notes.

        Args:
            lives: A function that tells whether the process that holds a lock on a host is alive;
                None if that is unknown.

        Returns:
            The ids of the sessions whose process is known to be dead.
        """
        for about, (event, archived) in self._archived.items():
            if not archived.ancestors and not self._is_there(about):
                why = f"session {about} left that store for the archive {archived.archive}"
                self._refuse(about, event.position, f"{why}; import that, too")
        self._notes.write_all()
        asked: dict[tuple[str, str], bool | None] = {}
        dead: set[str] = set()
        living: list[tuple[str, StreamNote]] = []
        for stream, note in self._notes.open_sessions():
            writer = note.owner, note.host
            if writer not in asked:
                asked[writer] = lives(*writer)
            if asked[writer]:
                living.append((stream, note))
            elif asked[writer] is False:
                dead.add(stream)
        for stream, note in living:
            why = f"session {stream} is still running there; import it when it has ended"
            self._notes.refuse(note.root, note.place, why)
        return dead

    # -- one event

    def _check(self, event: Recorded) -> None:
        kind = EVENTS.get(event.type)
        note = self._notes.get(event.stream)
        if note is None:
            note = self._begin(event)
        elif note.awaits and event.seq == 1 and all(map(self._is_there, note.needs)):
            # looking up the others may have moved it out of memory
            note = self._notes.add(event.stream, note)
            note.awaits, note.place = False, event.position
        if kind is None or event.version > kind.version:
            raise _Refused(
                f"{_named(event)} is {event.type!r} in version {event.version}, which a newer lllm "
                "wrote. Upgrade lllm to import it"
            )
        salt = codec.salt_of(event) if event.seq == 1 else note.salt
        if not _fits(event, salt):
            raise _Refused(
                f"{_named(event)} is not what was written: its digest does not fit its content"
            )
        self._look_into(event)
        before = note.digests.get(event.seq)
        if before is None:
            self._check_place(event, note)
            note.digests[event.seq] = event.digest
        elif before != event.digest and event.type not in SAID_BY_MANY:
            raise _Refused(
                f"another event is in the place of {_named(event)} already: there are two "
                "versions of it"
            )
        if event.seq > note.seq:
            note.seq, note.time = event.seq, event.time
        if event.type in ENDS:
            note.is_open = False
            _check_root(event, note)

    def _check_place(self, event: Recorded, note: StreamNote) -> None:
        missing = event.seq - note.seq - 1
        first, last = note.seq + 1, event.seq - 1
        if missing > 0 and not self._are_known_lost(missing, event, note):
            those = f"event {first} is" if first == last else f"events {first} to {last} are"
            raise _Refused(f"{those} missing before {_named(event)}")

    def _look_into(self, event: Recorded) -> None:
        """Note recorded gaps, and refuse agents whose definition was refused."""
        if event.type == LogGap.type:
            gap = codec.decode(event)
            if isinstance(gap, LogGap):
                self._gaps.append([gap.lost, gap.first_time, gap.last_time])
        elif event.type in _REFERRING and self._bad_definitions:
            referring = codec.decode(event)
            if not isinstance(referring, AgentStarted | LLMRequested):
                return
            if referring.definition in self._bad_definitions:
                raise _Refused(f"{referring.definition}, which {_named(event)} needs, was refused")

    def _are_known_lost(self, count: int, event: Recorded, note: StreamNote) -> bool:
        """True if this many events were never written, according to the source itself."""
        begin, end = sorted((event.time, note.time or event.time))
        for gap in self._gaps:
            lost, first_time, last_time = gap
            if note.seq and count <= lost and begin <= last_time and first_time <= end:
                gap[0] -= count
                return True
        return False

    # -- the first event of a stream

    def _begin(self, event: Recorded) -> StreamNote:
        payload = codec.decode(event) if event.seq == 1 else None
        if isinstance(payload, Erased):
            note = self._notes.add(event.stream, StreamNote(event.stream, place=event.position))
            raise _Refused(f"the content of {event.stream} was erased there")
        if payload is None or isinstance(payload, SessionStarted):
            return self._begin_session(event, payload)
        note = self._begin_statement(event, payload)
        return self._notes.add(event.stream, note)

    def _begin_session(self, event: Recorded, started: SessionStarted | None) -> StreamNote:
        known = self._known.session(event.stream)
        note = StreamNote(event.stream, place=event.position)
        if started is not None:
            note.needs = tuple(above.session_id for above in started.ancestors)
            note.root = note.needs[0] if note.needs else event.stream
            note.salt = started.salt
            note.is_open = True
            note.owner, note.host = started.owner, started.host
            note.awaits = self._awaiting and not all(map(self._is_there, note.needs))
        if known is not None:
            note.salt, note.time = known.salt, known.time
            note.digests = dict(known.digests)
            note.seq = max(known.digests, default=0)
            note.known = note.seq if len(known.digests) == note.seq else 0
        self._notes.add(event.stream, note)
        if known is not None and known.erased is not None:
            raise _Refused(
                f"session {event.stream} was {known.erased}; what was erased here stays so"
            )
        if started is None and known is None:
            raise _Refused(f"the first events of session {event.stream} are missing")
        if known is not None and not known.has_parent:
            self._check_above(event, note)
        for above in note.needs:
            archive = self._known.archive_of(above)
            if archive is not None and self._notes.get(above) is None:
                raise _Refused(
                    f"session {above}, which {event.stream} is a part of, was archived to "
                    f"{archive}. Import that file"
                )
        return note

    def _check_above(self, event: Recorded, note: StreamNote) -> None:
        """Refuse a session that is stored without the ancestors that the source has."""
        for above in note.needs:
            if self._notes.get(above) is not None and not self._known.has_session(above):
                raise _Refused(
                    f"session {event.stream} was imported before without its ancestor {above}, "
                    "and can't be moved there any more. Import them together into a new store"
                )

    def _is_there(self, session_id: str) -> bool:
        note = self._notes.get(session_id)
        if note is not None:
            return not note.awaits
        return self._known.has_session(session_id)

    def _begin_statement(self, event: Recorded, payload: Event) -> StreamNote:
        note = StreamNote(event.stream, codec.salt_of(event), place=event.position)
        about = getattr(payload, "about", None)
        if isinstance(payload, SessionArchived | SessionRestored):
            note.known = 1  # it says where events of the other store are, which is not copied
            if isinstance(payload, SessionArchived):
                self._archived[payload.about] = event, payload
            return note
        if event.type == AgentDefined.type:
            note.known = int(self._known.has_definition(event.stream))
        elif isinstance(about, str):
            above = self._notes.get(about)
            note.needs, note.root = (about,), about if above is None else above.root
            if not self._is_there(about):
                note.awaits = self._awaiting
                if not self._awaiting:
                    self._notes.add(event.stream, note)
                    raise _Refused(
                        f"{event.type!r} is about session {about}, which is neither here nor there"
                    )
            digest = self._known.statement(event.stream, about)
            if digest is not None:
                note.digests, note.seq, note.known = {1: digest}, 1, 1
        return note


def _check_root(end: Recorded, note: StreamNote) -> None:
    """Refuse a session whose end has another root than its events, if all are there."""
    if max(note.digests) != end.seq or len(note.digests) != end.seq:
        return
    tree = RightEdge()
    tree.extend(note.digests[seq] for seq in range(1, end.seq))
    problem = root_problem(codec.decode(end), tree)
    if problem is not None:
        raise _Refused(f"of {_named(end)}, the last one, {problem}")


def _named(event: Recorded) -> str:
    return f"event {event.seq} of {event.stream}"


def _fits(event: Recorded, salt: bytes) -> bool:
    try:
        return event.digest == digest_of(event, salt)
    except (AttributeError, TypeError, UnicodeEncodeError, struct.error):
        return False  # one of its fields may have any type
