"""Reads the transcripts of Claude Code: one file of JSON lines for each session.

The format is not documented; what is known of it comes from the files themselves. A message has
one line for each of its blocks, each with the usage so far, and the last is right. Sub-agents have
files of their own. A session that is resumed or branched can begin with a copy of another one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lllm.events.model import Content, Error
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.importing.transcripts.session_events import CallSite, SessionEvents
from lllm.importing.transcripts.transcript_json import number_in, tags_of, time_of
from lllm.instrumentation.request_bodies import MESSAGES
from lllm.invokers.dialects import messages
from lllm.invokers.dialects.provider_json import items, mapping, text

NAME = "claude-code"
PATH = f"{NAME}::session"
_SETTLED = 5 * 10**9  # nanoseconds of silence after which a message that has ended is final
_GIVEN_UP = 600 * 10**9  # the same for a message that has not ended
_SAID = ("user", "assistant", "system")
_TITLES = {"ai-title": "aiTitle", "custom-title": "customTitle", "summary": "summary"}
_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
_SITES = {"msg_bdrk_": "bedrock", "msg_vrtx_": "vertex"}


def folders() -> list[Path]:
    """List the folders in which Claude Code keeps its transcripts on this machine."""
    own = os.environ.get("CLAUDE_CONFIG_DIR")
    homes = [Path(own)] if own else [Path.home() / ".claude", Path.home() / ".config/claude"]
    return [one / "projects" for one in homes if (one / "projects").is_dir()]


def is_subagent(path: Path) -> bool:
    """True if a file is the transcript of a sub-agent."""
    return path.name.startswith("agent-")


class Entry(NamedTuple):
    """One line of a session's conversation.

    Attributes:
        time: Its time, nanoseconds UTC.
        line: The JSON object.
    """

    time: int
    line: Mapping[str, object]

    @property
    def uuid(self) -> str:
        """The id of the line."""
        return text(self.line.get("uuid")) or ""

    @property
    def message(self) -> Mapping[str, object]:
        """The message, in the form of the Messages API."""
        return mapping(self.line.get("message"))


def entry_of(line: Mapping[str, object]) -> Entry | None:
    """Read a line of the conversation; None for lines of another kind."""
    time = time_of(line.get("timestamp"))
    if line.get("type") not in _SAID or time is None:
        return None
    return Entry(time, line)


def title_of(line: Mapping[str, object]) -> str | None:
    """Read the title that a line gives to the session; None for all other lines."""
    key = _TITLES.get(str(line.get("type")))
    return None if key is None else text(line.get(key)) or text(line.get("title"))


class _Answering(NamedTuple):
    """A message of the model whose lines are still coming."""

    id: str
    entries: list[Entry]
    results: list[Entry]
    began: int
    dialog: int
    upto: int


class ClaudeSession:
    """Makes events from the entries of one session, in the order of its file.

    Args:
        events: Where the events go.
        owners: Knows the calls that other sessions have.
    """

    def __init__(self, events: SessionEvents, owners: CallOwners) -> None:
        self._events = events
        self._owners = owners
        self._early: list[Entry] = []  # before the first question is known
        self._is_started = False
        self._answering: _Answering | None = None
        self._finished: set[str] = set()
        self._places: dict[str, tuple[int, int]] = {}  # by uuid: the dialog and the last message
        self._ends: dict[int, int] = {}  # by dialog: its last message
        self._spoken: dict[int, int] = {}  # by dialog: its last message but results of tools
        self._dialog = 0
        self._last_text = ""
        self._model = "unknown"
        self._error: Error | None = None
        self.subagents: dict[str, int] = {}
        """By the id of a sub-agent: the number of the tool call that began it."""
        self.last_time = 0
        self.late = 0
        """The number of lines that came after their message had been written."""

    def add(self, entry: Entry) -> None:
        """Add the next entry of the session."""
        if not self._is_started:
            self._early.append(entry)
            if _question(entry) is None and entry.line.get("type") != "assistant":
                return
            self._start()
        else:
            self._take(entry)

    def settle(self, now: int, *, changed: int) -> None:
        """Write a message that is complete; see `Conversation.settle`."""
        waiting = self._answering
        if waiting is not None:
            ended = waiting.entries[-1].message.get("stop_reason") is not None
            if now - changed > (_SETTLED if ended else _GIVEN_UP):
                self._finish()

    def end(self) -> None:
        """End the session with its last entry."""
        if not self._is_started and self._early:
            self._start()
        self._finish()
        if self._is_started and not self._events.is_ended:
            self._events.end(self.last_time, delivery=self._last_text, error=self._error)

    def has(self, uuid: str) -> bool:
        """True if a line with this id was an entry of the session."""
        return uuid in self._places

    # -- the parts of a session

    def _start(self) -> None:
        first = self._early[0]
        asked = next((found for one in self._early if (found := _question(one))), "")
        line = next((one.line for one in self._early if one.line.get("cwd")), first.line)
        tags = tags_of(NAME, text(line.get("cwd")), text(line.get("gitBranch")))
        known = {"session": "sessionId", "agent": "agentId", "cwd": "cwd", "version": "version"}
        metadata = {name: line[key] for name, key in known.items() if line.get(key)}
        self._events.start(first.time, task=asked, tags=tags, metadata=metadata)
        self._dialog = self._events.open_dialog(first.time, "conversation")
        self._ends[self._dialog] = 0
        self._is_started = True
        self.last_time = first.time
        early, self._early = self._early, []
        for one in early:
            self._take(one)

    def _take(self, entry: Entry) -> None:
        kind = entry.line.get("type")
        if kind == "assistant":
            self._answer(entry)
        elif self._answering is not None and _is_result(entry):
            # A tool may run while its message still arrives, so results wait for all of its lines.
            self._answering.results.append(entry)
        else:
            self._finish()
            if kind == "system":
                self._system(entry)
            else:
                self._user(entry)
        self.last_time = max(self.last_time, entry.time)

    def _system(self, entry: Entry) -> None:
        if entry.line.get("subtype") == "compact_boundary":
            self._open(entry.time, "after a compaction")
        self._place(entry)

    def _open(self, time: int, alias: str, parent: int | None = None, upto: int = 0) -> None:
        self._dialog = self._events.open_dialog(time, alias, parent=parent, upto=upto or None)
        self._ends[self._dialog] = upto

    def _place(self, entry: Entry) -> None:
        """Note which message an entry is at, for the entries that follow it."""
        if entry.uuid:
            self._places[entry.uuid] = (self._dialog, self._ends[self._dialog])

    def _user(self, entry: Entry) -> None:
        contents = MESSAGES.each({"role": "user", **entry.message})
        is_new = not any(one.role == "tool" for one in contents)
        if is_new and not entry.line.get("isCompactSummary"):
            self._branch(entry)
        own = entry.line.get("isMeta") or entry.line.get("isCompactSummary")
        for content in contents:
            if content.role == "tool":
                self._result(entry, content)
            else:
                number = self._events.add_message(
                    entry.time, self._dialog, content, was_paid=bool(own)
                )
                self._ends[self._dialog] = number
        if is_new:
            self._spoken[self._dialog] = self._ends[self._dialog]
        self._place(entry)

    def _branch(self, entry: Entry) -> None:
        """Open a dialog if the user went back to an earlier message and asked anew."""
        parent = text(entry.line.get("parentUuid"))
        dialog, upto = self._places.get(parent or "", (self._dialog, self._ends[self._dialog]))
        if dialog != self._dialog and upto == self._ends[dialog]:
            self._dialog = dialog
        elif self._spoken.get(dialog, 0) > upto:
            self._open(entry.time, "from an earlier message", dialog, upto)

    def _result(self, entry: Entry, content: Content) -> None:
        agent = text(mapping(entry.line.get("toolUseResult")).get("agentId"))
        tool = self._events.tool_number(content.call_id or "")
        if agent and tool is not None:
            self.subagents[agent] = tool
        self._ends[self._dialog] = self._events.add_result(
            entry.time, self._dialog, content, is_error=_is_error(entry, content.call_id)
        )

    # -- the model

    def _answer(self, entry: Entry) -> None:
        waiting = self._answering
        name = text(entry.message.get("id")) or text(entry.line.get("requestId")) or entry.uuid
        if waiting is not None and waiting.id == name:
            waiting.entries.append(entry)
            self._place(entry)
            return
        self._finish()
        if name in self._finished:
            self.late += 1
            self._place(entry)
            return
        self._answering = _Answering(
            name, [entry], [], self.last_time or entry.time, self._dialog, self._ends[self._dialog]
        )

    def _finish(self) -> None:
        """Write the message whose lines are all there."""
        waiting, self._answering = self._answering, None
        if waiting is None:
            return
        self._finished.add(waiting.id)
        self._write(waiting)
        for entry in waiting.results:
            self._user(entry)

    def _write(self, waiting: _Answering) -> None:
        first, last = waiting.entries[0], waiting.entries[-1]
        if first.line.get("isApiErrorMessage"):
            self._failed(waiting)
            return
        self._error = None
        answer = messages.answer(
            _whole(waiting.entries), model="", request_id=text(first.line.get("requestId"))
        )
        self._last_text, self._model = answer.content.text or self._last_text, answer.model
        names = (waiting.id, answer.request_id)  # logs have the latter alone
        own = self._events.source.session_id
        if any(name and self._owners.is_elsewhere(name, own) for name in names):
            number = self._events.add_message(
                last.time, waiting.dialog, answer.content, was_paid=True
            )
        else:
            number = self._events.add_call(
                waiting.began, last.time, _site(waiting.id), answer,
                dialog=waiting.dialog, upto=waiting.upto,
            )  # fmt: skip
        self._ends[waiting.dialog] = self._spoken[waiting.dialog] = number
        for one in waiting.entries:
            self._places[one.uuid] = (waiting.dialog, number)

    def _failed(self, waiting: _Answering) -> None:
        entry = waiting.entries[-1]
        said = MESSAGES.each({"role": "assistant", **entry.message})
        why = "".join(one.text for one in said)
        self._error = Error("APIError", why, code=text(entry.line.get("error")))
        self._events.add_failed_call(
            waiting.began, entry.time, _site(""), self._error, model=self._model,
            dialog=waiting.dialog, upto=waiting.upto,
        )  # fmt: skip


def _question(entry: Entry) -> str | None:
    """Read what the user asked; None if the entry is something else."""
    line = entry.line
    if line.get("type") != "user" or line.get("isMeta") or line.get("isCompactSummary"):
        return None
    contents = MESSAGES.each({"role": "user", **entry.message})
    said = "".join(one.text for one in contents if one.role == "user")
    return None if not said or said.startswith(("<command-", "<local-command")) else said


def _is_result(entry: Entry) -> bool:
    blocks = [mapping(one).get("type") for one in items(entry.message.get("content"))]
    return entry.line.get("type") == "user" and bool(blocks) and set(blocks) == {"tool_result"}


def _is_error(entry: Entry, call_id: str | None) -> bool:
    blocks = map(mapping, items(entry.message.get("content")))
    return any(one.get("tool_use_id") == call_id and one.get("is_error") for one in blocks)


def _site(message_id: str) -> CallSite:
    """Say who bills a message; ids of Amazon's and Google's platforms say so."""
    found = (provider for start, provider in _SITES.items() if message_id.startswith(start))
    return CallSite(next(found, "anthropic"), "messages")


def _whole(entries: Sequence[Entry]) -> dict[str, object]:
    """Put a message together from its lines: all blocks, and the usage that counts the most."""
    blocks = [block for one in entries for block in items(one.message.get("content"))]
    usages = [_counted(mapping(one.message.get("usage"))) for one in entries]
    usage = max(usages, key=lambda one: number_in(one.get("output_tokens")))
    reasons = [one.message.get("stop_reason") for one in entries]
    whole = {**entries[-1].message, "content": blocks}
    whole["stop_reason"] = next((one for one in reversed(reasons) if one), None)
    if usage:
        whole["usage"] = usage
    return whole


def _counted(usage: Mapping[str, object]) -> dict[str, object]:
    """Read numbers that some versions write as texts."""
    found = dict(usage)
    for key in _COUNTS:
        value = found.get(key)
        if isinstance(value, str) and value.isdecimal():
            found[key] = int(value)
    return found
