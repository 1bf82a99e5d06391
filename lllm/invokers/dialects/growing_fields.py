"""Joins fields of a streamed answer that no dialect knows by name.

What a server says beside the documented fields is put together by what it looks like, so that a
streamed answer says the same as one that came whole: lists get longer, objects are merged, texts
that are known to grow are joined, and of all else the last word counts.
"""

from __future__ import annotations

# Of these OpenRouter, Groq and others send a piece at a time, of all other texts the whole:
# https://openrouter.ai/docs/use-cases/reasoning-tokens#streaming-response
_GROWING = frozenset({
    "text", "summary", "data", "signature", "arguments", "input", "output", "content", "thinking",
    "refusal", "transcript", "code",
})  # fmt: skip


_BLOCK = 1 << 16  # characters of pieces that are kept as they came


def grow(whole: dict[str, object], name: str, piece: object, *, joins: bool = False) -> None:
    """Append a piece of a field to the earlier pieces; null is ignored.

    Args:
        whole: What has come; it is changed, and the piece becomes part of it.
        name: Of the field.
        piece: JSON.
        joins: True to join a text to what came before, whatever the field is called.
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

    A list of them would hold each as a small object between others. They are freed when the text
    is made of them, but the system does not get the memory back before what lies behind them goes.
    """

    def __init__(self, *pieces: str) -> None:
        self._new = [*pieces]
        self._length = 0  # of the new ones
        self._before = bytearray()  # what came before them
        self._text: str | None = None  # all of it, once it was asked for; then it stands here alone

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
    """Add an item to a list; an item with a known index and type extends that one."""
    if isinstance(item, dict) and type(item.get("index")) is int:
        for known in reversed(items):
            if isinstance(known, dict) and all(
                known.get(key) == item.get(key) for key in ("index", "type")
            ):
                for key, value in item.items():
                    grow(known, key, value)
                return
    items.append(item)
