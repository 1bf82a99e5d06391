"""Makes events from the rollouts of Codex: one file of JSON lines for each thread.

Each line is an object with `timestamp`, `type` and `payload`. The items of the Responses API follow
each other, and an event `token_count` after the items of one call says what it used. Later versions
also write a line `token_usage_record` with that, and with the provider's id of the answer. The type
`RolloutItem` of Codex has the form: https://github.com/openai/codex (codex-rs/protocol).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from lllm.events.model import Content, Error
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.importing.transcripts.session_events import CallSite, SessionEvents
from lllm.importing.transcripts.transcript_json import number_in, tags_of
from lllm.instrumentation.request_bodies import RESPONSES
from lllm.invokers import Answer
from lllm.invokers.dialects import responses
from lllm.invokers.dialects.provider_json import mapping, text

NAME = "codex"
PATH = f"{NAME}::session"
_SETTLED = 600 * 10**9  # nanoseconds of silence after which a call without a usage is written
_KEPT = ("id", "cwd", "cli_version", "originator")  # facts that become metadata
_RESULTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")
# The texts that Codex itself adds as messages of the user.
_OWN = (
    "<environment_context",
    "<user_instructions",
    "<permissions",
    "<turn_aborted",
    "# AGENTS.md",
)


class RolloutEntry(NamedTuple):
    """One line of a rollout that belongs to a session.

    Attributes:
        time: Its time, nanoseconds UTC.
        kind: The type of the line, as "response_item".
        payload: Its payload.
    """

    time: int
    kind: str
    payload: Mapping[str, object]


class ThreadFacts(NamedTuple):
    """What the first line of a rollout says about its thread.

    Attributes:
        id: The id of the thread.
        parent: The id of the thread that it is a copy of, or that began it; "" for none.
        is_subagent: True if another thread began it.
        provider: The provider of the models.
        payload: The whole payload.
    """

    id: str
    parent: str
    is_subagent: bool
    provider: str
    payload: Mapping[str, object]


def facts_of(payload: Mapping[str, object]) -> ThreadFacts:
    """Read the payload of a line `session_meta`."""
    spawned = mapping(mapping(mapping(payload.get("source")).get("subagent")).get("thread_spawn"))
    parent = text(spawned.get("parent_thread_id")) or text(payload.get("parent_thread_id"))
    return ThreadFacts(
        id=text(payload.get("id")) or "",
        parent=parent or text(payload.get("forked_from_id")) or "",
        is_subagent=parent is not None or payload.get("thread_source") == "subagent",
        provider=text(payload.get("model_provider")) or "openai",
        payload=payload,
    )


class _Call:
    """The items of a call whose usage did not come yet, and the results that came before it."""

    def __init__(self, began: int, upto: int) -> None:
        self.began = began
        self.ended = began
        self.upto = upto
        self.items: list[Mapping[str, object]] = []
        self.results: list[RolloutEntry] = []


class CodexSession:
    """Makes events from the entries of one thread, in the order of its file.

    Args:
        events: Where the events go.
        owners: Knows the calls that other sessions have.
        facts: What the rollout says about the thread.
        began: The time of the first entry, nanoseconds UTC.
    """

    def __init__(
        self, events: SessionEvents, owners: CallOwners, facts: ThreadFacts, began: int
    ) -> None:
        self._events = events
        self._owners = owners
        self._facts = facts
        self._site = CallSite(facts.provider, "responses", "responses")
        self._began = began
        self._early: list[RolloutEntry] = []  # before the first question is known
        self._dialog = 0
        self._end = 0  # the number of the dialog's last message
        self._call: _Call | None = None
        self._total: Mapping[str, object] = {}
        self._has_records = False  # lines that say what a call used, beside the events that do
        self._last_text = ""
        self._error: Error | None = None
        self.model = "unknown"
        self.last_time = began

    def add(self, entry: RolloutEntry, *, is_copy: bool) -> None:
        """Add the next entry.

        Args:
            entry: The entry.
            is_copy: True if it is a copy from the thread that this one was made from.
        """
        if self._dialog:
            self._take(entry, is_copy=is_copy)
            return
        self._early.append(entry)
        if _question(entry):
            self._start()

    def settle(self, now: int, *, changed: int) -> None:
        """Write what is complete; see `Conversation.settle`."""
        if self._call is not None and now - changed > _SETTLED:
            self._finish(None)

    def end(self) -> None:
        """End the session with its last entry; see `Conversation.end`."""
        if not self._dialog:
            self._start()
        self._finish(None)
        if not self._events.is_ended:
            self._events.end(self.last_time, delivery=self._last_text, error=self._error)

    def _start(self) -> None:
        about = self._facts.payload
        branch = text(mapping(about.get("git")).get("branch"))
        tags = tags_of(NAME, text(about.get("cwd")), branch)
        known = {
            "session": "id",
            "cwd": "cwd",
            "version": "cli_version",
            "originator": "originator",
        }
        metadata = {name: about[key] for name, key in known.items() if about.get(key)}
        asked = next((found for one in self._early if (found := _question(one))), "")
        self._events.start(self._began, task=asked, tags=tags, metadata=metadata)
        self._open(self._began, "conversation")
        early, self._early = self._early, []
        for one in early:
            self._take(one, is_copy=False)

    def _open(self, time: int, alias: str) -> None:
        self._dialog = self._events.open_dialog(time, alias)
        self._end = 0

    def _take(self, entry: RolloutEntry, *, is_copy: bool) -> None:
        if entry.kind == "compacted":
            self._finish(None)
            self._open(entry.time, "after a compaction")
            if summary := text(entry.payload.get("message")):
                self._add(entry.time, Content.of("user", summary), own=True)
        elif entry.kind == "response_item":
            self._item(entry, is_copy=is_copy)
        elif entry.kind == "event_msg":
            self._event(entry, is_copy=is_copy)
        elif entry.kind == "token_usage_record":
            self._has_records = True
            self._finish(
                mapping(entry.payload.get("usage")) or None, is_copy=is_copy,
                response_id=text(entry.payload.get("response_id")),
            )  # fmt: skip
        self.last_time = max(self.last_time, entry.time)

    def _add(self, time: int, content: Content, *, own: bool) -> None:
        self._end = self._events.add_message(time, self._dialog, content, was_paid=own)

    # -- items

    def _item(self, entry: RolloutEntry, *, is_copy: bool) -> None:
        item = entry.payload
        kind = item.get("type")
        if kind in _RESULTS:
            if self._call is not None:
                self._call.results.append(entry)
            else:
                self._result(entry)
        elif kind == "message" and item.get("role") != "assistant":
            self._finish(None)
            for content in RESPONSES.each(item):
                own = content.text.lstrip().startswith(_OWN)
                self._add(entry.time, content, own=own or is_copy)
        elif is_copy:
            for content in RESPONSES.each(_as_function_call(item)):
                self._add(entry.time, content, own=True)
        else:
            self._said(entry)

    def _said(self, entry: RolloutEntry) -> None:
        """Take an item of the model's answer."""
        if self._call is not None and self._call.results:
            self._finish(None)  # the next call has begun, and nothing said what this one used
        if self._call is None:
            self._call = _Call(self.last_time, self._end)
        self._call.items.append(_as_function_call(entry.payload))
        self._call.ended = entry.time

    def _result(self, entry: RolloutEntry) -> None:
        output = entry.payload.get("output")
        call_id = text(entry.payload.get("call_id"))
        shown = mapping(output).get("content", output)
        is_error = mapping(output).get("success") is False
        if not isinstance(shown, str | list):
            shown = json.dumps(shown)
        [content] = RESPONSES.each(
            {"type": "function_call_output", "call_id": call_id, "output": shown}
        )
        self._end = self._events.add_result(entry.time, self._dialog, content, is_error=is_error)

    # -- events

    def _event(self, entry: RolloutEntry, *, is_copy: bool) -> None:
        kind = entry.payload.get("type")
        if kind == "token_count":
            info = mapping(entry.payload.get("info"))
            total = mapping(info.get("total_token_usage"))
            if self._has_records:
                return
            if total and total != self._total:  # the same is written again with each new limit
                before, self._total = self._total, total
                used = mapping(info.get("last_token_usage")) or _difference(total, before)
                self._finish(used, is_copy=is_copy)
        elif kind in ("error", "stream_error") and not is_copy:
            self._finish(None)
            self._error = Error("CodexError", text(entry.payload.get("message")) or str(kind))
            self._events.add_failed_call(
                self.last_time, entry.time, self._site, self._error, model=self.model,
                dialog=self._dialog, upto=self._end,
            )  # fmt: skip

    def _finish(
        self,
        used: Mapping[str, object] | None,
        *,
        is_copy: bool = False,
        response_id: str | None = None,
    ) -> None:
        """Write the call whose items are all there, and what it used; None if nobody said."""
        call, self._call = self._call, None
        if call is None:
            return
        self._error = None
        answer = _answer(call.items, used, self.model, response_id)
        self._last_text = answer.content.text or self._last_text
        own = self._events.source.session_id
        if is_copy or (response_id and self._owners.is_elsewhere(response_id, own)):
            self._add(call.ended, answer.content, own=True)
        else:
            self._end = self._events.add_call(
                call.began, call.ended, self._site, answer, dialog=self._dialog, upto=call.upto
            )
        for entry in call.results:
            self._result(entry)


