"""Which conversation a request goes on with.

An API is sent a conversation anew with every turn. Here the messages are compared with those that
the session has: what another request, or an answer, said already is not written again, so that a
conversation of n turns costs O(n). Where it goes another way than before, it is a fork.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import accumulate
from weakref import WeakKeyDictionary

import msgspec

from lllm.dialog import message_digest, request_digest
from lllm.events.model import Content, DialogOpened, MessageAdded, Part, ToolCall
from lllm.events.recorder import Recorder
from lllm.events.robust_locks import ThreadLock


class Told:
    """A conversation by the ordinals and digests of its messages. What they say stands in the log,
    and is not kept: a session may last for days. number: its ordinal in the session."""

    def __init__(self, number: int, messages: Sequence[tuple[int, bytes]] = ()) -> None:
        self.number = number
        self._messages = list(messages)

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def last_ordinal(self) -> int | None:
        """The ordinal of its last message; None while it is empty."""
        return self._messages[-1][0] if self._messages else None

    def add(self, ordinal: int, digest: bytes) -> None:
        """Append a message that an event carries under this ordinal; its `message_digest`."""
        self._messages.append((ordinal, digest))

    def forked(self, number: int, *, upto: int) -> Told:
        """One that begins with its first `upto` messages."""
        return Told(number, self._messages[:upto])

    def digest(self, salt: bytes, *, asked: object) -> str:
        """As of a Dialog."""
        return request_digest(salt, asked, (digest for _, digest in self._messages))


class Conversations:
    """The dialogs of one session, found by how they begin. Safe in any number of threads.

    A dialog that waits for an answer is nobody else's: who asks the same meanwhile gets a fork, so
    that each answer has its place.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._lock = ThreadLock()
        self._waiting: set[int] = set()
        self._beginnings: dict[bytes, tuple[Told, int]] = {}  # a dialog, and how much of it
        self._wholes: dict[int, bytes] = {}  # all of each dialog as a beginning, by its number

    def going_on(self, contents: Sequence[Content]) -> Told:
        """The dialog that holds these messages; what is new of them is staged as events. It waits
        for an answer until `left`."""
        beginnings = list(accumulate(map(_compared, contents), _chained, initial=b""))
        with self._lock.held():
            return self._going_on(contents, beginnings)

    def _going_on(self, contents: Sequence[Content], beginnings: Sequence[bytes]) -> Told:
        lengths = range(len(contents), 0, -1)
        known = next((length for length in lengths if beginnings[length] in self._beginnings), 0)
        dialog = self._from(beginnings[known], known)
        for content in contents[known:]:
            ordinal = self._recorder.ordinal("message")
            self._recorder.stage(
                MessageAdded(
                    message=ordinal, dialog=dialog.number, content=content, why=_why(content.role)
                )
            )
            self._enter(dialog, ordinal, content)
        self._waiting.add(dialog.number)
        return dialog

    def left(self, dialog: Told) -> None:
        """Nobody waits for an answer in a dialog any more."""
        with self._lock.held():
            self._waiting.discard(dialog.number)

    def answered(self, dialog: Told, ordinal: int, content: Content) -> None:
        """A dialog got its answer, which stands in an event of its own."""
        with self._lock.held():
            self._enter(dialog, ordinal, content)

    def _enter(self, dialog: Told, ordinal: int, content: Content) -> None:
        dialog.add(ordinal, message_digest(content))
        before = self._wholes[dialog.number]
        whole = self._wholes[dialog.number] = _chained(before, _compared(content))
        self._beginnings.setdefault(whole, (dialog, len(dialog)))

    def _from(self, beginning: bytes, length: int) -> Told:
        parent, upto = self._beginnings.get(beginning, (None, 0))
        if parent is not None and upto == len(parent) and parent.number not in self._waiting:
            return parent
        number = self._recorder.ordinal("dialog")
        alias = f"conversation {number}"
        if parent is None:
            dialog = Told(number)
            self._recorder.stage(DialogOpened(dialog=number, agent="", alias=alias))
        else:
            dialog = parent.forked(number, upto=length)
            self._recorder.stage(
                DialogOpened(
                    dialog=number, agent="", alias=alias,
                    parent=parent.number, upto=dialog.last_ordinal,
                )
            )  # fmt: skip
        self._wholes[number] = beginning
        return dialog


_of_recorders: WeakKeyDictionary[Recorder, Conversations] = WeakKeyDictionary()
_finding = ThreadLock()


def conversations_of(recorder: Recorder) -> Conversations:
    """The conversations of a session, by its recorder; they are gone when it is."""
    with _finding.held():
        found = _of_recorders.get(recorder)
        if found is None:
            found = _of_recorders[recorder] = Conversations(recorder)
        return found


# Of a tool call that stands among the parts, too, where it was more than a call.
_CALLS = ("tool_use", "function_call", "custom_tool_call")


def _compared(content: Content) -> bytes:
    """What stands for a message where two are compared: 32 bytes, the same for an answer and for
    what a client makes of it when it sends it again.

    Frameworks write arguments in another way, and leave out what only an answer says: thoughts
    without a signature, what it cites, other choices.
    """
    if not content.tool_calls and all(_is_text_alone(part) for part in content.parts):
        return message_digest(content)  # as most are, of a conversation that is sent again
    calls = tuple(_compared_call(call) for call in content.tool_calls)
    parts = content.parts
    if content.role == "assistant":
        parts = tuple(
            Part("text", part.text) if part.kind == "text" else part
            for part in parts
            if not _is_beside(part, calls)
        )
    if calls != content.tool_calls or parts != content.parts:
        content = msgspec.structs.replace(content, parts=parts, tool_calls=calls)
    return message_digest(content)


def _is_text_alone(part: Part) -> bool:
    return part.kind == "text" and part.data is None and part.blob is None and part.mime is None


def _is_beside(part: Part, calls: Sequence[ToolCall]) -> bool:
    """Whether a part of an answer is not what a client sends again."""
    if part.kind == "reasoning":
        return part.data is None
    if part.kind in _CALLS:
        return bool(calls)
    named = isinstance(part.data, dict) and part.data.keys() == {part.kind}
    return part.kind in ("choice", "audio") or (named and part.text is None)


def _compared_call(call: ToolCall) -> ToolCall:
    """A call whose arguments are written in one way, where they are JSON."""
    try:
        found: object = json.loads(call.arguments, object_pairs_hook=_once)
        same = json.dumps(found, sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        return call
    return msgspec.structs.replace(call, arguments=same)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object; one that says a key twice is compared as its text."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _chained(before: bytes, digest: bytes) -> bytes:
    """What stands for a beginning, by that of one message less and the digest of the last."""
    return hashlib.sha256(before + digest).digest()


def _why(role: str) -> str:
    return "system" if role == "system" else "user"
