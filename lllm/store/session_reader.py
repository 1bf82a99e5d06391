"""Reads sessions from a store: brings its rows up to date, then loads events by them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from typing import TypeVar

import msgspec

from lllm.events import codec
from lllm.events.buffered import BufferedLog
from lllm.events.concurrency.liveness import WriterLiveness
from lllm.events.envelope import Recorded
from lllm.events.errors import AmbiguousId, LogError, SessionNotFound
from lllm.events.exported_lines import as_jsonl
from lllm.events.model import AgentDefined, Event, SessionAnnotated
from lllm.events.recorder import Recorder
from lllm.events.redaction.redact import Redact
from lllm.events.values.json_values import from_plain
from lllm.projections.database import RowsDatabase
from lllm.projections.queries import load_session as loading
from lllm.projections.queries import running_sessions
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.definition_versions import (
    DefinitionVersion,
    definition_versions,
)
from lllm.projections.session.annotations import Annotation, annotations_in
from lllm.projections.session.call_session import TacticCallSession
from lllm.projections.session.fold import ReadValue, fold_decoded
from lllm.sessions.load_finished import fold_finished
from lllm.sessions.unfinished_sessions import settle_lost
from lllm.store.crash_detection import interrupt, interrupt_dead
from lllm.store.erasure_report import refuse_archived, refuse_gone
from lllm.store.load_as_of import PointInTime, Until, tags_in
from lllm.store.loaded_session import LoadedSession
from lllm.store.read_model import ReadModel
from lllm.store.session_export import FORMATS, as_json, as_recorded

_logger = logging.getLogger("lllm.store")

T = TypeVar("T")


class SessionReader:
    """Brings the rows of a store up to date before each query, and loads sessions.

    Args:
        log: The log from which sessions are loaded.
        rows: The rows that tell where the events of a session are in the log.
        liveness: Tells which processes are dead; None if the backend can't tell.
        redact: The redaction of the events that are written for sessions whose process died.
    """

    def __init__(
        self,
        log: BufferedLog,
        rows: ReadModel,
        liveness: WriterLiveness | None,
        redact: Redact | None,
    ) -> None:
        self._log = log
        self._rows = rows
        self._liveness = liveness
        self._redact = redact

    def catch_up(self) -> None:
        """Bring the rows up to date, and find the sessions whose process died."""
        settle_lost()
        self._log.write_held()
        behind = not self._caught_up()
        liveness = self._liveness
        if liveness is not None and self._rows.ask(
            lambda rows: interrupt_dead(
                self._log, rows, liveness, redact=self._redact, behind=behind
            )
        ):
            self._caught_up()

    def interrupt(self, session_ids: Collection[str]) -> None:
        """Record an interruption for sessions whose process is known to be dead.

        Args:
            session_ids: The ids of the sessions; those that have ended are left alone.
        """

        def running(database: RowsDatabase) -> list[running_sessions.Running]:
            with database.snapshot() as connection:
                return running_sessions.running(connection)

        for session in self.ask(running) if session_ids else ():
            if session.id in session_ids:
                interrupt(self._log, session, self._redact)

    def _caught_up(self) -> bool:
        try:
            return self._rows.catch_up()
        except LogError as error:
            # A full disk, or damage: use the rows as they are; `lag` tells how far they are behind.
            _logger.warning("the rows could not follow the log: %s", error)
            return False

    def ask(self, question: Callable[[RowsDatabase], T]) -> T:
        """Run a query on the rows after bringing them up to date.

        Args:
            question: The query, a function of the database. It is called again with another
                database if a page of the first one can't be read.

        Returns:
            The result of the query.

        Raises:
            LogError: The rows can't be read. Other errors of the query are raised unchanged.
            LogUnavailable: The role that lllm connects as may only write.
        """
        self._rows.check_readable()
        self.catch_up()
        return self._rows.ask(question)

    def find(self, session_id: str, *, below: bool = True) -> loading.FoundSession:
        """Find a session by its id.

        Args:
            session_id: The whole id.
            below: True to find its descendants, too.

        Returns:
            The facts about the session in the rows.

        Raises:
            SessionNotFound: There is no such session.
        """
        found = self.ask(partial(loading.find, session_id=session_id, below=below))
        if found is None:
            raise SessionNotFound(
                f"No session {session_id!r} in {self._log.backend!r}; "
                "list_sessions() lists those that exist."
            )
        return found

    def find_id(self, prefix: str) -> str:
        """Find the one session id that begins with a prefix; see `LogStore.find_id`."""

        def found(database: RowsDatabase) -> list[str]:
            with session_queries.reading(database) as connection:
                return session_queries.ids_beginning(connection, prefix.lower(), 4)

        ids = self.ask(found)
        if not ids:
            raise SessionNotFound(
                f"No session in {self._log.backend!r} has an id beginning {prefix!r}."
            )
        if len(ids) > 1:
            shown = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
            raise AmbiguousId(f"Several ids begin with {prefix!r}: {shown}. Give more of it.")
        return ids[0]

    def read(
        self,
        session_id: str,
        *,
        below: bool = True,
        at: PointInTime | None = None,
        erased: bool = False,
    ) -> tuple[loading.FoundSession, list[Recorded]]:
        """Read the events of a session, and later statements about it, in log order.

        Args:
            session_id: The whole id.
            below: Read those of the sessions below it, too.
            at: The point in time that is read to, None for all there is.
            erased: Read what is left of a session that was erased: events without payloads.

        Returns:
            The facts about the session in the rows, with its tags at that time, and the events.

        Raises:
            SessionNotFound: There is no such session.
            SessionWasErased: It was erased.
            StoreError: The session had not begun at `at`.
            LogDamaged: An event in the log is corrupt.
        """
        found = self._found_readable(session_id, below=below, erased=erased)
        if at is None:
            return found, loading.read_sessions(self._log, found)
        until = Until(at)
        events = until.of(loading.read_sessions(self._log, until.narrowed(found)))
        if not any(event.stream == session_id for event in events):
            raise until.not_begun(found)
        tags = tags_in(events, session_id)
        if found.row.parent is not None:
            tags = self._tags_of_root(found, until) | tags
        return msgspec.structs.replace(found, tags=tags), events

    def _found_readable(
        self, session_id: str, *, below: bool, erased: bool
    ) -> loading.FoundSession:
        found = self.find(session_id, below=below)
        if found.row.erased is None:
            refuse_archived(found.row)
        elif not erased:
            refuse_gone(found.row)
        return found

    def _tags_of_root(self, found: loading.FoundSession, until: Until) -> dict[str, str]:
        def root_of(database: RowsDatabase) -> loading.FoundSession | None:
            with session_queries.reading(database) as connection:
                row = session_queries.numbered_session(connection, found.row.root)
            return None if row is None else loading.find(database, row.id, below=False)

        root = self._rows.ask(root_of)
        if root is None:
            return {}
        first = msgspec.structs.replace(root.row, last_position=root.row.number)
        root = until.narrowed(msgspec.structs.replace(root, family=[first]))
        return tags_in(until.of(loading.read_sessions(self._log, root)), root.row.id)

    def load(
        self,
        session_id: str,
        read_value: ReadValue = from_plain,
        *,
        at: PointInTime | None = None,
    ) -> tuple[loading.FoundSession, TacticCallSession]:
        """Load a session with its descendants.

        Args:
            session_id: The whole id.
            read_value: A function that converts a recorded value to the user's.
            at: The point in time as of which to load it; None for now.

        Returns:
            The facts about the session in the rows, and the session.

        Raises:
            SessionNotFound: There is no such session, or none of its events can be read.
            StoreError: The session had not begun at `at`.
            LogDamaged: An event in the log is corrupt.
        """
        loaded = self.load_with_events(session_id, read_value, at=at)
        return loaded.found, loaded.session

    def load_with_events(
        self,
        session_id: str,
        read_value: ReadValue = from_plain,
        *,
        at: PointInTime | None = None,
    ) -> LoadedSession:
        """Load a session with its descendants, and keep the events that it was made from.

        Args:
            session_id: The whole id.
            read_value: A function that converts a recorded value to the user's.
            at: The point in time as of which to load it; None for now.

        Returns:
            The session and the events.

        Raises:
            SessionNotFound: There is no such session, or none of its events can be read.
            StoreError: The session had not begun at `at`.
            LogDamaged: An event in the log is corrupt.
        """
        found, events = self.read(session_id, at=at)
        payloads = list(map(codec.decode, events))
        session = fold_decoded(zip(events, payloads, strict=True), session_id, read_value)
        if session is None:
            raise SessionNotFound(f"The events of session {session_id!r} can't be read.")
        return LoadedSession(found=found, session=session, events=events, payloads=payloads)

    def load_reduced(
        self, session_id: str, reduced: Callable[[Event], Event], is_kept: Callable[[Event], bool]
    ) -> LoadedSession:
        """Load a session with its descendants, while only few events are in memory at a time.

        Args:
            session_id: The whole id of the session.
            reduced: A function that leaves out of a payload what is not needed.
            is_kept: A function that tells which payloads are kept beside the session.

        Returns:
            The session with the kept payloads, those of one session after the other. For most, the
            event has only the stream; it is whole for `session.annotated`.

        Raises:
            SessionNotFound: There is no such session, or none of its events can be read.
            SessionWasErased: It was erased.
            LogDamaged: An event in the log is corrupt.
        """
        found = self._found_readable(session_id, below=True, erased=False)
        events: list[Recorded] = []
        payloads: list[Event] = []
        streams: dict[str, Recorded] = {}
        size = 0

        def passing() -> Iterator[tuple[Recorded, Event]]:
            nonlocal size
            for event in loading.iterate_sessions(self._log, found):
                payload = reduced(codec.decode(event))
                size += len(event.data)
                yield event, payload
                if not is_kept(payload):
                    continue
                payloads.append(payload)
                if event.type == SessionAnnotated.type:
                    events.append(event)
                    continue
                if event.stream not in streams:
                    streams[event.stream] = msgspec.structs.replace(event, data=b"", digest=b"")
                events.append(streams[event.stream])

        session = fold_decoded(passing(), session_id, from_plain)
        if session is None:
            raise SessionNotFound(f"The events of session {session_id!r} can't be read.")
        return LoadedSession(
            found=found, session=session, events=events, payloads=payloads, size=size
        )

    def load_finished(self, recorder: Recorder) -> TacticCallSession:
        """Load a session that has just ended; see SessionHost."""
        if not self._log.held:
            with suppress(Exception):  # even if the rows are unusable, the log has everything
                found, session = self.load(recorder.session_id)
                # otherwise the rows are behind, and lack child sessions
                if found.row.last_position is not None:
                    return session
        return fold_finished(self._log, recorder)

    def definition_versions(self, streams: Collection[str]) -> dict[str, DefinitionVersion]:
        """Look up which version of its agent each definition is.

        Args:
            streams: The streams of the definitions.

        Returns:
            The versions, by stream; unknown definitions are left out.
        """

        def read(database: RowsDatabase) -> dict[str, DefinitionVersion]:
            with session_queries.reading(database) as connection:
                return definition_versions(connection, streams)

        return self.ask(read)

    def definition(self, stream: str) -> tuple[AgentDefined, DefinitionVersion] | None:
        """Read the definition of an agent, and which version of its agent it is.

        Args:
            stream: The stream of the definition.

        Returns:
            The definition and its version; None if the store does not have it (any more).
        """
        version = self.definition_versions([stream]).get(stream)
        if version is None:
            return None
        at = version.position
        for event in self._log.read(after=at - 1, upto=at, stream=stream):
            payload = codec.decode(event)
            if isinstance(payload, AgentDefined):
                return payload, version
        return None

    def recording(self, session_id: str) -> list[Recorded]:
        """Read the events that a replay of a session needs.

        Args:
            session_id: The whole id.

        Returns:
            The events of the session and its child sessions, and the definitions that they use.

        Raises:
            SessionNotFound: There is no such session.
            LogDamaged: An event in the log is corrupt.
        """
        found = self.find(session_id)
        refuse_gone(found.row)
        events = loading.read_sessions(self._log, found)
        definitions = self._rows.ask(lambda rows: loading.read_definitions(self._log, rows, events))
        return [*definitions, *events]

    def streams(
        self, session_id: str, *, children: bool = False, related: bool = False
    ) -> list[list[Recorded]]:
        """Read what a proof of a session shows, each stream by itself, also of an erased one.

        Args:
            session_id: The whole id.
            children: True to read its descendants, too.
            related: True to read later events about them, and the definitions of their agents.

        Returns:
            The events of each stream, in order; the session's own stream comes first.

        Raises:
            SessionNotFound: There is no such session.
            LogDamaged: An event in the log is corrupt.
        """
        found, events = self.read(session_id, below=children, erased=True)
        definitions = self._rows.ask(lambda rows: loading.read_definitions(self._log, rows, events))
        streams: dict[str, list[Recorded]] = {session_id: []}
        for event in [*events, *definitions]:
            streams.setdefault(event.stream, []).append(event)
        family = {row.id for row in found.family}
        return [some for name, some in streams.items() if some and (related or name in family)]

    def annotations(
        self,
        session_id: str,
        read_value: ReadValue = from_plain,
        *,
        at: PointInTime | None = None,
    ) -> list[Annotation]:
        """Read what was judged of a session, without those below it.

        Args:
            session_id: The whole id.
            read_value: Makes a value out of its recorded form.
            at: The point in time as of which to load; None for now.

        Returns:
            The annotations that hold.

        Raises:
            SessionNotFound: There is no such session.
            LogDamaged: An event in the log is corrupt.
        """
        _, events = self.read(session_id, below=False, at=at)
        return annotations_in(events, session_id, read_value)

    def events(self, session_id: str, *, at: PointInTime | None = None) -> Iterator[Recorded]:
        """Read the events of a session or a saved error; see `LogStore.events`."""
        if session_id.startswith("error-"):
            recorded = list(self._log.read(stream=session_id))
            if recorded:
                return iter(recorded)
        return iter(self.read(session_id, below=False, at=at, erased=True)[1])

    def export(self, session_id: str, form: str, *, at: PointInTime | None = None) -> str:
        """Export a session as text; see `LogStore.export_session`."""
        if form not in FORMATS:
            raise ValueError(f"format is one of {', '.join(FORMATS)}; not {form!r}")
        loaded = self.load_with_events(session_id, read_value=as_recorded, at=at)
        events = loaded.events
        if form == "json":
            judged = annotations_in(events, session_id, as_recorded)
            return as_json(loaded.session, loaded.found.tags, judged)
        definitions = self._rows.ask(lambda rows: loading.read_definitions(self._log, rows, events))
        return as_jsonl([*definitions, *loading.read_gaps(self._log, events), *events])
