"""Imports one transcript file: reads what is new, appends it, and says what was left out.

The classes for each program derive from `TranscriptFileImport`. A session ends after a day of
silence; what comes later in the same file is another session, because the first one has ended.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from lllm.events.buffered import BufferedLog
from lllm.events.errors import StoreError
from lllm.events.ids import new_salt
from lllm.events.model import SessionTagged
from lllm.events.redaction.redact import Redact
from lllm.events.statements import append_statement
from lllm.importing.transcripts.append_session import SessionAppender
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.importing.transcripts.session_events import SessionEvents, SessionSource
from lllm.importing.transcripts.transcript_json import Line, TranscriptFile, derived_id
from lllm.pricing.user_prices import PriceTable

DAY = 24 * 3600 * 10**9
"""Nanoseconds of silence after which a session ends."""
_AT_ONCE = 256  # lines that are read before their events are appended


class Conversation(Protocol):
    """Makes the events of one session from the entries of a transcript."""

    last_time: int
    """The time of the last entry, nanoseconds UTC."""

    def settle(self, now: int, *, changed: int) -> None:
        """Write a message that is complete.

        Args:
            now: The present, nanoseconds UTC.
            changed: The time at which the file was last changed, nanoseconds UTC.
        """

    def end(self) -> None:
        """End the session with its last entry."""


class Target(NamedTuple):
    """Where sessions are imported to.

    Attributes:
        log: The log of the store.
        redact: The redaction of the store.
        prices: The user's own prices; None for none.
        partition: The partition of the store.
        owners: The sessions that have the calls.
        sessions: The imported sessions, by the id that the program gave them, oldest first.
        turns: The turns of each thread of Codex, by the id of the thread: their ids, and the sums
            of tokens after their calls.
    """

    log: BufferedLog
    redact: Redact | None
    prices: PriceTable | None
    partition: str
    owners: CallOwners
    sessions: dict[str, list[ImportedSession]]
    turns: dict[str, set[str]]


class ImportedSession:
    """One session that is being imported.

    Args:
        source: What it is imported from.
        began: The time of its first entry, nanoseconds UTC.
        target: Where it goes.

    Raises:
        StoreError: The session was erased from the store.
    """

    conversation: Conversation
    """What makes the events of the session; set right after the session was made."""

    def __init__(self, source: SessionSource, began: int, target: Target) -> None:
        self.began = began
        self.id = source.session_id
        self.path = source.tactic_path
        self.ancestors = source.ancestors
        self._appender = SessionAppender(target.log, source.session_id, target.redact)
        self.events = SessionEvents(source, self._appender.salt, target.prices)
        self.was_there = self._appender.was_there

    @property
    def appended(self) -> int:
        """The number of events that were appended."""
        return self._appender.appended

    def write(self) -> None:
        """Append the events that were made.

        Raises:
            StoreError: The log has other events of this session.
        """
        self._appender.append(self.events.take())


class TranscriptFileImport:
    """A transcript, and how far it is imported.

    Args:
        path: The file.
        target: Where its sessions go.
    """

    program: str
    """The name of the program that wrote the file, "claude-code"."""
    has_many = False
    """True if the sessions of a file have nothing to do with each other."""

    def __init__(self, path: Path, target: Target) -> None:
        self.path = path
        self.target = target
        self._file = TranscriptFile(path)
        self._seen: tuple[int, int] | None = None  # the size and time of the last reading
        self._open: dict[str, ImportedSession] = {}  # by name within the file
        self._titles: dict[str, str] = {}  # by session
        self._titled: set[tuple[str, str]] = set()
        self._refused: set[str] = set()  # names of sessions; "" for the whole file
        self.has_known = False
        """True if a line of the file was one that the program writes."""
        self.sessions: list[ImportedSession] = []
        """The sessions of the file, oldest first."""
        self.left_out: list[str] = []
        """What was not imported, and why."""
        self.unknown: Counter[str] = Counter()
        """Kinds of lines that this version does not know, and their number."""

    @property
    def is_foreign(self) -> bool:
        """True if the file has lines, and none of them is of the program."""
        return bool(self.unknown) and not (self.sessions or self.has_known)

    def state(self) -> tuple[int, int]:
        """Say how the file is: its size, and when it was last changed, in nanoseconds UTC.

        Raises:
            OSError: The file can't be read.
        """
        found = os.stat(self.path)
        return found.st_size, found.st_mtime_ns

    def changed_at(self, session: ImportedSession, changed: int) -> int:  # noqa: ARG002
        """Say when a session of the file was last changed, in nanoseconds UTC.

        Args:
            session: The session.
            changed: When the file was last changed.
        """
        return changed

    def new_lines(self) -> Iterator[Line]:
        """Read what was added to the file since the last time.

        Yields:
            The lines, in order.

        Raises:
            OSError: The file can't be read.
        """
        return self._file.new_lines()

    def name_of(self, line: Line) -> str:
        """Find the name of the session that a line is of, if a file has many."""
        raise NotImplementedError

    def take(self, line: Line) -> None:
        """Take the next line that can be read; each program has its own way."""
        raise NotImplementedError

    def read(self, now: int) -> None:
        """Import what was added to the file since the last time.

        Args:
            now: The present, nanoseconds UTC.
        """
        try:
            state = self.state()
            if state != self._seen:
                self._seen = state
                for number, line in enumerate(self.new_lines(), 1):
                    self._take(line)
                    if number % _AT_ONCE == 0:
                        self._write()
        except OSError as error:
            self.left_out.append(f"{self.path} can't be read: {error.strerror}")
            return
        for one in self._open.values():
            changed = self.changed_at(one, state[1])
            one.conversation.settle(now, changed=changed)
            if now - max(changed, one.conversation.last_time) > DAY:
                one.conversation.end()
        self._write()
        self._tag()

    def _take(self, line: Line) -> None:
        if line.value is None:
            self.left_out.append(f"{self.path}, line {line.number}: {line.fault}; it is left out")
            return
        name = self.name_of(line) if self.has_many else ""
        if name in self._refused:
            return
        try:
            self.take(line)
        except StoreError as error:
            self._refuse(name, str(error))

    def _write(self) -> None:
        for name, one in self._open.items():
            whole = name if self.has_many else ""
            if whole in self._refused:
                continue
            try:
                one.write()
            except StoreError as error:
                self._refuse(whole, str(error))

    def _refuse(self, name: str, why: str) -> None:
        self._refused.add(name)
        self.left_out.append(f"{self.path}: {why}")

    # -- sessions

    def open_session(self, name: str, time: int) -> ImportedSession | None:
        """Find the session that goes on at a time; one that was silent for a day ends.

        Args:
            name: The name of the session within the file.
            time: The time of the next entry, nanoseconds UTC.

        Returns:
            The session; None if a new one begins with the entry.

        Raises:
            StoreError: The log has other events of the session that ends.
        """
        one = self._open.get(name)
        if one is None or not (one.events.is_ended or time - one.conversation.last_time > DAY):
            return one
        one.conversation.end()
        one.write()
        return None

    def begin_session(self, name: str, source: SessionSource, time: int) -> ImportedSession:
        """Begin a session; its `conversation` is to be set.

        Args:
            name: The name of the session within the file.
            source: What it is imported from.
            time: The time of its first entry, nanoseconds UTC.

        Returns:
            The session.

        Raises:
            StoreError: The session was erased.
        """
        one = ImportedSession(source, time, self.target)
        self._open[name] = one
        self.sessions.append(one)
        return one

    def parent(self, foreign_id: str, time: int) -> ImportedSession | None:
        """Find the session of a foreign id in which another session began.

        Args:
            foreign_id: The id that the program gave the parent.
            time: The time at which the other session began, nanoseconds UTC.

        Returns:
            The session; None if it was not imported.
        """
        known = self.target.sessions.get(foreign_id, [])
        before = [one for one in known if one.began <= time]
        return before[-1] if before else known[0] if known else None

    # -- titles

    def set_title(self, one: ImportedSession, title: str) -> None:
        """Give a session the title that the transcript names, as a tag."""
        self._titles[one.id] = title

    def _tag(self) -> None:
        """Write titles as tags; the name of the statement makes sure that it is written once."""
        refused = {
            one.id
            for name, one in self._open.items()
            if (name if self.has_many else "") in self._refused
        }
        for one in self.sessions:
            title = self._titles.get(one.id)
            if title is None or (one.id, title) in self._titled or one.id in refused:
                continue
            self._titled.add((one.id, title))
            salt = new_salt()
            append_statement(
                self.target.log,
                f"tagged-{derived_id(one.began, self.program, one.id, title)}",
                SessionTagged(about=one.id, set={"title": title}, by=self.program, salt=salt),
                salt=salt,
                redact=self.target.redact,
            )
