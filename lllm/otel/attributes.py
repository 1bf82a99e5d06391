"""Puts attributes in the order in which a backend may cut them, and makes their values safe.

Backends keep at most 128 attributes of a span, or a certain number of bytes. So the important ones
are first, and long texts are last. Each long text is cut here, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lllm.events import codec
from lllm.otel.records import AttributeValue

MOST = 128  # attributes of a span, the default limit of OpenTelemetry's SDKs and of many backends
SHORT = 1_024  # bytes of a name, an id or a tag
LONG = 16_384  # bytes of an error message or a traceback

_INT64 = 2**63

Plain = str | bool | int | float | tuple[str, ...] | list[str] | None


class Ordered(msgspec.Struct, frozen=True, gc=False):
    """The attributes of a span or log record as they are sent.

    Attributes:
        values: The attributes, in order.
        dropped: The number of those that were more than `MOST`.
    """

    values: dict[str, AttributeValue]
    dropped: int = 0


def ordered(
    small: Mapping[str, Plain],
    *,
    tags: Mapping[str, str] | None = None,
    texts: Mapping[str, str | None] | None = None,
) -> Ordered:
    """Put attributes in order: small ones, then tags, then long texts.

    Args:
        small: The important attributes; those that are None are left out.
        tags: Attributes of the user's, of any number.
        texts: Long texts, which are cut already.

    Returns:
        At most `MOST` attributes. If there are too many, tags are left out first; the attribute
        `lllm.attributes_left_out` then has their number.
    """
    values = {
        # the condition alone takes a third of the time of `_safe`, for nearly all values
        name: value
        if type(value) is str and len(value) < SHORT // 4 and value.isascii()
        else _safe(value, SHORT)
        for name, value in small.items()
        if value is not None
    }
    last = {clean(name): clean(value) for name, value in (texts or {}).items() if value is not None}
    room = MOST - len(values) - len(last)
    between = list((tags or {}).items())
    dropped = 0
    if len(between) > room:
        room -= 1
        dropped = len(between) - max(room, 0)
        values["lllm.attributes_left_out"] = dropped
    for name, value in between[: max(room, 0)]:
        values.setdefault(cut(name, SHORT), cut(value, SHORT))
    return Ordered(values | last, dropped)


def clean(text: str) -> str:
    r"""Escape lone surrogates, which neither protobuf nor UTF-8 can hold, as in "\\ud83d"."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def cut(text: str, most: int) -> str:
    """Cut a text that is too long; its end then says how much was left out.

    Args:
        text: The text.
        most: The greatest number of bytes to keep.

    Returns:
        The text in UTF-8 without lone surrogates, with at most `most` bytes and the note.
    """
    text = clean(text)
    if len(text) <= most // 4:
        return text
    data = text.encode()
    if len(data) <= most:
        return text
    kept = data[:most].decode("utf-8", "ignore")
    return f"{kept}… [lllm: {len(data) - len(kept.encode()):,} of {len(data):,} bytes left out]"


def json_text(value: object) -> str:
    """Write a JSON value as a text; None as "null"."""
    return codec.encode(value).decode()


def _safe(value: Plain, most: int) -> AttributeValue:
    if isinstance(value, str):
        return cut(value, most)
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else str(value)
    assert value is not None
    return tuple(cut(one, most) for one in value)
