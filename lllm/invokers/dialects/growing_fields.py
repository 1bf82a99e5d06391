"""Joins fields of a streamed answer that no dialect knows by name.

Undocumented fields are joined by their type, so that a streamed answer has the same content as a
whole one: lists are extended, objects are merged, texts that are known to grow are joined, and of
anything else the last value counts.
"""

from __future__ import annotations

# Texts that OpenRouter, Groq and others send in pieces; all other texts are sent whole:
# https://openrouter.ai/docs/use-cases/reasoning-tokens#streaming-response
_GROWING = frozenset({
    "text", "summary", "data", "signature", "arguments", "input", "output", "content", "thinking",
    "refusal", "transcript", "code",
})  # fmt: skip


_BLOCK = 1 << 16  # characters of pieces that are kept separately


def grow(whole: dict[str, object], name: str, piece: object, *, joins: bool = False) -> None:
    """Append a piece of a field to the earlier pieces; null is ignored.

    Args:
        whole: The object with the earlier pieces; it is changed, and keeps the piece.
        name: The name of the field.
        piece: The new piece, decoded from JSON.
        joins: True to join texts whatever the field's name is.
    """
    known = whole.get(name)
    if known is None or piece is None:
        if piece is not None or name not in whole:
            whole[name] = piece
    elif isinstance(known, dict) and isinstance(piece, dict):
        for key, value in piece.items():
            grow(known, key, value)
    elif isinstance(known, list) and isinstance(piece, list):
        for item in piece:
            _add(known, item)
    elif isinstance(known, str) and isinstance(piece, str) and (joins or name in _GROWING):
        whole[name] = known + piece
    else:
        whole[name] = piece


class GrowingText:
    """A text that arrives in pieces, and is kept in memory only once.

    A list of pieces would be many small objects between other objects. After they are freed, the
    system does not get their memory back until the objects behind them are freed, too.
    """

    def __init__(self, *pieces: str) -> None:
        self._new = [*pieces]
        self._length = 0  # characters in the new pieces
        self._before = bytearray()  # the earlier pieces
        # the whole text once it was requested; the other fields are empty then
        self._text: str | None = None

    def append(self, piece: str) -> None:
        """Append the next piece."""
        if self._text is not None:
            self._new, self._length, self._text = [self._text], len(self._text), None
        self._new.append(piece)
        self._length += len(piece)
        if self._length > _BLOCK:
            self._take()

    def _take(self) -> None:
        self._before += "".join(self._new).encode("utf-8", "surrogatepass")
        self._new.clear()
        self._length = 0

    def text(self) -> str:
        """Join all pieces."""
        if self._text is None:
            if self._before:
                self._take()
                self._text = self._before.decode("utf-8", "surrogatepass")
            else:
                self._text = "".join(self._new)
            self._new, self._before, self._length = [], bytearray(), 0
        return self._text


def _add(items: list[object], item: object) -> None:
    """Add an item to a list; an item with a known index and type extends the earlier one."""
    if isinstance(item, dict) and type(item.get("index")) is int:
        for known in reversed(items):
            if isinstance(known, dict) and all(
                known.get(key) == item.get(key) for key in ("index", "type")
            ):
                for key, value in item.items():
                    grow(known, key, value)
                return
    items.append(item)
