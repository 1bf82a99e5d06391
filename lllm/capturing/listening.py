"""What happens around a call of an SDK, and around each of its attempts.

The caller must notice nothing: what goes wrong here is logged, and only a spent budget, or a log
that can't be written and was told to say so, stops a call.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from operator import is_not
from typing import Protocol

from lllm.capturing.bodies import AsyncCopying, Copied, Copying, of_library
from lllm.capturing.calls import Call
from lllm.capturing.homes import Homes
from lllm.capturing.operations import CHAT, operation_of
from lllm.events.errors import BudgetExceeded, LogError
from lllm.invokers.access import Access, access
from lllm.invokers.exchange import Read
from lllm.invokers.failures import Secrets
from lllm.price_data import make_ready_aside
from lllm.session import during

_logger = logging.getLogger("lllm.invoker")

# The call that the SDK is making just now, for the attempts that it sends.
_under_way: ContextVar[Call | None] = ContextVar("lllm_captured_call", default=None)


class _Options(Protocol):
    """What an SDK is asked to call."""

    method: str
    url: str
    json_data: object


class _Request(Protocol):
    """What is sent, as httpx has it."""

    def read(self) -> bytes: ...


class _Response(Protocol):
    """What comes back, as httpx has it."""

    stream: object

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> bytes: ...
    def read(self) -> bytes: ...
    async def aread(self) -> bytes: ...


class _Stop(BaseException):
    """Carries an error of ours out of an SDK, which would take an Exception for its own."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Listener:
    """What stands between one client's caller and its SDK."""

    def __init__(self, client: object, homes: Homes, *, ask_for_usage: bool) -> None:
        self._client = client
        self._sdk = type(client).__module__.partition(".")[0]
        self._homes = homes
        self._ask_for_usage = ask_for_usage
        self._known: tuple[list[object], Access, Secrets] | None = None

    def of_request(self, original: Callable[..., object]) -> Callable[..., object]:
        """What takes the place of the SDK's `request`."""
        raise NotImplementedError

    def of_send(self, original: Callable[..., object]) -> Callable[..., object]:
        """What takes the place of `send` of its httpx client."""
        raise NotImplementedError

    def begun(self, options: _Options) -> Call | None:
        """The call that the SDK is asked for; None for one that is not recorded."""
        operation = operation_of(options.method, options.url)
        if operation is None:
            return None
        session, alone = self._homes.session_of(f"{self._sdk}.{operation.name}")
        if session is None:
            return None
        if self._ask_for_usage and operation.dialect is CHAT:
            _ask_for_usage(options)
        goes, secrets = self._site()
        if alone:
            session.begin_apart(secrets.cut_error)
        return Call(session, operation, goes, secrets, alone=alone)

    def _site(self) -> tuple[Access, Secrets]:
        """Where the calls go, and what they take along that must not be told."""
        names = ("base_url", "api_key", "auth_token")
        found = [getattr(self._client, name, None) for name in names]
        if self._known is None or any(map(is_not, self._known[0], found)):
            sdk = self._sdk.upper()
            goes = access(
                str(found[0]), api_key=None, timeout=0.0,
                key_env=f"{sdk}_API_KEY", headers_env=f"{sdk}_CUSTOM_HEADERS",
            )  # fmt: skip
            keys = [key for key in found[1:] if isinstance(key, str)]
            self._known = (found, goes, goes.secrets(*keys))
        return self._known[1], self._known[2]


