"""Encodes very long messages as JSON without copying their text more often than needed.

msgspec would allocate an output one and a half times as large as needed, and keep it in memory
beside the text. Here a long text is written part by part into bytes of the right length. The result
is the same.
"""

from __future__ import annotations

import codecs
import io
import secrets
from collections.abc import Iterator

import msgspec

from lllm.events.model import Content, Part, ToolCall

LONG = 1 << 20  # a text of at least so many characters is written in parts
WINDOW = 1 << 17  # characters


def is_long(content: Content) -> bool:
    """True if a content has a text that is long enough to be written in parts.

    Args:
        content: The content of a message.
    """
    for part in content.parts:
        if part.text is not None and len(part.text) > LONG:
            return True
    return any(len(call.arguments) > LONG for call in content.tool_calls)


def is_text(data: bytes) -> bool:
    """True if bytes are valid UTF-8.

    They are checked in parts; a part may end inside a character.

    Args:
        data: The bytes, of any length.
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
    """Encode a struct that is, or contains, a content with a long text.

    Args:
        value: The struct to encode.
        content: The content in the struct, or the struct itself.
        encoder: The encoder for everything but the long texts.

    Returns:
        The JSON text as UTF-8.

    Raises:
        UnicodeEncodeError: A text contains a lone surrogate.
    """
    pieces = JSONPieces(value, content, encoder)
    length = sum(map(len, pieces))
    output = io.BytesIO()
    output.seek(length - 1)
    output.write(b"\0")  # the buffer has the right length now, and is returned without a copy
    output.seek(0)
    for piece in pieces:
        output.write(piece)
    return output.getvalue()


class JSONPieces:
    """Makes the JSON of a struct in pieces: its long texts, and the JSON between them.

    Args:
        value: The struct to encode.
        content: The content in the struct, or the struct itself.
        encoder: The encoder for everything but the long texts.
    """

    def __init__(
        self, value: msgspec.Struct, content: Content, encoder: msgspec.json.Encoder
    ) -> None:
        self._encoder = encoder
        self._texts: list[str] = []
        self._mark = secrets.token_hex(16)  # a text that can't occur in the struct
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
