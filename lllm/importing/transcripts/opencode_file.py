"""Finds what opencode has stored on this machine, and gives each session its messages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lllm.events.errors import StoreError
from lllm.events.model import Ancestor
from lllm.importing.transcripts.file_import import (
    ImportedSession,
    Target,
    TranscriptFileImport,
)
from lllm.importing.transcripts.opencode import PATH, OpencodeSession
from lllm.importing.transcripts.opencode_messages import (
    NAME,
    OpencodeFacts,
    OpencodeMessage,
    nanos_of,
)
from lllm.importing.transcripts.opencode_storage import storage_at
from lllm.importing.transcripts.session_events import SessionSource
from lllm.importing.transcripts.transcript_json import Line, derived_id
from lllm.invokers.dialects.provider_json import items, mapping


def folders() -> list[Path]:
    """List the folders in which opencode keeps its sessions on this machine."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return [one for one in (data / NAME,) if one.is_dir()]


def files_in(folder: Path) -> list[Path]:
    """List the databases in a folder, and the folder of files that older versions wrote."""
    databases = sorted(folder.glob("opencode*.db"), key=lambda one: (len(one.name), one.name))
    files = folder / "storage"
    if files.is_dir():
        return [*databases, files]
    return databases or ([folder] if (folder / "session").is_dir() else [])


class OpencodeFile(TranscriptFileImport):
    """A database of opencode or its folder of files, and how far it is imported.

    A session that another place of the same import has is left to that one: backups and the files
    of older versions have copies.

    Args:
        path: The database or the folder.
        target: Where its sessions go.
    """

    program = NAME
    has_many = True

    def __init__(self, path: Path, target: Target) -> None:
        super().__init__(path, target)
        self._storage = storage_at(path)
        self._facts: dict[str, OpencodeFacts] = {}
        self._parts: dict[str, int] = {}
        self._reported: set[str] = set()

    def state(self) -> tuple[int, int]:
        """Say how the place is; see `TranscriptFileImport.state`."""
        return self._storage.state()

    def changed_at(self, session: ImportedSession, changed: int) -> int:
        """Say when a session was last changed; see `TranscriptFileImport.changed_at`."""
        one = session.conversation
        return one.updated if isinstance(one, OpencodeSession) else changed

    def new_lines(self) -> Iterator[Line]:
        """Read the new messages; see `TranscriptFileImport.new_lines`."""
        try:
            for facts in self._storage.sessions():
                if self._is_elsewhere(facts.id) or facts.id in self._refused:
                    continue
                self.has_known = True
                self._note(facts)
                for message in self._storage.messages(facts.id, self._after(facts.id)):
                    yield Line(1, {"session": facts.id, **message._asdict()})
        except StoreError as error:
            self._say(f"{self.path}: {error}")
        finally:
            self._storage.close()

    def _is_elsewhere(self, session_id: str) -> bool:
        return session_id in self.target.sessions and session_id not in self._facts

    def _after(self, session_id: str) -> tuple[int, str]:
        one = self._open.get(session_id)
        followed = None if one is None else one.conversation
        return followed.finished if isinstance(followed, OpencodeSession) else (0, "")

    def _note(self, facts: OpencodeFacts) -> None:
        self._facts[facts.id] = facts
        one = self._open.get(facts.id)
        if one is not None and isinstance(one.conversation, OpencodeSession):
            one.conversation.updated = facts.updated
            if facts.title:
                self.set_title(one, facts.title)

    def _say(self, why: str) -> None:
        if why not in self._reported:
            self._reported.add(why)
            self.left_out.append(why)

    def name_of(self, line: Line) -> str:
        """Find the session of a message; see `TranscriptFileImport.name_of`."""
        return str((line.value or {}).get("session"))

    def take(self, line: Line) -> None:
        """Take a stored message; see `TranscriptFileImport.take`."""
        stored = line.value or {}
        facts, name = self._facts[str(stored.get("session"))], str(stored.get("id"))
        info = mapping(stored.get("info"))
        parts = [mapping(one) for one in items(stored.get("parts"))]
        time = nanos_of(mapping(info.get("time")).get("created"))
        if time is None or info.get("role") not in ("user", "assistant"):
            self._say(
                f"{self.path}: message {name} of session {facts.id} can't be read, or has no valid "
                "time and role; it is left out"
            )
            return
        message = OpencodeMessage(time, name, info, parts)
        for one in parts:
            if one.get("type") not in _PART_KINDS:
                self.unknown[f"part {one.get('type')}"] += 1
        if self.open_session(facts.id, time) is None:
            self._begin(facts, time)
        conversation = self._open[facts.id].conversation
        assert isinstance(conversation, OpencodeSession)
        conversation.add(message)

    def _begin(self, facts: OpencodeFacts, time: int) -> None:
        before = self._after(facts.id)
        self._parts[facts.id] = self._parts.get(facts.id, 0) + 1
        parent = self.parent(facts.parent, time) if facts.parent else None
        began_by = None if parent is None else parent.conversation
        tools = began_by.subagents if isinstance(began_by, OpencodeSession) else {}
        one = self.begin_session(
            facts.id,
            SessionSource(
                derived_id(time, NAME, facts.id, str(self._parts[facts.id])),
                facts.id,
                f"{NAME}::subagent" if facts.parent else PATH,
                () if parent is None else (*parent.ancestors, Ancestor(parent.id, parent.path)),
                tools.get(facts.id),
                self.target.partition,
            ),
            time,
        )
        one.conversation = OpencodeSession(one.events, self.target.owners, facts, time)
        one.conversation.finished = before
        self.target.sessions.setdefault(facts.id, []).append(one)
        if facts.title:
            self.set_title(one, facts.title)


_PART_KINDS = (
    "text", "subtask", "reasoning", "file", "tool", "step-start", "step-finish", "snapshot",
    "patch", "agent", "retry", "compaction",
)  # fmt: skip
