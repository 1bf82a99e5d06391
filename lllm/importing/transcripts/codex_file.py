"""Finds the sessions in one rollout of Codex, and tells its own entries from copied ones.

A thread that was forked from another one, or begun by it, starts with a copy of its turns, with
new times. The ids of the turns tell: those that the other thread has are copies. Where the other
rollout is missing, the id itself tells when the turn was made, if it is a UUID of version 7
(RFC 9562, https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-7).
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from lllm.events.model import Ancestor
from lllm.importing.transcripts.codex import (
    NAME,
    PATH,
    CodexSession,
    RolloutEntry,
    ThreadFacts,
    facts_of,
)
from lllm.importing.transcripts.file_import import Target, TranscriptFileImport
from lllm.importing.transcripts.session_events import SessionSource
from lllm.importing.transcripts.transcript_json import Line, derived_id, time_of
from lllm.invokers.dialects.provider_json import text

_KINDS = (
    "session_meta", "turn_context", "response_item", "event_msg", "compacted", "world_state",
    "token_usage_record",
)  # fmt: skip


def folders() -> list[Path]:
    """List the folders in which Codex keeps its rollouts on this machine."""
    home = Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex")
    return [one for one in (home / "sessions", home / "archived_sessions") if one.is_dir()]


class CodexFile(TranscriptFileImport):
    """A rollout of Codex, and how far it is imported; see TranscriptFileImport.

    Args:
        path: The file.
        target: Where its sessions go.
    """

    program = NAME

    def __init__(self, path: Path, target: Target) -> None:
        super().__init__(path, target)
        self._facts: ThreadFacts | None = None
        self._began = 0
        self._codex: CodexSession | None = None
        self._parts: Counter[str] = Counter()
        self._is_copy = False
        self._model = "unknown"

    def take(self, line: Line) -> None:
        """Take a line; see `TranscriptFileImport.take`."""
        value = line.value or {}
        kind, time = str(value.get("type")), time_of(value.get("timestamp"))
        payload = value.get("payload")
        if kind not in _KINDS or time is None or not isinstance(payload, dict):
            self.unknown[kind] += 1
            return
        self.has_known = True
        if kind == "session_meta":
            self._meta(time, payload)
        elif self._facts is None:
            self.unknown[f"{kind} before session_meta"] += 1
        else:
            self._note_turn(payload)
            if kind == "turn_context":
                self._model = text(payload.get("model")) or self._model
                if "turn_id" not in payload:
                    self._is_copy = False  # of an old version; its sums tell what is a copy
            self._add(RolloutEntry(time, kind, payload))

    def _meta(self, time: int, payload: Mapping[str, object]) -> None:
        if self._facts is None:  # later ones are copies of those of other threads
            self._facts = facts_of(payload)
            self._began = time_of(payload.get("timestamp")) or time
            self._is_copy = bool(self._facts.parent)
            self.target.turns.setdefault(self._facts.id, set())

    def _note_turn(self, payload: Mapping[str, object]) -> None:
        """Note the turn that an entry begins, which tells whether what follows is a copy."""
        turn = text(payload.get("turn_id"))
        if turn is None or self._facts is None:
            return
        if self._is_copy and not self._is_of_parent(turn):
            self._is_copy = False
        self.target.turns[self._facts.id].add(turn)

    def _is_of_parent(self, turn: str) -> bool:
        facts = self._facts
        turns = None if facts is None else self.target.turns.get(facts.parent)
        if turns:
            return turn in turns
        made = _time_in(turn)
        return made is not None and made < self._began // 1_000_000

    def _add(self, entry: RolloutEntry) -> None:
        facts = self._facts
        assert facts is not None
        if self.open_session("", entry.time) is None:
            self._begin(entry.time, facts)
        assert self._codex is not None
        self._codex.model = self._model
        self._codex.add(entry, is_copy=self._is_copy or self._is_old_sum(facts, entry.payload))
        if entry.payload.get("type") == "thread_name_updated":
            title = text(entry.payload.get("thread_name")) or text(entry.payload.get("name"))
            if title:
                self.set_title(self.sessions[-1], title)

    def _is_old_sum(self, facts: ThreadFacts, payload: Mapping[str, object]) -> bool:
        """True if an entry tells the sum of tokens that the other thread had before."""
        info = payload.get("info") if payload.get("type") == "token_count" else None
        total = info.get("total_token_usage") if isinstance(info, dict) else None
        if not isinstance(total, dict):
            return False
        sums = self.target.turns
        name = repr(sorted(total.items()))
        sums.setdefault(facts.id, set()).add(name)
        return bool(facts.parent) and name in sums.get(facts.parent, ())

    def _begin(self, time: int, facts: ThreadFacts) -> None:
        self._parts[""] += 1
        parent = self.parent(facts.parent, time) if facts.is_subagent else None
        one = self.begin_session(
            "",
            SessionSource(
                derived_id(time, NAME, facts.id or self.path.stem, str(self._parts[""])),
                facts.id or self.path.stem,
                f"{NAME}::subagent" if facts.is_subagent else PATH,
                () if parent is None else (Ancestor(parent.id, parent.path),),
                None,
                self.target.partition,
            ),
            time,
        )
        self._codex = one.conversation = CodexSession(one.events, self.target.owners, facts, time)
        if not facts.is_subagent:
            self.target.sessions.setdefault(facts.id, []).append(one)


def _time_in(name: str) -> int | None:
    """Read the milliseconds since 1970 from a UUID of version 7; None for any other text."""
    try:
        found = uuid.UUID(name)
    except ValueError:
        return None
    return found.int >> 80 if found.version == 7 else None
