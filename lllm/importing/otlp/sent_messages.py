"""Finds which messages of a request are new, so that each message is recorded once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from lllm.events import codec
from lllm.events.model import Content
from lllm.importing.transcripts.session_events import SessionEvents


class SentDialog(msgspec.Struct, gc=False):
    """A conversation: the numbers of its messages, and a digest of all of them up to each.

    Attributes:
        number: The number of the conversation in its session.
        messages: The numbers of its messages, oldest first.
        beginnings: For each message, a digest of the conversation up to it.
    """

    number: int
    messages: list[int] = []
    beginnings: list[bytes] = []

    @property
    def last(self) -> int:
        """The number of the last message; 0 for none."""
        return self.messages[-1] if self.messages else 0

    def add(self, message: int, content: Content) -> bytes:
        """Add a message, and return the digest of the conversation with it."""
        before = self.beginnings[-1] if self.beginnings else b""
        whole = hashlib.sha256(before + _compared(content)).digest()
        self.messages.append(message)
        self.beginnings.append(whole)
        return whole


class SentMessages:
    """The conversations of a session, found by their first messages.

    With every turn, a client sends the whole conversation again. A request that departs from the
    conversations that are known becomes a copy of the part that it shares with one.

    Args:
        events: The events of the session, which get the new messages.
    """

    def __init__(self, events: SessionEvents) -> None:
        self._events = events
        self._known: dict[bytes, tuple[SentDialog, int]] = {}

    def send(self, time: int, contents: Sequence[Content]) -> SentDialog:
        """Find the conversation that a request continues, and record its new messages.

        Args:
            time: The time of the request, nanoseconds UTC.
            contents: The messages of the request, oldest first.

        Returns:
            The conversation, with all messages of the request.
        """
        whole, beginnings = b"", []
        for content in contents:
            whole = hashlib.sha256(whole + _compared(content)).digest()
            beginnings.append(whole)
        known = next(
            (n for n in range(len(contents), 0, -1) if beginnings[n - 1] in self._known), 0
        )
        dialog = self._continued(time, beginnings[known - 1] if known else b"", known)
        for content in contents[known:]:
            self.enter(dialog, self._events.add_message(time, dialog.number, content), content)
        return dialog

    def enter(self, dialog: SentDialog, message: int, content: Content) -> None:
        """Add a message that was recorded to a conversation."""
        whole = dialog.add(message, content)
        self._known.setdefault(whole, (dialog, len(dialog.messages)))

    def _continued(self, time: int, beginning: bytes, known: int) -> SentDialog:
        parent, length = self._known.get(beginning, (None, 0))
        if parent is not None and len(parent.messages) == length:
            return parent
        if parent is None:
            number = self._events.open_dialog(time, "conversation")
            return SentDialog(number, [], [])
        messages, beginnings = parent.messages[:known], parent.beginnings[:known]
        number = self._events.open_dialog(
            time, "conversation", parent=parent.number, upto=messages[-1]
        )
        return SentDialog(number, messages, beginnings)


def _compared(content: Content) -> bytes:
    """Make what is equal for a message and for the forms in which it is sent again."""
    ids = [call.id for call in content.tool_calls]
    if content.role == "tool" and content.call_id:
        found: object = ["tool", content.call_id]
    elif ids and all(ids):
        found = ["calls", *ids]
    else:
        calls = [[call.name, call.arguments] for call in content.tool_calls]
        said = content.text.strip()
        others = [part.data for part in content.parts if part.kind not in ("text", "reasoning")]
        found = [content.role, said, calls, others]
    return hashlib.sha256(codec.encode(found)).digest()
