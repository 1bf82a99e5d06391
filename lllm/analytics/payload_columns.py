"""Makes the columns that parts of an event's payload fill."""

from __future__ import annotations

from contextlib import suppress

from lllm.events import codec
from lllm.events.model import Content, Error, Price, Usage
from lllm.events.values.readable import readable

NO_TOKENS = (None,) * 7
"""The columns of `token_columns` without a usage."""


def text_columns(content: Content) -> tuple[str, str | None, int, int]:
    """Make the columns of a message's content.

    Args:
        content: The content.

    Returns:
        Its text, its reasoning, and how many tool calls and other parts it has.
    """
    parts = content.parts
    if len(parts) == 1 and parts[0].kind == "text":  # most messages; this is the fastest way
        return parts[0].text or "", None, len(content.tool_calls), 0
    reasoning, others = None, 0
    for part in parts:
        if part.kind == "reasoning":
            reasoning = (reasoning or "") + (part.text or "")
        elif part.kind != "text":
            others += 1
    return content.text, reasoning, len(content.tool_calls), others


def json_text(value: object) -> str:
    """Write a recorded value as JSON.

    Args:
        value: The value in its recorded form.

    Returns:
        The text, without marks for values that JSON lacks.
    """
    with suppress(Exception):  # a mark that this version can't read stays in its recorded form
        value = readable(value)
    return codec.encode(value).decode()


def error_columns(error: Error | None) -> tuple[str | None, str | None]:
    """Make the columns of an error.

    Args:
        error: The error; None without one.

    Returns:
        Its type and its message.
    """
    return (None, None) if error is None else (error.type, error.message)


def token_columns(usage: Usage | None) -> tuple[int | None, ...]:
    """Make the columns of a usage.

    Args:
        usage: The usage; None if the provider sent none.

    Returns:
        Its seven counts, in the order of the columns of `attempts`.
    """
    if usage is None:
        return NO_TOKENS
    return (
        usage.input, usage.output, usage.cache_read, usage.cache_write_5m + usage.cache_write_1h,
        usage.reasoning, usage.audio_in, usage.audio_out,
    )  # fmt: skip


def price_columns(
    price: Price | None, usage: Usage | None
) -> tuple[str | None, str | None, int | None]:
    """Make the columns of a price.

    Args:
        price: The price; None if nothing is known of a failure, or if an earlier version kept only
            its usage.
        usage: The usage.

    Returns:
        How it is known, the reason, and nano-dollars; None if the price is unknown.
    """
    if price is None:
        return None if usage is None else "unpriced", None, None
    return price.status, price.reason, price.nanos
