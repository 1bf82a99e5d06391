"""Fields of an answer that come in pieces and that no dialect has words for.

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


def grow(whole: dict[str, object], name: str, piece: object, *, joins: bool = False) -> None:
    """Take a piece of a field into what has come of it; null says nothing.

    The piece becomes part of `whole`, and is changed with it. joins: whether a text is joined to
    what came before, whatever it is called.
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


def joined(pieces: list[str]) -> str:
    """The text that pieces make, which takes their place: it is not held twice."""
    pieces[:] = ["".join(pieces)]
    return pieces[0]


def _add(items: list[object], item: object) -> None:
    """Take an item into a list; one with the index and type of another is a piece of that."""
    if isinstance(item, dict) and type(item.get("index")) is int:
        for known in reversed(items):
            if isinstance(known, dict) and all(
                known.get(key) == item.get(key) for key in ("index", "type")
            ):
                for key, value in item.items():
                    grow(known, key, value)
                return
    items.append(item)
