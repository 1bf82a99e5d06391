"""Finds images in messages that a browser may show: PNG, JPEG, GIF and WebP, and never SVG.

An image is shown from the bytes that were recorded, as a data URL made anew of them. An address in
a message is never asked.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping

from lllm.events.model import Part

_MOST = 2 << 20  # bytes of an image in a page
_DEPTH = 4  # levels of a part's data that are looked through
_BEGINS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}


def image_of(part: Part) -> str | None:
    """Make the data URL of the image in a part of a message.

    Args:
        part: The part, as a provider's API has it.

    Returns:
        The URL; None if the part has no image of at most 2 MiB in one of the four formats.
    """
    if part.kind == "text":
        return None
    for encoded in _encoded(part.data, _DEPTH):
        if len(encoded) > _MOST * 4 // 3 + 4:
            continue
        try:
            content = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            continue
        kind = _kind_of(content)
        if kind is not None:
            return f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return None


def _encoded(value: object, depth: int) -> Iterator[str]:
    """Find texts that may be an image in base64."""
    if isinstance(value, str):
        if value[:11].lower() == "data:image/":
            yield value.partition(";base64,")[2]
        else:
            yield value
    elif depth and isinstance(value, Mapping):
        for inner in value.values():
            yield from _encoded(inner, depth - 1)


def _kind_of(content: bytes) -> str | None:
    """Tell the format by the first bytes, whatever the message says."""
    for begin, kind in _BEGINS.items():
        if content.startswith(begin):
            return kind
    is_webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    return "image/webp" if is_webp else None
