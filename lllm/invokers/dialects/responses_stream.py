"""Joins the events of a streamed answer of the Responses API.

The events are documented at https://platform.openai.com/docs/api-reference/responses-streaming. The
last one has the whole response, so the pieces only matter if the stream is interrupted before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lllm.invokers.dialects.growing_fields import GrowingText
from lllm.invokers.dialects.provider_json import items, mapping, text
from lllm.invokers.http.errors import from_event

if TYPE_CHECKING:
    from collections.abc import Mapping

_CALLS = ("function_call", "custom_tool_call")
_LAST = ("response.completed", "response.incomplete")


class _Delta(NamedTuple):
    """The place that a piece of text belongs to.

    Attributes:
        item: The kind of the item.
        field: The field in the item.
        kind: The kind of the element, if the field is a list.
        inner: The field of that element.
        place: The name of the event's field that has the index in the list.
    """

    item: str
    field: str
    kind: str = ""
    inner: str = ""
    place: str = ""


_DELTAS = {
    "response.output_text.delta": _Delta(
        "message", "content", "output_text", "text", "content_index"
    ),
    "response.refusal.delta": _Delta("message", "content", "refusal", "refusal", "content_index"),
    "response.reasoning_text.delta": _Delta(
        "reasoning", "content", "reasoning_text", "text", "content_index"
    ),
    "response.reasoning_summary_text.delta": _Delta(
        "reasoning", "summary", "summary_text", "text", "summary_index"
    ),
    "response.function_call_arguments.delta": _Delta("function_call", "arguments"),
    "response.custom_tool_call_input.delta": _Delta("custom_tool_call", "input"),
}


class _Item:
    """One item of the output, as far as it has arrived."""

    def __init__(self, whole: Mapping[str, object]) -> None:
        self.whole = dict(whole)
        self.pieces: dict[tuple[_Delta, int], GrowingText] = {}

    def body(self) -> dict[str, object]:
        body = dict(self.whole)
        for (delta, _), pieces in sorted(self.pieces.items(), key=lambda item: item[0][1]):
            text = pieces.text()
            if delta.inner:
                known = body.get(delta.field)
                before = known if isinstance(known, list) else []
                body[delta.field] = [*before, {"type": delta.kind, delta.inner: text}]
            else:
                body[delta.field] = text
        return body


class ResponsesStream:
    """Joins the events of a streamed answer of the Responses API; see Assembly."""

    def __init__(self) -> None:
        self._response: dict[str, object] = {}
        self._items: dict[int, _Item] = {}
        self._begun = False
        self._has_text = False
        self._complete = False
        self._failed = False

    @property
    def begun(self) -> bool:
        """True if any output of the model has arrived; see Assembly."""
        return self._begun

    @property
    def complete(self) -> bool:
        """True if the last event has arrived; see Assembly."""
        return self._complete

    @property
    def settled(self) -> bool:
        """True if the usage is final; see Assembly."""
        return self._complete or self._failed

    def take(self, event: Mapping[str, object]) -> str:
        """Add the next event; see Assembly."""
        kind = event.get("type")
        response = mapping(event.get("response"))
        if kind == "error" or event.get("error"):
            said = event.get("error") or {key: event.get(key) for key in ("code", "message")}
            raise from_event({"error": said})
        if kind == "response.failed":
            # The usage is known; the answer stays as it was before it failed.
            self._response |= {"usage": response.get("usage")}
            self._failed = response.get("usage") is not None
            raise from_event({"error": response.get("error")})
        if kind in _LAST:
            return self._last(response)
        if response:
            self._response = dict(response)
        elif kind in ("response.output_item.added", "response.output_item.done"):
            self._item(event)
        elif isinstance(kind, str) and kind in _DELTAS:
            return self._piece(_DELTAS[kind], event)
        return ""

    def _last(self, response: Mapping[str, object]) -> str:
        self._complete = True
        came = self._output()
        self._response = dict(response)
        if not response.get("output"):
            self._response["output"] = came
        self._begun = self._begun or bool(self._response["output"])
        return "" if self._has_text else _text_of(self._response["output"])

    def _item(self, event: Mapping[str, object]) -> None:
        index, item = event.get("output_index"), mapping(event.get("item"))
        if isinstance(index, int) and item:
            self._items[index] = _Item(item)
            self._begun = self._begun or item.get("type") in _CALLS

    def _piece(self, delta: _Delta, event: Mapping[str, object]) -> str:
        index, text = event.get("output_index"), event.get("delta")
        if not isinstance(index, int) or not isinstance(text, str) or not text:
            return ""
        place = event.get(delta.place, 0)
        item = self._items.setdefault(index, _Item({"type": delta.item}))
        key = (delta, place if isinstance(place, int) else 0)
        if key not in item.pieces:
            item.pieces[key] = GrowingText()
        item.pieces[key].append(text)
        self._begun = True
        if delta.kind != "output_text":
            return ""
        self._has_text = True
        return text

    def _output(self) -> list[dict[str, object]]:
        return [self._items[index].body() for index in sorted(self._items)]

    def body(self) -> dict[str, object]:
        """Join what has arrived; see Assembly."""
        if self._complete or not (self._response or self._items):
            return self._response
        return self._response | {"output": self._output()}


def _text_of(output: object) -> str:
    said = [mapping(item) for item in items(output)]
    messages = [item for item in said if item.get("type") == "message"]
    pieces = [mapping(piece) for item in messages for piece in items(item.get("content"))]
    return "".join(text(piece.get("text")) or "" for piece in pieces)
