"""Cuts a recorded text into the pieces of a stream.

The log does not have the pieces that the provider sent. The pieces made here add up to the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

JSON = dict[str, object]

_SHORTEST = 16  # characters
_MOST = 64  # the greatest number of pieces of one text


def pieces_of(text: str) -> Iterator[str]:
    """Cut a text into at most 64 pieces; all but the last have at least 16 characters.

    Args:
        text: The text to cut; an empty text has no pieces.
    """
    size = max(_SHORTEST, -(-len(text) // _MOST))
    for start in range(0, len(text), size):
        yield text[start : start + size]


def named_value(kind: str, data: object) -> bool:
    """True if a part keeps a field that a provider sent in addition to the documented ones.

    `lllm.invokers.dialects.dialect.more_of` makes such parts.

    Args:
        kind: The kind of the part; for such a part, the name of the field.
        data: The data of the part; for such a part, a mapping of the name to the field's value.
    """
    return isinstance(data, Mapping) and data.keys() == {kind} and kind != "type"
