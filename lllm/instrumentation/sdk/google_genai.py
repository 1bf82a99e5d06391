"""Patches the client of google-genai, so that its calls are recorded.

The SDK has no hooks. All of its calls, sync and async, go through `_request` and `_async_request`
of one object, and each attempt through `_request_once` and `_async_request_once`, whatever HTTP
library carries it (httpx, httpx2, aiohttp, requests). These four methods are replaced.
When the SDK calls functions by itself, it makes several calls; each of them is recorded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Protocol, cast
from urllib.parse import urlsplit

from lllm.instrumentation.captured_call import Call
from lllm.instrumentation.client_endpoint import ClientEndpoint
from lllm.instrumentation.recording_errors import isolate_recording_errors
from lllm.instrumentation.sdk.body_tee import AsyncCopying, Copying
from lllm.instrumentation.sdk.hooks import (
    AsyncListener,
    Listener,
    SyncListener,
    async_on_end,
    on_chunk,
    on_end,
    under_way,
)
from lllm.instrumentation.sdk.recorded_responses import async_response_of, response_of
from lllm.instrumentation.session_resolver import ClientFamily
from lllm.instrumentation.streamed_answers import Head
from lllm.pricing.genai_prices import make_ready_aside

SDK = "google-genai"
_MODULE = "google.genai."
_NEEDED = ("_request", "_async_request", "_request_once", "_async_request_once", "_http_options")


class _HttpRequest(Protocol):
    """The interface of the SDK's HTTP requests."""

    method: str
    url: str
    headers: Mapping[str, str]
    data: object


class _HttpResponse(Protocol):
    """The interface of the SDK's HTTP answers, whose body is a list of texts or a stream."""

    headers: Mapping[str, str]
    response_stream: object
    segments: Callable[[], Iterator[object]]
    async_segments: Callable[[], AsyncIterator[object]]


class _Asked:
    """The SDK's request in the form that a Listener reads."""

    def __init__(self, request: _HttpRequest) -> None:
        self.request = request
        self.method = request.method
        self.url = urlsplit(request.url).path
        self.json_data: object = None


class _Got:
    """An HTTP answer of the SDK in the form that a Call reads."""

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.status_code = status
        # The body is not compressed any more.
        lower = {name.lower(): value for name, value in headers.items()}
        self.headers = {name: one for name, one in lower.items() if name != "content-encoding"}
        self.content = content


def is_client(thing: object) -> bool:
    """True if an object sends the requests of google-genai."""
    ours = any(kind.__module__.startswith(_MODULE) for kind in type(thing).__mro__)
    return ours and all(hasattr(thing, name) for name in _NEEDED)


def client_of(thing: object) -> object | None:
    """Find the object that sends the requests of a Client, or of a part of it such as `aio`."""
    if is_client(thing):
        return thing
    if not any(kind.__module__.startswith(_MODULE) for kind in type(thing).__mro__):
        return None
    inside = getattr(thing, "_api_client", None)
    return inside if is_client(inside) else None


def attach(client: object, family: ClientFamily) -> Listener:
    """Record the calls of a client.

    Args:
        client: The object that sends its requests.
        family: Where and how the calls are recorded.

    Returns:
        The listener, which restores the client's methods.
    """
    listener = _Sync(client, family, _nothing, is_copy=False)
    awaiting = _Async(client, family, _nothing, is_copy=False)
    listener.replace("_request", listener.of_calls)
    listener.replace("_async_request", awaiting.of_calls)
    listener.replace("_request_once", listener.of_attempts)
    listener.replace("_async_request_once", awaiting.of_attempts)
    return listener


def _nothing(_: Listener) -> None:
    """Do nothing: attempts are seen above the HTTP library."""


