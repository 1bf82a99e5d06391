"""Joins the events of a streamed answer of the Messages API.

The events are documented at https://platform.claude.com/docs/en/build-with-claude/streaming. A
message begins; its blocks begin, grow and stop; then the message gets the reason why it stopped and
its usage, and stops. Unknown kinds of events may appear at any time, and are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from lllm.invokers.dialects.growing_fields import GrowingText, grow
from lllm.invokers.dialects.provider_json import mapping
from lllm.invokers.http.errors import from_event

_GROWING: dict[object, str] = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
}
_KNOWN_BLOCKS = ("text", "thinking", "redacted_thinking", "tool_use")
_OF_DELTA = ("type", "delta", "usage")


class MessagesStream:
    """Joins the events of a streamed answer of the Messages API; see Assembly."""

    def __init__(self) -> None:
        self._message: dict[str, object] = {}
        self._blocks: dict[int, _Block] = {}

    @property
    def begun(self) -> bool:
        """True if any block has content."""
        return any(block.begun for block in self._blocks.values())

    @property
    def complete(self) -> bool:
        """True if the reason why the message stopped is known."""
        return self._message.get("stop_reason") is not None

    @property
    def settled(self) -> bool:
        """True if the usage is final; the output count at the start is only a placeholder."""
        return self.complete

    def take(self, event: Mapping[str, object]) -> str:
        """Add the next event; see Assembly."""
        kind, index = event.get("type"), event.get("index")
        if kind == "message_start":
            self._message |= mapping(event.get("message"))
        elif kind == "content_block_start" and isinstance(index, int):
            self._blocks[index] = block = _Block(mapping(event.get("content_block")))
            return block.text
        elif kind == "content_block_delta" and isinstance(index, int) and index in self._blocks:
            return self._blocks[index].take(mapping(event.get("delta")))
        elif kind == "message_delta":
            self._message |= _known(event.get("delta"))
            # Changes that the provider made to the conversation are reported beside both.
            beside = {name: value for name, value in event.items() if name not in _OF_DELTA}
            self._message |= _known(beside)
            # Counts are totals so far, and replace earlier ones; null means that the count is not
            # repeated.
            usage = mapping(self._message.get("usage"))
            self._message["usage"] = {**usage, **_known(event.get("usage"))}
        elif kind == "message_stop":
            # Bedrock reports here how long it took, and what a guardrail did.
            told = {name: value for name, value in event.items() if name != "type"}
            self._message = _known(told) | self._message
        elif kind == "error":
            raise from_event(event)
        return ""

    def body(self) -> dict[str, object]:
        """Join what has arrived; see Assembly."""
        if not self._message and not self._blocks:
            return {}
        return {**self._message, "content": [block.body() for block in self._blocks.values()]}


class _Block:
    """One block of the content, as far as it has arrived."""

    def __init__(self, start: Mapping[str, object]) -> None:
        self._start = start
        self._pieces: dict[str, GrowingText] = {}
        self._citations: list[object] = []
        self._more: dict[str, object] = {}  # fields of unknown kinds
        self._signature: object = None

    @property
    def begun(self) -> bool:
        """True if the block has more than an empty text or thought."""
        empty = self._start.get("type") in ("text", "thinking") and not self.text
        return not empty or bool(self._pieces or self._more) or self._signature is not None

    @property
    def text(self) -> str:
        """The text that the block began with."""
        text = self._start.get("text")
        return text if isinstance(text, str) and self._start.get("type") == "text" else ""

    def take(self, delta: Mapping[str, object]) -> str:
        """Add one delta; returns its text."""
        kind = delta.get("type")
        if kind == "signature_delta":
            self._signature = delta.get("signature")
        elif kind == "citations_delta":
            self._citations.append(delta.get("citation"))
        elif kind not in _GROWING and delta.keys() - {"type"}:
            self._grow(delta)
        field = _GROWING.get(kind)
        piece = delta.get(field) if field else None
        if field is None or not isinstance(piece, str):
            return ""
        if field not in self._pieces:
            self._pieces[field] = GrowingText()
        self._pieces[field].append(piece)
        return piece if field == "text" else ""

    def _grow(self, delta: Mapping[str, object]) -> None:
        """Add a delta of an unknown kind.

        In a block of an unknown kind, the delta has the block's fields, as "compaction_delta" has.
        In any other block it is kept under its own kind.
        """
        kind = delta.get("type")
        said = {name: value for name, value in delta.items() if name != "type"}
        if self._start.get("type") in _KNOWN_BLOCKS:
            grow(self._more, str(kind), said)
            return
        for name, value in said.items():
            grow(self._more, name, value, joins=True)

    def body(self) -> dict[str, object]:
        """Join the block as far as it has arrived."""
        block = dict(self._start)
        for field in ("text", "thinking"):
            if field in self._pieces:
                block[field] = str(block.get(field) or "") + self._pieces[field].text()
        if "partial_json" in self._pieces:
            block["input"] = _input(self._pieces["partial_json"].text())
        if self._signature is not None:
            block["signature"] = self._signature
        if self._citations:
            began = block.get("citations")
            block["citations"] = [*(began if isinstance(began, list) else ()), *self._citations]
        for name, value in self._more.items():
            began = block.get(name)
            both = isinstance(began, str) and isinstance(value, str)
            block[name] = f"{began}{value}" if both else value
        return block


def _input(text: str) -> object:
    """Parse a tool's arguments: an object, or the raw text if it isn't one."""
    if not text:
        return {}
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else text


def _known(value: object) -> dict[str, object]:
    return {name: item for name, item in mapping(value).items() if item is not None}