def _question(entry: RolloutEntry) -> str:
    """Read what the user asked; "" if the entry is something else."""
    payload = entry.payload
    if entry.kind == "event_msg" and payload.get("type") == "user_message":
        return text(payload.get("message")) or ""
    if entry.kind != "response_item" or payload.get("role") != "user":
        return ""
    said = "".join(content.text for content in RESPONSES.each(payload))
    return "" if said.lstrip().startswith(_OWN) else said


def _as_function_call(item: Mapping[str, object]) -> Mapping[str, object]:
    """Give the calls of built-in and of custom tools the form of a function call."""
    if item.get("type") == "local_shell_call":
        arguments = json.dumps(item.get("action"))
        return {
            "type": "function_call", "name": "local_shell", "arguments": arguments,
            "call_id": item.get("call_id") or item.get("id"),
        }  # fmt: skip
    return item


def _answer(
    items: list[Mapping[str, object]],
    used: Mapping[str, object] | None,
    model: str,
    response_id: str | None,
) -> Answer:
    body: dict[str, object] = {"output": items, "model": model, "status": "completed"}
    if response_id:
        body["id"] = response_id
    if used is not None:
        body["usage"] = _usage(used)
    answer = responses.answer(body, model=model, request_id=None)
    finish = "tool_calls" if answer.content.tool_calls else "stop"
    return msgspec.structs.replace(answer, finish=finish, finish_raw=None)


def _usage(used: Mapping[str, object]) -> dict[str, object]:
    """Write a usage in the form of the Responses API, from which Codex made it."""
    into_cache = used.get("cache_write_input_tokens") or 0
    cached = {"cached_tokens": used.get("cached_input_tokens") or 0}
    usage: dict[str, object] = {
        "input_tokens": used.get("input_tokens"),
        "output_tokens": used.get("output_tokens"),
        "input_tokens_details": cached | ({"cache_write_tokens": into_cache} if into_cache else {}),
        "output_tokens_details": {"reasoning_tokens": used.get("reasoning_output_tokens") or 0},
    }
    return usage


def _difference(total: Mapping[str, object], before: Mapping[str, object]) -> Mapping[str, object]:
    """Calculate what one call used from two sums."""
    return {
        key: value - number_in(before.get(key))
        for key, value in total.items()
        if isinstance(value, int)
    }
