"""Encodes very long messages as JSON without copying their text more often than needed.

msgspec makes an output half as long again as it needs, and holds all of it beside the text. Here a
long text is written window by window into bytes of the right length. What comes out is the same.
"""

from __future__ import annotations

import codecs
import io
import secrets
from collections.abc import Iterator

import msgspec

from lllm.events.model import Content, Part, ToolCall

LONG = 1 << 20  # characters of a text, from which on it is written in windows
WINDOW = 1 << 17  # characters


def is_long(content: Content) -> bool:
    """True if a content has a text so long that it is written in windows.

    Args:
        content: What one message says.
    """
    for part in content.parts:
        if part.text is not None and len(part.text) > LONG:
            return True
    return any(len(call.arguments) > LONG for call in content.tool_calls)


def is_text(data: bytes) -> bool:
    """True if bytes are valid UTF-8.

    They are looked at in parts, which may end within a character.

    Args:
        data: However many.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(data), LONG):
            decoder.decode(data[at : at + LONG])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def encode(value: msgspec.Struct, content: Content, encoder: msgspec.json.Encoder) -> bytes:
    """Encode a struct as JSON, if it is or has a content with a long text.

    Args:
        value: The struct.
        content: The content in it, or the struct itself.
        encoder: What writes all else.

    Raises:
        UnicodeEncodeError: A text has a lone surrogate.
    """
    pieces = JSONPieces(value, content, encoder)
    length = sum(map(len, pieces))
    output = io.BytesIO()
    output.seek(length - 1)
    output.write(b"\0")  # its buffer has the right length now, and is given away as it is
    output.seek(0)
    for piece in pieces:
        output.write(piece)
    return output.getvalue()


class JSONPieces:
    """The JSON of a struct in pieces: its long texts, and everything else.

    Args:
        value: The struct.
        content: The content in it, or the struct itself.
        encoder: What writes all but the long texts.
    """

    def __init__(
        self, value: msgspec.Struct, content: Content, encoder: msgspec.json.Encoder
    ) -> None:
        self._encoder = encoder
        self._texts: list[str] = []
        self._mark = secrets.token_hex(16)  # that nobody can have written
        bare = msgspec.structs.replace(
            content,
            parts=tuple(map(self._bare_part, content.parts)),
            tool_calls=tuple(map(self._bare_call, content.tool_calls)),
        )
        whole = bare if value is content else msgspec.structs.replace(value, content=bare)
        self._between = encoder.encode(whole).split(self._mark.encode())

    def _bare_part(self, part: Part) -> Part:
        return msgspec.structs.replace(part, text=self._bare(part.text)) if part.text else part

    def _bare_call(self, call: ToolCall) -> ToolCall:
        return msgspec.structs.replace(call, arguments=self._bare(call.arguments))

    def _bare(self, text: str) -> str:
        if len(text) <= LONG:
            return text
        self._texts.append(text)
        return self._mark

    def __iter__(self) -> Iterator[bytes]:
        yield self._between[0]
        for text, behind in zip(self._texts, self._between[1:], strict=True):
            for at in range(0, len(text), WINDOW):
                yield self._encoder.encode(text[at : at + WINDOW])[1:-1]
            yield behind