class SyncListener(Listener):
    """For clients whose calls wait."""

    def of_request(self, original: Callable[..., object]) -> Callable[..., object]:
        @wraps(original)
        def request(cast_to: object, options: _Options, **how: object) -> object:
            call = None
            with _unnoticed():
                call = self.begun(options)
            if call is None:
                return original(cast_to, options, **how)
            try:
                with during(_under_way, call):
                    returned = original(cast_to, options, **how)
            except _Stop as stop:
                call.leave(stop.error)
                raise stop.error from None
            except BaseException as error:
                call.leave(error)
                raise
            if not call.streaming:
                call.leave(None)
            return returned

        return request

    def of_send(self, original: Callable[..., object]) -> Callable[..., object]:
        @wraps(original)
        def send(request: _Request, **how: object) -> object:
            call = _under_way.get()
            if call is None:
                return original(request, **how)
            with _unnoticed(stops=True):
                call.requested(request.read())
                call.session.recorder.commit()
                call.sent()
            try:
                response: _Response = original(request, **how)  # type: ignore[assignment] # httpx's
            except BaseException as error:
                call.failed(error)
                call.session.recorder.commit_after(error)
                raise
            with _unnoticed(stops=True):
                self._received(call, response, streams=how.get("stream") is True)
            return response

        return send

    def _received(self, call: Call, response: _Response, *, streams: bool) -> None:
        if streams and response.status_code >= 400:
            response.read()
        elif streams:
            call.streaming = True
            kind = of_library(Copying, type(response), "SyncByteStream")

            def ended(copied: Copied, error: BaseException | None) -> None:
                with _unnoticed():
                    call.leave(_read(call, response, copied, error))

            response.stream = kind(response.stream, ended)
            return
        call.received(response)
        if not call.ends_now(response.status_code):
            call.session.recorder.commit()


class AsyncListener(Listener):
    """For clients that are awaited."""

    def of_request(self, original: Callable[..., object]) -> Callable[..., object]:
        awaited: Callable[..., Awaitable[object]] = original  # type: ignore[assignment] # see listen

        @wraps(original)
        async def request(cast_to: object, options: _Options, **how: object) -> object:
            call = None
            with _unnoticed():
                call = self.begun(options)
            if call is None:
                return await awaited(cast_to, options, **how)
            try:
                with during(_under_way, call):
                    returned = await awaited(cast_to, options, **how)
            except _Stop as stop:
                await call.aleave(stop.error)
                raise stop.error from None
            except BaseException as error:
                await call.aleave(error)
                raise
            if not call.streaming:
                await call.aleave(None)
            return returned

        return request

    def of_send(self, original: Callable[..., object]) -> Callable[..., object]:
        awaited: Callable[..., Awaitable[_Response]] = original  # type: ignore[assignment] # as above

        @wraps(original)
        async def send(request: _Request, **how: object) -> object:
            call = _under_way.get()
            if call is None:
                return await awaited(request, **how)
            with _unnoticed(stops=True):
                call.requested(request.read())
                make_ready_aside()
                await call.session.recorder.acommit()
                call.sent()
            try:
                response = await awaited(request, **how)
            except BaseException as error:
                call.failed(error)
                await call.session.recorder.acommit_after(error)
                raise
            with _unnoticed(stops=True):
                await self._received(call, response, streams=how.get("stream") is True)
            return response

        return send

    async def _received(self, call: Call, response: _Response, *, streams: bool) -> None:
        if streams and response.status_code >= 400:
            await response.aread()
        elif streams:
            call.streaming = True
            kind = of_library(AsyncCopying, type(response), "AsyncByteStream")

            async def ended(copied: Copied, error: BaseException | None) -> None:
                with _unnoticed():
                    await call.aleave(_read(call, response, copied, error))

            response.stream = kind(response.stream, ended)
            return
        call.received(response)
        if not call.ends_now(response.status_code):
            await call.session.recorder.acommit()


def _read(
    call: Call, response: _Response, copied: Copied, error: BaseException | None
) -> BaseException | None:
    """Stage what a body said that is over; returns what the call failed with."""
    chunks = copied.decoded(response)
    if "text/event-stream" in response.headers.get("content-type", ""):
        return call.streamed(response, chunks, error)
    if error is not None:
        call.failed(error)
        return error
    return call.received(Read(response, (chunk for _, chunk in chunks)))


def _ask_for_usage(options: _Options) -> None:
    """Have a stream of Chat Completions say what it used, where the caller did not decide it."""
    body = options.json_data
    if isinstance(body, dict) and body.get("stream") is True and "stream_options" not in body:
        options.json_data = body | {"stream_options": {"include_usage": True}}


@contextmanager
def _unnoticed(*, stops: bool = False) -> Iterator[None]:
    """Keep from the caller what goes wrong in recording.

    stops: whether the SDK is around this, which must not take our errors for the network's.
    """
    try:
        yield
    except (BudgetExceeded, LogError) as error:
        if stops:
            raise _Stop(error) from None
        raise
    except Exception as error:
        _logger.error("a captured call could not be recorded", exc_info=True)
        warnings.warn(
            f"A captured call could not be recorded: {type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=4,
        )
