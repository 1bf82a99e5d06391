"""How a recorded text is cut into the pieces of a stream.

Where the provider cut it is not in the log; joined, the pieces are the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

JSON = dict[str, object]

_SHORTEST = 16  # characters
_MOST = 64  # pieces of one text


def pieces_of(text: str) -> Iterator[str]:
    """Cut a text into at most 64 pieces of at least 16 characters, but for the last.

    Args:
        text: Any text; an empty one has no pieces.
    """
    size = max(_SHORTEST, -(-len(text) // _MOST))
    for start in range(0, len(text), size):
        yield text[start : start + size]


def named_value(kind: str, data: object) -> bool:
    """Tell whether a part keeps a field that a provider says beside the documented ones.

    See `lllm.invokers.dialects.dialect.more_of`, which makes such parts.

    Args:
        kind: Of the part.
        data: Of the part.
    """
    return isinstance(data, Mapping) and data.keys() == {kind} and kind != "type"
