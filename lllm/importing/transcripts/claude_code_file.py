"""Reads one file of Claude Code, and keeps apart the sessions whose entries are in it.

A file is one session, with these exceptions: after a day of silence it continues as another
session, because the first one has ended by then; and older versions wrote the entries of sub-agents
into the file of the session that began them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lllm.events.buffered import BufferedLog
from lllm.events.errors import StoreError
from lllm.events.ids import new_salt
from lllm.events.model import Ancestor, SessionTagged
from lllm.events.redaction.redact import Redact
from lllm.events.statements import append_statement
from lllm.importing.transcripts.append_session import SessionAppender
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.importing.transcripts.claude_code import (
    DAY,
    NAME,
    PATH,
    ClaudeSession,
    Entry,
    entry_of,
    title_of,
)
from lllm.importing.transcripts.session_events import SessionEvents, SessionSource
from lllm.importing.transcripts.transcript_json import Line, TranscriptFile, derived_id
from lllm.invokers.dialects.provider_json import text
from lllm.pricing.user_prices import PriceTable

_AT_ONCE = 256  # entries that are read before their events are appended
# Lines that say nothing about the conversation.
_OTHER_KINDS = frozenset({
    "summary", "ai-title", "custom-title", "queue-operation", "attachment", "progress",
    "continued-in", "file-history-snapshot",
})  # fmt: skip


class Target(NamedTuple):
    """Where sessions are imported to.

    Attributes:
        log: The log of the store.
        redact: The redaction of the store.
        prices: The user's own prices; None for none.
        partition: The partition of the store.
        owners: The sessions that have the calls.
        sessions: The imported sessions, by the id that Claude Code gave them, oldest first.
    """

    log: BufferedLog
    redact: Redact | None
    prices: PriceTable | None
    partition: str
    owners: CallOwners
    sessions: dict[str, list[ImportedSession]]


class ImportedSession:
    """One session that is being imported.

    Args:
        source: What it is imported from.
        began: The time of its first entry, nanoseconds UTC.
        target: Where it goes.

    Raises:
        StoreError: The session was erased from the store.
    """

    def __init__(self, source: SessionSource, began: int, target: Target) -> None:
        self.began = began
        self.id = source.session_id
        self._appender = SessionAppender(target.log, source.session_id, target.redact)
        self._events = SessionEvents(source, self._appender.salt, target.prices)
        self.claude = ClaudeSession(self._events, target.owners)
        self.claude.last_time = began
        self.was_there = self._appender.was_there

    @property
    def appended(self) -> int:
        """The number of events that were appended."""
        return self._appender.appended

    @property
    def is_ended(self) -> bool:
        """True if the session has its last event."""
        return self._events.is_ended

    def write(self) -> None:
        """Append the events that were made. Raises StoreError if the log has others."""
        self._appender.append(self._events.take())


class ClaudeCodeFile:
    """A transcript, and how far it is imported.

    Args:
        path: The file.
        target: Where its sessions go.
    """

    def __init__(self, path: Path, target: Target) -> None:
        self.path = path
        self._target = target
        self._file = TranscriptFile(path)
        self._seen: tuple[int, int] | None = None  # the size and time of the last reading
        self._current: dict[str, ImportedSession] = {}  # by sub-agent; "" for the session itself
        self._parts: Counter[str] = Counter()
        self._agents: dict[str, str] = {}  # by uuid: the sub-agent of a line
        self._titles: dict[str, str] = {}  # by session
        self._titled: set[tuple[str, str]] = set()
        self._refused = ""
        self._has_known = False
        self.sessions: list[ImportedSession] = []
        """The sessions of the file, oldest first."""
        self.left_out: list[str] = []
        """What was not imported, and why."""
        self.unknown: Counter[str] = Counter()
        """Kinds of lines that this version does not know, and their number."""

    @property
    def is_foreign(self) -> bool:
        """True if the file has lines, and none of them is of Claude Code."""
        return bool(self.unknown) and not (self.sessions or self._has_known)

    def read(self, now: int) -> None:
        """Import what was added to the file since the last time.

        Args:
            now: The present, nanoseconds UTC.
        """
        try:
            found = os.stat(self.path)
            if (found.st_size, found.st_mtime_ns) != self._seen:
                self._seen = (found.st_size, found.st_mtime_ns)
                for number, line in enumerate(self._file.new_lines(), 1):
                    self._take(line)
                    if number % _AT_ONCE == 0:
                        self._write()
        except OSError as error:
            self.left_out.append(f"{self.path} can't be read: {error.strerror}")
            return
        for one in self._current.values():
            one.claude.settle(now, changed=found.st_mtime_ns)
        self._write()
        self._tag()

    def _write(self) -> None:
        for one in self._current.values():
            self._guarded(one)

    def _guarded(self, one: ImportedSession) -> None:
        try:
            one.write()
        except StoreError as error:
            self._refuse(str(error))

    def _refuse(self, why: str) -> None:
        if not self._refused:
            self._refused = why
            self.left_out.append(f"{self.path}: {why}")

    def _take(self, line: Line) -> None:
        if self._refused:
            return
        if line.value is None:
            self.left_out.append(f"{self.path}, line {line.number}: {line.fault}; it is left out")
            return
        entry = entry_of(line.value)
        if entry is not None:
            self._add(entry)
            return
        kind = str(line.value.get("type"))
        if kind in _OTHER_KINDS:
            self._has_known = True
        else:
            self.unknown[kind] += 1
        self._note_title(line.value)

    def _add(self, entry: Entry) -> None:
        agent = self._agent_of(entry)
        one = self._current.get(agent)
        if one is not None and (one.is_ended or entry.time - one.claude.last_time > DAY):
            one.claude.end()
            self._guarded(one)
            one = None
        if one is None:
            try:
                one = self._begin(entry, agent)
            except StoreError as error:
                self._refuse(str(error))
                return
        late = one.claude.late
        one.claude.add(entry)
        if one.claude.late > late:
            self.left_out.append(
                f"{self.path}: a line of {entry.time} came after its message had been imported"
            )

    def _agent_of(self, entry: Entry) -> str:
        """Find the sub-agent that an entry belongs to; "" if it is of the session itself."""
        if not entry.line.get("isSidechain") or self.path.name.startswith("agent-"):
            return ""
        before = self._agents.get(text(entry.line.get("parentUuid")) or "")
        agent = text(entry.line.get("agentId")) or before or entry.uuid
        self._agents[entry.uuid] = agent
        return agent

    def _begin(self, entry: Entry, agent: str) -> ImportedSession:
        """Begin a session with its first entry."""
        self._parts[agent] += 1
        file_agent = text(entry.line.get("agentId")) or self.path.stem
        sub = agent or (file_agent if self.path.name.startswith("agent-") else "")
        own = self._foreign_id(entry)
        names = (NAME, own, sub, str(self._parts[agent]))
        parent = self._parent(own, entry.time) if sub else None
        one = ImportedSession(
            SessionSource(
                derived_id(entry.time, *names),
                f"{own}/{sub}" if sub else own,
                f"{NAME}::subagent" if sub else PATH,
                () if parent is None else (Ancestor(parent.id, PATH),),
                None if parent is None else parent.claude.subagents.get(sub),
                self._target.partition,
            ),
            entry.time,
            self._target,
        )
        self._current[agent] = one
        self.sessions.append(one)
        if not sub:
            self._target.sessions.setdefault(own, []).append(one)
        return one

    def _foreign_id(self, entry: Entry) -> str:
        """The id of the session; the name of the file says it, since copied lines say another."""
        if self.path.parent.name == "subagents":
            return self.path.parent.parent.name
        if self.path.name.startswith("agent-"):
            return text(entry.line.get("sessionId")) or self.path.stem
        return self.path.stem

    def _parent(self, foreign_id: str, time: int) -> ImportedSession | None:
        """Find the session that a sub-agent began in."""
        known = self._target.sessions.get(foreign_id, [])
        before = [one for one in known if one.began <= time]
        return before[-1] if before else known[0] if known else None

    # -- titles

    def _note_title(self, line: Mapping[str, object]) -> None:
        title, one = title_of(line), self._current.get("")
        if title is None or one is None:
            return
        leaf = text(line.get("leafUuid"))
        if leaf is None or one.claude.has(leaf):  # a summary may be of another session
            self._titles[one.id] = title

    def _tag(self) -> None:
        """Write titles as tags; the name of the statement makes sure that it is written once."""
        for session_id, title in self._titles.items():
            if (session_id, title) in self._titled or self._refused:
                continue
            self._titled.add((session_id, title))
            began = next(one.began for one in self.sessions if one.id == session_id)
            salt = new_salt()
            append_statement(
                self._target.log,
                f"tagged-{derived_id(began, NAME, session_id, title)}",
                SessionTagged(about=session_id, set={"title": title}, by=NAME, salt=salt),
                salt=salt,
                redact=self._target.redact,
            )
