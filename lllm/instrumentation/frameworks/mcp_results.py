"""Reads the results of MCP's tools: the text that a model gets, and the value beside it.

https://modelcontextprotocol.io/specification/2025-11-25/server/tools
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import msgspec

from lllm.invokers.dialects.provider_json import items, mapping


class ToolResult(msgspec.Struct, frozen=True):
    """The result of a tool.

    Attributes:
        text: The texts of the result, one a line.
        value: The structured content, with the images, sounds and resources of the result; None if
            the text says all of it.
        is_error: True if the tool reports an error.
    """

    text: str
    value: object
    is_error: bool


def result_of(answered: object) -> ToolResult:
    """Read a result, or the questions that a tool has before it can go on.

    Args:
        answered: A CallToolResult of MCP, or a dictionary in the form that is sent; any other
            result is read as a value.

    Returns:
        The result.
    """
    body = _plain(answered)
    if "content" not in body:
        return ToolResult(text="", value=body or None, is_error=False)
    blocks = [mapping(one) for one in items(body.get("content"))]
    text = "\n".join(str(one.get("text")) for one in blocks if one.get("type") == "text")
    structured = body.get("structuredContent")
    other = [one for one in blocks if one.get("type") != "text"]
    if structured == {"result": text}:  # how the SDK wraps a text
        structured = None
    value: object = structured
    if other:
        value = {"content": other} | ({} if structured is None else {"structured": structured})
    return ToolResult(text=text, value=value, is_error=body.get("isError") is True)


def _plain(answered: object) -> dict[str, object]:
    dump = getattr(answered, "model_dump", None)
    if callable(dump):
        answered = cast("Callable[..., object]", dump)(
            mode="json", by_alias=True, exclude_none=True
        )
    return dict(mapping(answered))
