"""Reads LiteLLM's answers, whole or streamed, which have the form of Chat Completions.

Values that LiteLLM invents are ignored: a usage of zeros or estimates if the provider sent none, a
price of its own in the usage of a stream, and the claim that an interrupted answer was complete.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol, cast

from msgspec.structs import replace

from lllm.events.errors import InvokeError
from lllm.invokers import Answer, Request
from lllm.invokers.dialects.chat_completions import answer
from lllm.invokers.dialects.chat_completions_stream import ChatStream
from lllm.invokers.http.errors import request_id, with_use
from lllm.invokers.http.secrets import Secrets
from lllm.invokers.litellm.library import Library


class _Model(Protocol):
    """LiteLLM's answer, a pydantic model; lllm relies on none of its fields."""

    def model_dump_json(self, *, warnings: bool) -> str: ...


def read(response: object, asked: Request, secrets: Secrets) -> Answer:
    """Read the Answer from a response of LiteLLM.

    Args:
        response: The object that LiteLLM returned.
        asked: The request that was sent.
        secrets: The secrets to remove from all texts.

    Returns:
        The answer in lllm's terms.

    Raises:
        InvokeError: The response has no answer.
    """
    return _answer(_json_of(response, secrets), asked, response, secrets)


def _answer(body: object, asked: Request, source: object, secrets: Secrets) -> Answer:
    found = answer(body, model=asked.model, request_id=_request_id(source, secrets))
    counts = _mapping(found.usage_raw)
    said = found.content.parts or found.content.tool_calls
    # LiteLLM fills in zeros for missing counts, but no call has an empty prompt.
    if not counts.get("prompt_tokens") or (said and not counts.get("completion_tokens")):
        found = replace(found, usage=None)
    if _kept_beside(source).get("cache_hit") is True:
        found = replace(found, free="served from litellm's cache")
    return found


def _json_of(model: object, secrets: Secrets) -> object:
    return json.loads(secrets.cut(cast(_Model, model).model_dump_json(warnings=False)))


def _kept_beside(source: object) -> Mapping[str, object]:
    """Read what LiteLLM stores beside an answer: headers, cache hits, the provider."""
    return _mapping(getattr(source, "_hidden_params", None))


def _request_id(source: object, secrets: Secrets) -> str | None:
    headers = _mapping(_kept_beside(source).get("additional_headers"))
    mark = "llm_provider-"  # the prefix that LiteLLM gives to the provider's own headers
    found = {name.removeprefix(mark): str(value) for name, value in headers.items()}
    return request_id(found, secrets)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


class LiteLLMStream:
    """Joins the chunks of a streamed answer of LiteLLM.

    Args:
        asked: The request that was sent.
        loaded: The LiteLLM package.
        secrets: The secrets to remove from all texts.

    Attributes:
        asked: The request that was sent.
        library: The LiteLLM package.
        source: LiteLLM's stream; None until it is opened.
    """

    def __init__(self, asked: Request, loaded: Library, secrets: Secrets) -> None:
        self.asked = asked
        self.library = loaded
        self.source: object = None
        self._secrets = secrets
        self._assembly = ChatStream()
        self._began = time.perf_counter_ns()
        self._first: int | None = None
        self._model: object = None

    def take(self, chunk: object) -> str:
        """Add a chunk of LiteLLM's stream, and return its text."""
        event = _mapping(_json_of(chunk, self._secrets))
        # A chunk names the requested model; the last one names no other, not even in its hidden
        # fields.
        self._model = _kept_beside(chunk).get("provider_response_model") or self._model
        text = self._assembly.take({**event, "model": self._model} if self._model else event)
        if self._first is None and self._assembly.begun:
            self._first = time.perf_counter_ns() - self._began
        return text

    @property
    def ended(self) -> bool:
        """True if the provider has sent the reason why the model stopped.

        Without one, LiteLLM invents a last chunk with "stop".
        """
        names = ("received_finish_reason", "intermittent_finish_reason")
        return any(getattr(self.source, name, None) is not None for name in names)

    def answer(self) -> Answer:
        """Join all chunks. Raises InvokeError if there is no answer in them."""
        body = self._assembly.body() | {"usage": self._usage()}
        # a secret may have arrived in two pieces
        whole = json.loads(self._secrets.cut(json.dumps(body)))
        found = _answer(whole, self.asked, self.source, self._secrets)
        return replace(found, first_token=self._first)

    def cut_off(self, failure: InvokeError) -> InvokeError:
        """Add the partial answer to a failure.

        Args:
            failure: The error, which is changed.

        Returns:
            The same error.
        """
        failure.request_id = failure.request_id or _request_id(self.source, self._secrets)
        if self._assembly.body():
            with suppress(InvokeError):  # there is no message yet
                came = self.answer()
                failure.partial = came.content if self._assembly.begun else None
                with_use(failure, came)
            failure.unfinished = not self.ended
        return failure

    def _usage(self) -> object:
        """Find the provider's usage in the stream.

        The usage in the last chunk is not used: LiteLLM may have estimated it and added a price.
        """
        chunks = list(getattr(self.source, "chunks", ()))
        if all(getattr(chunk, "usage", None) is None for chunk in chunks):
            return None
        with suppress(Exception):  # LiteLLM may fail here, but the answer is complete
            whole = self.library.stream_chunk_builder(chunks=chunks)
            return _json_of(getattr(whole, "usage", None), self._secrets)
        return None

    def close(self) -> None:
        """Close the connection of an unfinished answer."""
        for stream in self._streams():
            close = getattr(stream, "close", None)
            with suppress(Exception):  # the connection is not needed any more
                if callable(close):
                    close()

    async def aclose(self) -> None:
        """Close the connection of an unfinished answer on an event loop."""
        for stream in self._streams():
            close = getattr(stream, "aclose", None) or getattr(stream, "close", None)
            with suppress(Exception):  # the connection is not needed any more
                closing = close() if callable(close) else None
                if inspect.isawaitable(closing):
                    await closing

    def _streams(self) -> tuple[object, ...]:
        # LiteLLM's own aclose() does not close the streams that some providers' answers read from.
        inner = getattr(self.source, "completion_stream", None)
        return getattr(inner, "streaming_response", None), inner
