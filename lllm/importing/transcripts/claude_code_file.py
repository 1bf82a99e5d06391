"""Finds the sessions in one file of Claude Code, and gives each its entries.

A file is one session. Older versions wrote the entries of sub-agents into the file of the session
that began them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from lllm.events.model import Ancestor
from lllm.importing.transcripts.claude_code import (
    NAME,
    PATH,
    ClaudeSession,
    Entry,
    entry_of,
    is_subagent,
    title_of,
)
from lllm.importing.transcripts.file_import import (
    ImportedSession,
    Target,
    TranscriptFileImport,
)
from lllm.importing.transcripts.session_events import SessionSource
from lllm.importing.transcripts.transcript_json import Line, derived_id
from lllm.invokers.dialects.provider_json import text

# Lines that say nothing about the conversation.
_OTHER_KINDS = frozenset({
    "summary", "ai-title", "custom-title", "queue-operation", "attachment", "progress",
    "continued-in", "file-history-snapshot",
})  # fmt: skip


class ClaudeCodeFile(TranscriptFileImport):
    """A transcript of Claude Code, and how far it is imported; see TranscriptFileImport.

    Args:
        path: The file.
        target: Where its sessions go.
    """

    program = NAME

    def __init__(self, path: Path, target: Target) -> None:
        super().__init__(path, target)
        self._parts: Counter[str] = Counter()  # sessions so far, by sub-agent
        self._agents: dict[str, str] = {}  # by uuid: the sub-agent of a line
        self._claude: dict[str, ClaudeSession] = {}  # by sub-agent; "" for the session itself
        self._is_subagent = is_subagent(path)

    def take(self, line: Line) -> None:
        """Take a line; see `TranscriptFileImport.take`."""
        value = line.value or {}
        entry = entry_of(value)
        if entry is not None:
            self._add(entry)
            return
        kind = str(value.get("type"))
        if kind in _OTHER_KINDS:
            self.has_known = True
        else:
            self.unknown[kind] += 1
        self._note_title(value)

    def _add(self, entry: Entry) -> None:
        agent = self._agent_of(entry)
        if self.open_session(agent, entry.time) is None:
            self._begin(entry, agent)
        claude = self._claude[agent]
        late = claude.late
        claude.add(entry)
        if claude.late > late:
            self.left_out.append(
                f"{self.path}: line {entry.uuid} came after its message had been imported"
            )

    def _agent_of(self, entry: Entry) -> str:
        """Find the sub-agent that an entry belongs to; "" if it is of the session itself."""
        if not entry.line.get("isSidechain") or self._is_subagent:
            return ""
        before = self._agents.get(text(entry.line.get("parentUuid")) or "")
        agent = text(entry.line.get("agentId")) or before or entry.uuid
        self._agents[entry.uuid] = agent
        return agent

    def _begin(self, entry: Entry, agent: str) -> None:
        """Begin a session with its first entry."""
        self._parts[agent] += 1
        named = text(entry.line.get("agentId")) or self.path.stem
        sub = agent or (named if self._is_subagent else "")
        own = self._foreign_id(entry)
        parent = self.parent(own, entry.time) if sub else None
        one = self.begin_session(
            agent,
            SessionSource(
                derived_id(entry.time, NAME, own, sub, str(self._parts[agent])),
                f"{own}/{sub}" if sub else own,
                f"{NAME}::subagent" if sub else PATH,
                () if parent is None else (Ancestor(parent.id, parent.path),),
                _tool_of(parent, sub),
                self.target.partition,
            ),
            entry.time,
        )
        self._claude[agent] = ClaudeSession(one.events, self.target.owners)
        self._claude[agent].last_time = entry.time
        one.conversation = self._claude[agent]
        if not sub:
            self.target.sessions.setdefault(own, []).append(one)

    def _foreign_id(self, entry: Entry) -> str:
        """The id of the session; the name of the file says it, since copied lines say another."""
        if self.path.parent.name == "subagents":
            return self.path.parent.parent.name
        if self._is_subagent:
            return text(entry.line.get("sessionId")) or self.path.stem
        return self.path.stem

    def _note_title(self, line: Mapping[str, object]) -> None:
        title, claude = title_of(line), self._claude.get("")
        if title is None or claude is None:
            return
        leaf = text(line.get("leafUuid"))
        if leaf is None or claude.has(leaf):  # a summary may be of another session
            self.set_title(self.sessions[-1], title)


def _tool_of(parent: ImportedSession | None, agent: str) -> int | None:
    """Find the tool call of a session that began a sub-agent; None if it is unknown."""
    claude = None if parent is None else parent.conversation
    return claude.subagents.get(agent) if isinstance(claude, ClaudeSession) else None