class _OfGoogle(Listener):
    """What is special about google-genai's client."""

    sdk = SDK

    def _endpoint(self, provider: str | None) -> ClientEndpoint:
        options = self.client._http_options  # type: ignore[attr-defined] # see is_client
        found = [provider, options.base_url, getattr(self.client, "api_key", None)]
        if self._known is None or self._known[0] != found:
            endpoint = ClientEndpoint.of("google", *found[1:], provider=provider)
            self._known = (found, endpoint)
        return self._known[1]

    def _library_request(self, asked: _HttpRequest) -> object:
        """Make the request of the HTTP library, which a recorded response belongs to."""
        http = self.client._httpx_client  # type: ignore[attr-defined] # see is_client
        return http.build_request(asked.method, asked.url, content=_content(asked))


class _Sync(_OfGoogle, SyncListener):
    """Records the synchronous calls of a client."""

    def of_calls(self, original: Callable[..., object]) -> Callable[..., object]:
        """Make the replacement for `_request`."""

        def asked(_: object, options: _Asked, **how: object) -> object:
            return original(options.request, how["http_options"], how["stream"])

        request = self.of_request(asked)

        def captured(
            http_request: _HttpRequest, http_options: object = None, stream: bool = False
        ) -> object:
            return request(None, _Asked(http_request), http_options=http_options, stream=stream)

        return captured

    def of_attempts(self, original: Callable[..., _HttpResponse]) -> Callable[..., object]:
        """Make the replacement for `_request_once`."""

        def captured(http_request: _HttpRequest, stream: bool = False) -> object:
            call = under_way.get()
            if call is None:
                return original(http_request, stream)
            with isolate_recording_errors(call.session, inside=True):
                _requested(call, http_request)
                call.session.recorder.commit()
                call.sent()
            try:
                if call.is_replayed:
                    got = self._replayed(call, http_request, stream=stream)
                else:
                    got = original(http_request, stream)
            except BaseException as error:
                with isolate_recording_errors(failing=True):
                    _failed(call, error)
                    call.session.recorder.commit_after(error)
                raise
            with isolate_recording_errors(call.session, inside=True):
                if stream:
                    _copy(call, got)
                elif not _received(call, got):
                    call.session.recorder.commit()
            return got

        return captured

    def _replayed(self, call: Call, asked: _HttpRequest, *, stream: bool) -> _HttpResponse:
        response = response_of(call.recorded, self._library_request(asked), streams=stream)
        library = sys.modules[type(asked).__module__]
        library.errors.APIError.raise_for_response(response)
        body = response if stream else [response.text]  # type: ignore[attr-defined] # httpx's
        return cast("_HttpResponse", library.HttpResponse(response.headers, body))  # type: ignore[attr-defined] # as above


class _Async(_OfGoogle, AsyncListener):
    """Records the asynchronous calls of a client."""

    def of_calls(self, original: Callable[..., Awaitable[object]]) -> Callable[..., object]:
        """Make the replacement for `_async_request`."""

        async def asked(_: object, options: _Asked, **how: object) -> object:
            return await original(options.request, how["http_options"], how["stream"])

        request = self.of_request(asked)

        async def captured(
            http_request: _HttpRequest, http_options: object = None, stream: bool = False
        ) -> object:
            made = request(None, _Asked(http_request), http_options=http_options, stream=stream)
            return await cast("Awaitable[object]", made)

        return captured

    def of_attempts(
        self, original: Callable[..., Awaitable[_HttpResponse]]
    ) -> Callable[..., object]:
        """Make the replacement for `_async_request_once`."""

        async def captured(
            http_request: _HttpRequest, stream: bool = False, **how: object
        ) -> object:
            call = under_way.get()
            if call is None:
                return await original(http_request, stream, **how)
            with isolate_recording_errors(call.session, inside=True):
                _requested(call, http_request)
                make_ready_aside()
                await call.session.recorder.acommit()
                call.sent()
            try:
                if call.is_replayed:
                    got = await self._replayed(call, http_request, stream=stream)
                else:
                    got = await original(http_request, stream, **how)
            except BaseException as error:
                with isolate_recording_errors(failing=True):
                    _failed(call, error)
                    await call.session.recorder.acommit_after(error)
                raise
            with isolate_recording_errors(call.session, inside=True):
                if stream:
                    _async_copy(call, got)
                elif not _received(call, got):
                    await call.session.recorder.acommit()
            return got

        return captured

    async def _replayed(self, call: Call, asked: _HttpRequest, *, stream: bool) -> _HttpResponse:
        request = self._library_request(asked)
        response = await async_response_of(call.recorded, request, streams=stream)
        library = sys.modules[type(asked).__module__]
        await library.errors.APIError.raise_for_async_response(response)
        body = response if stream else [response.text]  # type: ignore[attr-defined] # httpx's
        return cast("_HttpResponse", library.HttpResponse(response.headers, body))  # type: ignore[attr-defined] # as above


