"""Answers an SDK's attempt from the log, with a response of its own HTTP library.

Nothing is sent. The SDK parses the response like any other, so its results and errors have its own
types.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, cast

from lllm.events.errors import ReplayError
from lllm.instrumentation.recording_errors import RecorderAbort
from lllm.instrumentation.sdk.body_tee import of_library

if TYPE_CHECKING:
    from types import ModuleType

    from lllm.replay.active_replay import AnsweredAttempt
    from lllm.replay.wire.http_answer import HttpAnswer


class _Library(Protocol):
    """The part of httpx or httpx2 that is used here."""

    Response: type


class RecordedBody:
    """The body of a recorded answer.

    Args:
        http: The recorded answer.
        library: The SDK's HTTP library, one of whose errors ends a broken body.
    """

    def __init__(self, http: HttpAnswer, library: ModuleType) -> None:
        self._http = http
        self._library = library

    def __iter__(self) -> Iterator[bytes]:
        yield from self._http.body()
        if self._http.broken is not None:
            raise transport_error(self._http, self._library)

    def close(self) -> None:
        """Do nothing: there is no connection."""


class AsyncRecordedBody:
    """The body of a recorded answer, for an event loop.

    Args:
        http: The recorded answer.
        library: The SDK's HTTP library, one of whose errors ends a broken body.
    """

    def __init__(self, http: HttpAnswer, library: ModuleType) -> None:
        self._pieces = iter(RecordedBody(http, library))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await asyncio.sleep(0)  # let other tasks run between two pieces, as in a real call
        try:
            return next(self._pieces)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


def response_of(answered: AnsweredAttempt | None, request: object, *, streams: bool) -> object:
    """Make the response of a recorded attempt.

    Args:
        answered: The recorded attempt; None if its request could not be read.
        request: The request that the SDK is about to send.
        streams: True if the SDK reads the body itself.

    Returns:
        A response of the SDK's HTTP library, httpx or httpx2.

    Raises:
        Exception: The HTTP library's error that was recorded for the attempt.
        RecorderAbort: The log does not have enough to answer the attempt.
    """
    kind, wanted = RecordedBody, "SyncByteStream"
    return _response(answered, request, kind if streams else None, wanted)


async def async_response_of(
    answered: AnsweredAttempt | None, request: object, *, streams: bool
) -> object:
    """Make the response of a recorded attempt on an event loop.

    answered: The recorded attempt; None if its request could not be read.
    request: The request that the SDK is about to send.
    streams: True if the SDK reads the body itself.

    Returns:
        A response of the SDK's HTTP library, httpx or httpx2.

    Raises:
        Exception: The HTTP library's error that was recorded for the attempt.
        RecorderAbort: The log does not have enough to answer the attempt.
        CancelledError: The recorded call was cancelled; this one is, too, after the same time.
    """
    if answered is not None and answered.until_cancelled is not None:
        await asyncio.sleep(answered.until_cancelled / 1_000_000_000)
        raise asyncio.CancelledError
    kind, wanted = AsyncRecordedBody, "AsyncByteStream"
    return _response(answered, request, kind if streams else None, wanted)


def _response(
    answered: AnsweredAttempt | None, request: object, kind: type | None, wanted: str
) -> object:
    if answered is None:
        raise RecorderAbort(
            ReplayError(
                "The log does not have enough to answer this call, and a replay sends nothing."
            )
        )
    library = sys.modules[type(request).__module__.partition(".")[0]]
    http = answered.http
    if not http.status:
        raise transport_error(http, library)
    make = cast("_Library", library).Response
    if kind is None:
        content = b"".join(http.body())
        response = make(http.status, headers=http.headers, content=content, request=request)
    else:
        body = of_library(kind, make, wanted)(http, library)
        response = make(http.status, headers=http.headers, stream=body, request=request)
    response.elapsed = timedelta(microseconds=answered.end.elapsed // 1000)
    return response


def transport_error(http: HttpAnswer, library: ModuleType) -> Exception:
    """Make the HTTP library's error that was recorded for an attempt.

    Args:
        http: The recorded answer, which names the error.
        library: The SDK's HTTP library, httpx or httpx2.

    Returns:
        The error; a network error if the library does not know the recorded one.
    """
    broken = http.broken
    name, message = ("ReadError", "") if broken is None else (broken.kind, broken.message)
    base: type[Exception] = library.TransportError
    kind = getattr(library, name, None)
    if not (isinstance(kind, type) and issubclass(kind, base)):
        kind = library.ReadError
    return cast("Exception", kind(message))
