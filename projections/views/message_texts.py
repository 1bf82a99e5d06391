"""Finds the texts of an event that users can search: messages, tasks, tool calls, results, errors.

The index stores the words of these texts, and a search result shows a part of one; both get the
texts here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import msgspec

from lllm.events.codec import encode
from lllm.events.model import (
    Content,
    Error,
    ErrorRecorded,
    Event,
    LLMFailed,
    LLMResponded,
    MessageAdded,
    SessionAnnotated,
    SessionFailed,
    SessionStarted,
    SessionTagged,
    ToolCall,
    ToolFailed,
    ToolReturned,
)
from lllm.events.values.readable import readable

Role = Literal["task", "tag", "system", "user", "assistant", "tool", "error", "other", "note"]
ROLES: tuple[Role, ...] = get_args(Role)
# Characters of one text that are indexed. SQLite holds several copies of a text while it splits it
# into words, which for an answer of 40 MB would be more memory than everything before took.
MOST_SEARCHED = 1 << 20
_SPEAKERS: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


class MessageText(NamedTuple):
    """A text that can be searched.

    Attributes:
        role: The role of the message, or "task", "tag", "error" or "note" (an annotation); "other"
            for a role that lllm does not know.
        text: The text; "" if there is none.
        message: The number of the message in its session; None if it is not a message.
        left_out: The number of characters at the end of the text that can't be searched.
    """

    role: Role
    text: str
    message: int | None = None
    left_out: int = 0


def texts_of(payload: Event) -> Sequence[MessageText]:
    """List the texts of an event.

    Args:
        payload: The decoded payload of the event.

    Returns:
        At most two texts: the start of a session has its task and its tags. The index in the list
        identifies the text, so empty texts are kept. Of a text of more than MOST_SEARCHED
        characters, only the beginning is there, and `left_out` says how many characters are not.
    """
    find = _FINDERS.get(type(payload))
    found = () if find is None else find(payload)
    for one in found:
        if len(one.text) > MOST_SEARCHED:
            return _cut(found)
    return found


def _cut(found: Sequence[MessageText]) -> list[MessageText]:
    return [
        one._replace(text=one.text[:MOST_SEARCHED], left_out=max(0, len(one.text) - MOST_SEARCHED))
        for one in found
    ]


def _of_start(started: SessionStarted) -> Sequence[MessageText]:
    task = MessageText("task", _plain(started.task))
    return (task, MessageText("tag", _tag_lines(started.tags))) if started.tags else (task,)


def _of_message(said: MessageAdded | LLMResponded) -> Sequence[MessageText]:
    content = said.content
    role = _SPEAKERS.get(content.role, "other")
    return (MessageText(role, _content_text(content), said.message),)


def _of_result(returned: ToolReturned) -> Sequence[MessageText]:
    return (MessageText("tool", _content_text(returned.content), returned.message),)


def _of_failed_tool(failed: ToolFailed) -> Sequence[MessageText]:
    told = _content_text(failed.content)
    raised = "" if failed.error.message in told else _error_text(failed.error)
    return (MessageText("tool", _lines(told, raised), failed.message),)


def _of_failed_attempt(failed: LLMFailed) -> Sequence[MessageText]:
    partial = "" if failed.partial is None else _content_text(failed.partial)
    return (MessageText("error", _lines(_error_text(failed.error), partial)),)


def _of_failure(failed: SessionFailed) -> Sequence[MessageText]:
    return (MessageText("error", _error_text(failed.error)),)


def _of_error(recorded: ErrorRecorded) -> Sequence[MessageText]:
    text = _lines(_error_text(recorded.error), _plain(recorded.context))
    return (MessageText("error", text),)


def _of_annotation(said: SessionAnnotated) -> Sequence[MessageText]:
    judged = f"{said.name}={_plain(said.value)}" if said.value is not None else said.name
    return (MessageText("note", _lines(judged, said.comment or "")),)


def _of_tags(tagged: SessionTagged) -> Sequence[MessageText]:
    return (MessageText("tag", _tag_lines(tagged.set)),)


_FINDERS: Mapping[type[Event], Callable[..., Sequence[MessageText]]] = {
    SessionStarted: _of_start,
    MessageAdded: _of_message,
    LLMResponded: _of_message,
    ToolReturned: _of_result,
    ToolFailed: _of_failed_tool,
    LLMFailed: _of_failed_attempt,
    SessionFailed: _of_failure,
    SessionAnnotated: _of_annotation,
    ErrorRecorded: _of_error,
    SessionTagged: _of_tags,
}


def _content_text(content: Content) -> str:
    """All text of a message, including reasoning and the tools that it calls."""
    parts = content.parts
    if len(parts) == 1 and not content.tool_calls:  # most are
        return parts[0].text or ""
    texts = [part.text for part in parts if part.text]
    if content.tool_calls:
        texts += map(_call_text, content.tool_calls)
    return texts[0] if len(texts) == 1 else "\n".join(texts)


def _call_text(call: ToolCall) -> str:
    try:
        arguments = _plain(msgspec.json.decode(call.arguments))
    except (ValueError, RecursionError):
        arguments = call.arguments  # the text that a model sent may not be JSON
    return f"{call.name} {arguments}"


def _error_text(error: Error) -> str:
    return f"{error.type}: {error.message}" + (f" ({error.code})" if error.code else "")


def _tag_lines(tags: dict[str, str]) -> str:
    return "\n".join(f"{name}={value}" for name, value in tags.items())


def _lines(*texts: str) -> str:
    return "\n".join(filter(None, texts))


def _plain(value: object) -> str:
    """The words of a recorded value, without the syntax of JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        value = readable(value)
    except Exception:  # a mark that we don't know how to read
        return encode(value).decode()
    return value if isinstance(value, str) else " ".join(_leaves(value))


def _leaves(value: object) -> Iterator[str]:
    """Yield the keys and values of a JSON value, in order."""
    waiting = [iter([value])]
    while waiting:
        item = next(waiting[-1], waiting)
        if item is waiting:
            waiting.pop()
        elif isinstance(item, dict):
            waiting.append(iter([part for pair in item.items() for part in pair]))
        elif isinstance(item, list):
            waiting.append(iter(item))
        elif item is not None:
            yield item if isinstance(item, str) else encode(item).decode()
