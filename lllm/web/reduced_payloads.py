"""Leaves out of the payloads of a session what its page does not show, and shares what repeats.

The page of a long session keeps every step in memory, so that each can be unfolded. Names of models
and agents, price lists and rates stand in each event again.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from lllm.events.model import (
    AgentStarted,
    Content,
    Error,
    Event,
    LLMFailed,
    LLMRequested,
    LLMResponded,
    MessageAdded,
    Price,
    ToolCalled,
    ToolReturned,
)

_Text = TypeVar("_Text", str, str | None)
_SHORT = 2_000  # characters; longer texts are seldom the same


class ReducedPayloads:
    """Reduces the payloads of one session."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._rates: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}

    def of(self, payload: Event) -> Event:
        """Reduce a payload.

        Args:
            payload: Any payload; it is not changed.

        Returns:
            The payload without what the page does not show.
        """
        replace, shared = msgspec.structs.replace, self._shared
        match payload:
            case LLMRequested():
                return replace(
                    payload, provider=shared(payload.provider), model=shared(payload.model),
                    api="", host=None, region=None, definition=None, params=None, digest="",
                    traceparent=None,
                )  # fmt: skip
            case LLMResponded():
                return replace(
                    payload, content=self._content(payload.content), asked="", usage_raw=None,
                    finish=shared(payload.finish), model=shared(payload.model),
                    price=self._price(payload.price),
                )  # fmt: skip
            case LLMFailed():
                price = None if payload.price is None else self._price(payload.price)
                return replace(
                    payload, error=self._error(payload.error), price=price, usage_raw=None
                )
            case MessageAdded():
                return replace(payload, content=self._content(payload.content))
            case ToolReturned():
                return replace(payload, content=self._content(payload.content), value=None)
            case AgentStarted():
                definition = shared(payload.definition)
                return replace(payload, agent=shared(payload.agent), definition=definition)
            case ToolCalled():
                return replace(payload, name=shared(payload.name))
        return payload

    def _content(self, content: Content) -> Content:
        parts = tuple(
            msgspec.structs.replace(
                part, kind=self._shared(part.kind), text=self._shared(part.text)
            )
            for part in content.parts
        )
        return msgspec.structs.replace(content, role=self._shared(content.role), parts=parts)

    def _error(self, error: Error) -> Error:
        return msgspec.structs.replace(
            error, type=self._shared(error.type), message=self._shared(error.message),
            code=self._shared(error.code), traceback=self._shared(error.traceback),
        )  # fmt: skip

    def _price(self, price: Price) -> Price:
        shared = self._shared
        return msgspec.structs.replace(
            price, source=shared(price.source), source_version=shared(price.source_version),
            effective=shared(price.effective), reason=shared(price.reason),
            rates=self._rates.setdefault(tuple(price.rates.items()), price.rates),
        )  # fmt: skip

    def _shared(self, text: _Text) -> _Text:
        """Return the one copy of a text that several payloads have."""
        if text is None or len(text) > _SHORT:
            return text
        return self._texts.setdefault(text, text)
