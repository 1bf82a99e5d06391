"""Whether a request asks what the recorded one asked, and how it differs.

Both are compared as the log has them: what is asked now passes the store's `redact` first. What is
equal at once needs none of that, and a message that was found equal is not compared again in the
next request of its dialog, so that a long conversation takes as long as its texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from difflib import unified_diff
from typing import Literal, cast

import msgspec

from lllm.events import codec
from lllm.events.model import (
    EVENTS,
    AgentDefined,
    Content,
    Event,
    LLMResponded,
    SessionStarted,
    ToolFailed,
    ToolReturned,
)
from lllm.events.redaction.redact import COUNTS, Redact, payload
from lllm.events.values.json_values import to_plain
from lllm.invokers import Request
from lllm.invokers.secret_params import without_secrets
from lllm.replay.ignored_parts import Ignored
from lllm.replay.recorded_agents import MessageEvent, RecordedAttempt

Verdict = Literal["same", "ignored", "diverged"]

_CONTEXT = 3  # lines of a diff around a change


class Comparison(msgspec.Struct, frozen=True):
    """What came of comparing two requests."""

    verdict: Verdict
    """ignored: they are the same without what is ignored."""
    differs: tuple[str, ...] = ()
    diff: str = ""


SAME = Comparison("same")


class Comparing:
    """Compares requests of one session.

    Args:
        redact: The store's.
        ignored: What is left out.
    """

    def __init__(self, redact: Redact | None, ignored: Ignored) -> None:
        self._redact = redact
        self._ignored = ignored
        # By the event that carries a message: what was found equal to it, and how.
        self._equal: dict[int, tuple[Content, bool]] = {}

    def compare(
        self,
        request: Request,
        attempt: RecordedAttempt,
        messages: Sequence[tuple[int, MessageEvent]],
    ) -> Comparison:
        """Compare a request with a recorded one.

        Args:
            request: What is asked now.
            attempt: The recorded attempt.
            messages: What that sent.
        """
        settled = [self._settings(request, attempt), self._messages(request.messages, messages)]
        differs = tuple(name for names, _, _ in settled for name in names)
        if not differs:
            ignored = any(one for _, one, _ in settled)
            return Comparison("ignored") if ignored else SAME
        recorded = [line for _, _, (lines, _) in settled for line in lines]
        now = [line for _, _, (_, lines) in settled for line in lines]
        return Comparison("diverged", differs, diff_of(recorded, now))

    # -- messages

    def _messages(
        self, now: Sequence[Content], recorded: Sequence[tuple[int, MessageEvent]]
    ) -> _Settled:
        ignored, count = False, len(now)
        for index, (ordinal, event) in enumerate(recorded):
            if index >= count:
                return self._from(index, now, recorded)
            found = self._equal.get(ordinal)
            if found is None or found[0] is not now[index]:
                same = self._same_message(index, now[index], event)
                if same is None:
                    return self._from(index, now, recorded)
                found = self._equal[ordinal] = (now[index], not same)
            ignored = ignored or found[1]
        if count > len(recorded):
            return self._from(len(recorded), now, recorded)
        return (), ignored, ([], [])

    def _same_message(self, index: int, now: Content, event: MessageEvent) -> bool | None:
        """True if it is the same, False if it is without what is ignored, None if it differs."""
        recorded = content_of(event)
        if now == recorded:
            return True
        now = self.redacted_message(now, event)
        if now == recorded:
            return True
        place = ("messages", str(index))
        if self._ignored and self._plain(now, *place) == self._plain(recorded, *place):
            return False
        return None

    def redacted_message(self, now: Content, event: MessageEvent) -> Content:
        """A message as it would stand in the event that carries the recorded one."""
        if isinstance(event, LLMResponded):
            return now  # it is the recorded answer
        carried = msgspec.structs.replace(event, content=now)
        written = codec_event(carried, self._redact)
        return content_of(cast("MessageEvent", written)) if written is not None else now

    def _plain(self, content: Content, *place: str) -> object:
        return self._ignored.without(msgspec.to_builtins(content), *place)

    def _from(
        self, index: int, now: Sequence[Content], recorded: Sequence[tuple[int, MessageEvent]]
    ) -> _Settled:
        """The messages from the first that differs on, as lines."""
        before: list[str] = []
        after: list[str] = []
        for number in range(max(index - 1, 0), len(recorded)):
            before += message_lines(
                self._plain(content_of(recorded[number][1]), "messages", str(number))
            )
        for number in range(max(index - 1, 0), len(now)):
            content = now[number]
            if number < len(recorded):
                content = self.redacted_message(content, recorded[number][1])
            after += message_lines(self._plain(content, "messages", str(number)))
        return (_kind_of_message(index, now, recorded),), False, (before, after)

    # -- everything else

    def _settings(self, request: Request, attempt: RecordedAttempt) -> _Settled:
        requested, definition = attempt.requested, attempt.definition
        params = to_plain(without_secrets(request.params))
        now: dict[str, object] = {
            "model": request.model,
            "params": params,
            "tools": request.tools,
            "output_schema": request.output_schema,
            "tool_choice": request.tool_choice,
        }
        recorded: dict[str, object] = {
            "model": requested.model,
            "params": definition.params if requested.params is None else requested.params,
            "tools": definition.tools,
            "output_schema": definition.output_schema,
            "tool_choice": requested.tool_choice,
        }
        if now == recorded:
            return (), False, ([], [])
        written = codec_event(
            msgspec.structs.replace(
                definition,
                model=request.model,
                params=params,
                tools=request.tools,
                output_schema=request.output_schema,
            ),
            self._redact,
        )
        if isinstance(written, AgentDefined):
            now |= {
                "params": written.params,
                "tools": written.tools,
                "output_schema": written.output_schema,
            }
        differs: list[str] = []
        ignored = False
        before: list[str] = []
        after: list[str] = []
        for name in now:
            if now[name] == recorded[name]:
                continue
            plain = [
                self._ignored.without(msgspec.to_builtins(one[name]), name)
                for one in (recorded, now)
            ]
            if plain[0] == plain[1]:
                ignored = True
                continue
            differs.append(name)
            before += setting_lines(name, plain[0])
            after += setting_lines(name, plain[1])
        return tuple(differs), ignored, (before, after)

    # -- other texts

    def task(self, started: SessionStarted) -> object:
        """The task of a session as it would be recorded, without what is ignored."""
        written = codec_event(started, self._redact)
        task = written.task if isinstance(written, SessionStarted) else started.task
        return self.recorded_task(task)

    def plain_task(self, started: SessionStarted) -> object:
        """The same, where nothing of it is redacted."""
        return self.recorded_task(started.task)

    def recorded_task(self, task: object) -> object:
        """A recorded task, without what is ignored."""
        return self._ignored.without(task, "task")

    def tool(self, text: str, end: ToolReturned | ToolFailed) -> tuple[str, str]:
        """What a tool says now and said then, as they are compared."""
        now = Content("tool", Content.of("tool", text).parts, call_id=end.content.call_id)
        written = self.redacted_message(now, end)
        texts = [self._ignored.without(one.text, "tool") for one in (written, end.content)]
        return str(texts[0]), str(texts[1])


# What differs, whether something was ignored, and the lines of the recorded and of this one.
_Settled = tuple[tuple[str, ...], bool, tuple[list[str], list[str]]]


def content_of(event: MessageEvent) -> Content:
    """What the message of an event says."""
    return event.content


def codec_event(event: Event, redact: Redact | None) -> Event | None:
    """An event as a reader of the log would get it; None where `redact` left no payload."""
    values = codec.values(payload(event, redact))
    if not isinstance(values, dict):
        return None
    values.pop(COUNTS, None)
    try:
        return msgspec.convert(values, EVENTS[event.type])
    except msgspec.ValidationError:
        return None


def _kind_of_message(
    index: int, now: Sequence[Content], recorded: Sequence[tuple[int, MessageEvent]]
) -> str:
    roles = {now[index].role} if index < len(now) else set()
    if index < len(recorded):
        roles.add(content_of(recorded[index][1]).role)
    return "system prompt" if roles == {"system"} else "messages"


def message_lines(plain: object) -> Iterator[str]:
    """A message, as JSON values, as lines of a diff."""
    if not isinstance(plain, dict):
        yield str(plain)
        return
    yield f"[{plain.get('role')}]"
    for part in _list(plain.get("parts")):
        if not isinstance(part, dict):
            yield str(part)
            continue
        if part.get("kind") != "text":
            yield f"({part.get('kind')})"
        yield from str(part.get("text") or "").splitlines()
        others = {key: part[key] for key in part if key not in ("kind", "text")}
        if others:
            yield _json(others)
    for call in _list(plain.get("tool_calls")):
        yield (
            f"-> {_json(call)}"
            if not isinstance(call, dict)
            else (f"-> {call.get('name')}({call.get('arguments', '')})  {call.get('id')}")
        )


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


def setting_lines(name: str, plain: object) -> list[str]:
    """A setting of a request as lines of a diff."""
    if isinstance(plain, str) or plain is None:
        return [f"{name}: {plain if plain is not None else '-'}"]
    return [f"{name}:", *json.dumps(plain, indent=2, ensure_ascii=False, default=str).splitlines()]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def diff_of(
    recorded: Sequence[str], now: Sequence[str], names: tuple[str, str] = ("recorded", "now")
) -> str:
    """A unified diff of two texts in lines."""
    lines = unified_diff(recorded, now, *names, n=_CONTEXT, lineterm="")
    return "\n".join(line for line in lines if not line.startswith("@@"))


def json_lines(value: object) -> list[str]:
    """A JSON value as lines."""
    if isinstance(value, str):
        return value.splitlines() or [""]
    return json.dumps(value, indent=2, ensure_ascii=False, default=str).splitlines()


def task_key(task: object) -> bytes:
    """What tells equal tasks: their JSON, whatever the order of keys."""
    try:
        return msgspec.json.encode(task, order="deterministic")
    except (UnicodeEncodeError, TypeError):
        return json.dumps(task, sort_keys=True, default=str).encode()
