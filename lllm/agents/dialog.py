"""Dialogs and their messages. Messages are only added; a fork shares the earlier ones."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, cast

import msgspec

from lllm.events import codec
from lllm.events.model import Content, ToolCall, Usage
from lllm.projections.session.invoke_cost import InvokeCost

# a bare `Message` has an unknown `parsed`; Python 3.13 has this in the standard library
if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


class Message(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A message of a dialog; an answer also has `parsed`, `usage` and `cost`."""

    role: str
    """system, user, assistant or tool."""
    content: str
    """The text."""
    parsed: T = cast(T, None)
    """The value that the prompt's parser or format made from an answer; None for other messages.
    Type checkers know its type from the prompt: `Message[Verdict]`."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The tool calls in an answer."""
    usage: Usage | None = None
    """The tokens of the attempt that an answer came from."""
    cost: InvokeCost | None = None
    """The cost of that attempt."""


def message_digest(content: Content) -> bytes:
    """Calculate the digest of a message, from which digests of requests are made.

    Args:
        content: The message.

    Returns:
        The SHA-256 of its JSON, 32 bytes.
    """
    digest = hashlib.sha256()
    for piece in codec.pieces(content):
        digest.update(piece)
    return digest.digest()


def request_digest(salt: bytes, asked: object, messages: Iterable[bytes]) -> str:
    """Calculate the digest that identifies a request.

    Args:
        salt: The salt of the session, because redacted text could be guessed by an unsalted digest.
        asked: The request without its messages, as JSON.
        messages: The digests of all messages; see `message_digest`.

    Returns:
        The HMAC-SHA-256 of both, as hex.
    """
    digest = hmac.new(salt, codec.encode(asked), "sha256")
    digest.update(b"".join(messages))
    return digest.hexdigest()


class _Entry(msgspec.Struct, frozen=True):
    """A message, its number in the session and its digest."""

    ordinal: int
    content: Content
    digest: bytes


class Dialog:
    """A conversation between an agent and its model.

    Args:
        number: The number of the dialog within the session.
        alias: The agent's name for the dialog.
        entries: The messages that it begins with.
    """

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
        """The messages, oldest first."""
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
        """The messages in the form that is sent to a model."""
        return tuple([entry.content for entry in self._entries])

    @property
    def last_ordinal(self) -> int | None:
        """The number of the last message within the session; None if there is none."""
        return self._entries[-1].ordinal if self._entries else None

    def digest(self, salt: bytes, *, asked: object) -> str:
        """Calculate the digest of a request that sends all messages of the dialog.

        Args:
            salt: The salt of the session.
            asked: The request without its messages, as JSON.

        Returns:
            The HMAC-SHA-256 of both, as hex; see `request_digest`.
        """
        return request_digest(salt, asked, [entry.digest for entry in self._entries])

    def add(self, ordinal: int, content: Content) -> None:
        """Append a message that is already recorded in the log.

        Args:
            ordinal: The number of the message within the session.
            content: The message.
        """
        self._entries.append(_Entry(ordinal, content, message_digest(content)))

    def restart(self, number: int, kept: int) -> int | None:
        """Continue as another dialog that has the first messages of this one.

        Args:
            number: The number of the other dialog within the session.
            kept: The number of messages to keep.

        Returns:
            The number, within the session, of the last message that is kept; None if none is.
        """
        del self._entries[kept:]
        self.number = number
        return self.last_ordinal

    def forked(self, number: int, alias: str) -> Dialog:
        """Make a new dialog that begins with the messages of this one.

        Args:
            number: The number of the new dialog within the session.
            alias: The agent's name for the new dialog.

        Returns:
            The new dialog.
        """
        return Dialog(number, alias, self._entries)
