"""Dialogs and their messages. A dialog only ever grows; a fork shares what came before it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, cast

import msgspec

from lllm.events import codec
from lllm.events.model import Content, ToolCall, Usage
from lllm.projections.session.invoke_cost import InvokeCost

if TYPE_CHECKING:  # a bare `Message` is one whose prompt nobody knows; Python 3.13 says it itself
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


class Message(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One message of a dialog.

    content: its text. tool_calls: the tools that an answer asks for. What `respond` returns has
    more: parsed, what the prompt's parser or format made of it (`Message[Verdict]`, where a type
    checker knows the prompt); usage and cost, of the attempt that it came from. They are None on
    the messages of a dialog.
    """

    role: str
    content: str
    parsed: T = cast(T, None)
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None
    cost: InvokeCost | None = None


class Piece(str):
    """A piece of the text of an answer that is still coming.

    request: the call of the model that it comes from, counted in the session. attempt: of that
    call. Where an attempt fails, or its answer is asked for again, what it said is void: pieces of
    the next `request` begin anew.
    """

    __slots__ = ("attempt", "request")

    request: int
    attempt: int

    def __new__(cls, text: str, *, request: int, attempt: int) -> Piece:
        piece = super().__new__(cls, text)
        piece.request = request
        piece.attempt = attempt
        return piece


def message_digest(content: Content) -> bytes:
    """The 32 bytes that stand for a message in the digest of a request."""
    digest = hashlib.sha256()
    for piece in codec.pieces(content):
        digest.update(piece)
    return digest.digest()


def request_digest(salt: bytes, asked: object, messages: Iterable[bytes]) -> str:
    """HMAC-SHA-256, as hex, of what is asked and of the digests of all messages.

    salt: of the session. What was cut from the messages could be guessed by a bare digest.
    """
    digest = hmac.new(salt, codec.encode(asked), "sha256")
    for one in messages:
        digest.update(one)
    return digest.hexdigest()


class _Entry(msgspec.Struct, frozen=True):
    """A message as the log knows it: its ordinal in the session and the digest of its content."""

    ordinal: int
    content: Content
    digest: bytes


class Dialog:
    """A conversation of one agent. number: its ordinal in the session. alias: the agent's name for
    it."""

    def __init__(self, number: int, alias: str, entries: Sequence[_Entry] = ()) -> None:
        self.number = number
        self.alias = alias
        self._entries = list(entries)

    def __repr__(self) -> str:
        return f"<Dialog {self.alias}: {len(self._entries)} messages>"

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def messages(self) -> list[Message]:
        """What was said, oldest first."""
        return [
            Message(
                role=entry.content.role,
                content=entry.content.text,
                tool_calls=entry.content.tool_calls,
            )
            for entry in self._entries
        ]

    @property
    def contents(self) -> tuple[Content, ...]:
        """The same as it is sent to a model."""
        return tuple(entry.content for entry in self._entries)

    @property
    def last_ordinal(self) -> int | None:
        """The ordinal of its last message; None while it is empty."""
        return self._entries[-1].ordinal if self._entries else None

    def digest(self, salt: bytes, *, asked: object) -> str:
        """What a request with all of its messages is told by; see `request_digest`."""
        return request_digest(salt, asked, (entry.digest for entry in self._entries))

    def add(self, ordinal: int, content: Content) -> None:
        """Append a message that an event carries under this ordinal."""
        self._entries.append(_Entry(ordinal, content, message_digest(content)))

    def forked(self, number: int, alias: str, *, upto: int | None = None) -> Dialog:
        """A dialog that begins as this one is now, or with its first `upto` messages."""
        return Dialog(number, alias, self._entries[:upto])