def _requested(call: Call, asked: _HttpRequest) -> None:
    call.requested(_content(asked), asked.headers, urlsplit(asked.url).path)


def _content(asked: _HttpRequest) -> bytes:
    """The body as bytes; without spaces, so that later bodies can be compared with it."""
    if isinstance(asked.data, bytes):
        return asked.data
    return json.dumps(asked.data or {}, separators=(",", ":")).encode()


def _received(call: Call, got: _HttpResponse) -> bool:
    """Record a whole answer; True if the call's own session ends with it."""
    texts = got.response_stream if isinstance(got.response_stream, list) else []
    call.received(_Got(200, got.headers, "".join(map(str, texts)).encode()))
    return call.ends_now(200)


def _failed(call: Call, error: BaseException) -> None:
    """Record an attempt that raised; the SDK's APIError has the answer of the provider."""
    code, told = getattr(error, "code", None), getattr(error, "details", None)
    if isinstance(code, int) and any(kind.__name__ == "APIError" for kind in type(error).__mro__):
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        call.received(_Got(code, headers, json.dumps(told).encode()))
    else:
        call.failed(error)


# -- streams


class _Pieces:
    """The chunks of an answer as bytes; `last` is the one that came last, as the SDK gives it."""

    def __init__(self, segments: Callable[[], Iterator[object]]) -> None:
        self._segments = segments
        self.last: object = None

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._segments():
            self.last = chunk
            yield _event(chunk)

    def close(self) -> None:
        """Do nothing: the SDK closes the connection."""


class _AsyncPieces:
    """The chunks of an answer as bytes, on an event loop; see _Pieces."""

    def __init__(self, segments: Callable[[], AsyncIterator[object]]) -> None:
        self._chunks = aiter(segments())
        self.last: object = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.last = await anext(self._chunks)
        return _event(self.last)

    async def aclose(self) -> None:
        """Do nothing: the SDK closes the connection."""


class _AsyncChunks:
    """The chunks of an answer as the SDK gives them, while they are copied."""

    def __init__(self, pieces: _AsyncPieces, copying: AsyncCopying) -> None:
        self._pieces = pieces
        self._copied = aiter(copying)

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        await anext(self._copied)
        return self._pieces.last


def _event(chunk: object) -> bytes:
    return b"data: %s\n\n" % json.dumps(chunk).encode()


def _copy(call: Call, got: _HttpResponse) -> None:
    """Copy the chunks of a stream while the caller reads them."""
    call.opened(Head(_Got(200, got.headers, b"")))
    original = got.segments

    def segments() -> Iterator[object]:
        pieces = _Pieces(original)
        copying = Copying(pieces, on_chunk(call), on_end(call))
        try:
            for _ in copying:
                yield pieces.last
        finally:
            copying.close()

    got.segments = segments


def _async_copy(call: Call, got: _HttpResponse) -> None:
    """Copy the chunks of a stream while the caller reads them on an event loop."""
    call.opened(Head(_Got(200, got.headers, b"")))
    original = got.async_segments

    def segments() -> AsyncIterator[object]:
        pieces = _AsyncPieces(original)
        copying = AsyncCopying(pieces, on_chunk(call), async_on_end(call), on_end(call))
        return _AsyncChunks(pieces, copying)

    got.async_segments = segments
