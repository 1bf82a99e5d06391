"""Finds the recordings of Gemini CLI, and gives each session its messages.

Today a recording is a file of JSON lines; older versions wrote one JSON object. If an old session
is resumed, Gemini CLI copies it to a file of JSON lines beside it, which is read instead. A
sub-agent has a file of its own, in a folder that is named after the session that began it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from lllm.events.model import Ancestor
from lllm.importing.transcripts.file_import import Target, TranscriptFileImport
from lllm.importing.transcripts.gemini_cli import PATH, GeminiSession, RecordingFacts
from lllm.importing.transcripts.gemini_records import NAME, GeminiMessage, message_of
from lllm.importing.transcripts.session_events import SessionSource
from lllm.importing.transcripts.transcript_json import LONGEST, Line, derived_id, json_object
from lllm.invokers.dialects.provider_json import items, mapping, text

_CHATS = "chats"  # the folder with the recordings of a project
_HASH = re.compile("[0-9a-f]{64}")
_KINDS = ("user", "gemini", "info", "error", "warning")


def folders() -> list[Path]:
    """List the folders in which Gemini CLI keeps its recordings on this machine."""
    home = Path(os.environ.get("GEMINI_CLI_HOME") or Path.home())
    return [one for one in (home / ".gemini" / "tmp",) if one.is_dir()]


def files_in(folder: Path) -> list[Path]:
    """List the recordings in a folder; of an old session that was resumed, the new file."""
    old = (one for one in folder.rglob("session-*.json") if not one.with_suffix(".jsonl").exists())
    return sorted(one for one in (*folder.rglob("*.jsonl"), *old) if one.is_file())


def is_subagent(path: Path) -> bool:
    """True if a file is the recording of a sub-agent."""
    return path.parent.parent.name == _CHATS


class GeminiCliFile(TranscriptFileImport):
    """A recording of Gemini CLI, and how far it is imported; see TranscriptFileImport.

    Args:
        path: The file.
        target: Where its sessions go.
    """

    program = NAME

    def __init__(self, path: Path, target: Target) -> None:
        super().__init__(path, target)
        self._about: dict[str, object] = {}
        self._done: set[str] = set()
        self._parts = 0
        self._gemini: GeminiSession | None = None

    def new_lines(self) -> Iterator[Line]:
        """Read what is new, a record at a time; see `TranscriptFileImport.new_lines`."""
        if self.path.suffix != ".json":
            yield from super().new_lines()
            return
        # The whole file is written anew each time; messages that were taken before are known.
        with self.path.open("rb") as file:
            found = file.read(LONGEST + 1)
        if len(found) > LONGEST:
            yield Line(1, None, f"the file has more than {LONGEST:,} bytes")
            return
        whole = json_object(1, found)
        if whole.value is None:
            yield whole
            return
        about = {name: value for name, value in whole.value.items() if name != "messages"}
        yield Line(1, about)
        for number, one in enumerate(items(whole.value.get("messages")), 1):
            yield Line(number, mapping(one))

    def take(self, line: Line) -> None:
        """Take a record; see `TranscriptFileImport.take`."""
        record = line.value or {}
        if "$rewindTo" in record:
            self.has_known = True
            if self._gemini is not None:
                self._gemini.rewind(text(record["$rewindTo"]) or "")
        elif "$set" in record:
            self.has_known = True
            self._set(mapping(record["$set"]))
        elif "sessionId" in record and "id" not in record:
            self._set(record)
        else:
            self._message(line.number, record)

    def _set(self, about: Mapping[str, object]) -> None:
        """Note facts about the session, of which the messages can be a part."""
        self._about |= {name: one for name, one in about.items() if name != "messages"}
        messages = [message_of(mapping(one)) for one in items(about.get("messages"))]
        known = [one for one in messages if one is not None]
        if "messages" in about and self._gemini is None:
            for one in known:
                self._add(one)
        elif "messages" in about and self._gemini is not None:
            self._gemini.replace(known)
        title = text(self._about.get("summary"))
        if title and self.sessions:
            self.set_title(self.sessions[-1], title)

    def _message(self, number: int, record: Mapping[str, object]) -> None:
        message = message_of(record)
        if message is not None and message.kind in _KINDS:
            self._add(message)
        elif record.get("type") in _KINDS:
            self.left_out.append(
                f"{self.path}, record {number}: its id or its time can't be read; it is left out"
            )
        else:
            self.unknown[str(record.get("type"))] += 1

    def _add(self, message: GeminiMessage) -> None:
        if message.id not in self._done and self.open_session("", message.time) is None:
            self._begin(message.time)
        if self._gemini is not None:
            self._gemini.add(message)

    def _begin(self, time: int) -> None:
        facts = self._facts()
        self._parts += 1
        parent = self.parent(self.path.parent.name, time) if facts.is_subagent else None
        began_by = None if parent is None else parent.conversation
        tools = began_by.subagents if isinstance(began_by, GeminiSession) else {}
        one = self.begin_session(
            "",
            SessionSource(
                derived_id(time, NAME, facts.id, str(self._parts)),
                facts.id,
                f"{NAME}::subagent" if facts.is_subagent else PATH,
                () if parent is None else (Ancestor(parent.id, parent.path),),
                tools.get(facts.id),
                self.target.partition,
            ),
            time,
        )
        self._gemini = GeminiSession(one.events, self.target.owners, facts, self._done, time)
        one.conversation = self._gemini
        if not facts.is_subagent:
            self.target.sessions.setdefault(facts.id, []).append(one)
        if title := text(self._about.get("summary")):
            self.set_title(one, title)

    def _facts(self) -> RecordingFacts:
        """Find out what is known of the session; its project is that of the folder it is in."""
        below = is_subagent(self.path)
        home = self.path.parents[2 if below else 1]
        folder, project = None, home.name
        try:
            folder = (home / ".project_root").read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            folder = next((one for one in items(self._about.get("directories"))
                           if isinstance(one, str)), None)  # fmt: skip
        is_named = self.path.parents[1 if below else 0].name == _CHATS and not _HASH.fullmatch(
            project
        )
        return RecordingFacts(
            text(self._about.get("sessionId")) or self.path.stem,
            folder,
            project if is_named else None,
            below or self._about.get("kind") == "subagent",
        )
