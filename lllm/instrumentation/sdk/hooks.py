"""Hooks around each call of an SDK and each of its attempts, to record them.

The caller notices nothing: errors of the recording are logged. Only a spent budget stops a call, or
a log that can't be written if the store was opened with `on_error="raise"`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import wraps
from operator import is_not
from typing import Protocol

from lllm.instrumentation.captured_call import Call, is_answer
from lllm.instrumentation.client_endpoint import ClientEndpoint
from lllm.instrumentation.legacy_completions import COMPLETIONS
from lllm.instrumentation.recorded_endpoints import operation_of, unrecorded
from lllm.instrumentation.recording_errors import RecorderAbort, isolate_recording_errors
from lllm.instrumentation.request_bodies import asking_for_usage
from lllm.instrumentation.sdk.abandoned_streams import BodyEnded
from lllm.instrumentation.sdk.body_tee import AsyncCopying, AsyncEnded, Broken, Copying, of_library
from lllm.instrumentation.sdk.recorded_responses import async_response_of, response_of
from lllm.instrumentation.session_resolver import ClientFamily, Recording
from lllm.instrumentation.streamed_answers import Head
from lllm.invokers.dialects.catalog import CHAT
from lllm.invokers.sdk.exchange import Read, Whole
from lllm.pricing.genai_prices import make_ready_aside
from lllm.replay.active_replay import above_of
from lllm.sessions.context_values import during
from lllm.sessions.current_session import running_session
from lllm.sessions.unfinished_calls import exiting

# The SDK's current call, for the attempts that it sends.
under_way: ContextVar[Call | None] = ContextVar("lllm_captured_call", default=None)


# The attributes in which clients of the various platforms keep their URL and credentials.
_OF_ENDPOINT = (
    "base_url", "api_key", "auth_token", "access_token",
    "aws_access_key", "aws_secret_key", "aws_session_token",
)  # fmt: skip


class RequestOptions(Protocol):
    """The interface of an SDK's request options."""

    method: str
    url: str
    json_data: object


class _Url(Protocol):
    """The interface of httpx's URL."""

    @property
    def raw_path(self) -> bytes: ...


class _Request(Protocol):
    """The interface of httpx's request."""

    @property
    def url(self) -> _Url: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def read(self) -> bytes: ...


class _Response(Protocol):
    """The interface of httpx's response."""

    stream: object
    is_stream_consumed: bool
    is_closed: bool

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> bytes: ...
    def read(self) -> bytes: ...
    async def aread(self) -> bytes: ...


class Listener:
    """Replaces the methods of one client with ones that record.

    Args:
        client: The SDK's client.
        family: The client and its copies, which are recorded in the same way.
        to_http: A function that hooks into the client's current httpx client.
        is_copy: True if another captured client made this one.

    Attributes:
        sdk: The name of the SDK; "" if it is that of the client's package.
    """

    sdk = ""

    def __init__(
        self,
        client: object,
        family: ClientFamily,
        to_http: Callable[[Listener], None],
        *,
        is_copy: bool,
    ) -> None:
        self.client = client
        self.family = family
        self._to_http = to_http
        self.is_copy = is_copy
        self._sdk = self.sdk or type(client).__module__.partition(".")[0]
        self._known: tuple[list[object], ClientEndpoint] | None = None
        # for each method: the replacement, and the original
        self._replaced: dict[str, tuple[object, object]] = {}

    def replace(self, name: str, by: Callable[..., object]) -> None:
        """Replace a method of the client; `by` makes the new one from the old one."""
        before, ours = vars(self.client).get(name), by(getattr(self.client, name))
        self._replaced[name] = ours, before
        setattr(self.client, name, ours)

    def put_back(self) -> bool:
        """Restore the client's original methods.

        Returns:
            True if all were restored; a method that other code has replaced since stays.
        """
        for name, (ours, before) in list(self._replaced.items()):
            if vars(self.client).get(name) is not ours:
                continue
            if before is None:
                delattr(self.client, name)
            else:
                setattr(self.client, name, before)
            del self._replaced[name]
        return not self._replaced

    def of_request(self, original: Callable[..., object]) -> Callable[..., object]:
        """Make the replacement for the SDK's method `request`."""
        raise NotImplementedError

    def of_send(self, original: Callable[..., object]) -> Callable[..., object]:
        """Make the replacement for the method `send` of the client's httpx client."""
        raise NotImplementedError

    def begun(self, options: RequestOptions, recording: Recording) -> Call | None:
        """Start to record a call of the SDK; None if it is not recorded."""
        operation = operation_of(options.method, options.url)
        if operation is None:
            path = unrecorded(options.method, options.url)
            if path is not None:
                recording.resolver.tell_of_unrecorded(self._sdk, path)
            return None
        if exiting():
            return None
        session, alone = recording.resolver.session_of(f"{self._sdk}.{operation.name}")
        if session is None:
            return None
        self._to_http(self)  # some frameworks give a client a new httpx client for each event loop
        if recording.ask_for_usage and operation.dialect in (CHAT, COMPLETIONS):
            options.json_data = asking_for_usage(options.json_data)
        name = f"{self._sdk}.{operation.name}"
        call = Call(session, operation, self._endpoint(recording.provider), name, alone=alone)
        if alone:
            session.begin_apart(call.clean)
        return call

    def refuse_in_replay(self, options: RequestOptions) -> None:
        """Refuse a call that could not have been recorded, in a replay.

        Args:
            options: The SDK's options for the request.

        Raises:
            ReplayDivergence: The call is made in a replay.
        """
        replay = above_of(running_session())
        if replay is not None:
            replay.refuse_captured(f"{self._sdk} {options.method.upper()} {options.url}")

    def _endpoint(self, provider: str | None) -> ClientEndpoint:
        """Read the URL and the credentials that the client has now."""
        found = [provider, *(getattr(self.client, name, None) for name in _OF_ENDPOINT)]
        if self._known is None or any(map(is_not, self._known[0], found)):
            self._known = (found, ClientEndpoint.of(self._sdk, *found[1:], provider=provider))
        return self._known[1]


class SyncListener(Listener):
    """A Listener for synchronous clients."""

    def of_request(self, original: Callable[..., object]) -> Callable[..., object]:
        """Make the replacement for the SDK's method `request`."""

        @wraps(original)
        def request(cast_to: object, options: RequestOptions, **how: object) -> object:
            recording = self.family.recording
            if recording is None:  # the client was released, but other code still has this method
                return original(cast_to, options, **how)
            call = None
            with isolate_recording_errors():
                call = self.begun(options, recording)
            if call is None:
                self.refuse_in_replay(options)
                with during(under_way, None):
                    return original(cast_to, options, **how)
            try:
                with during(under_way, call):
                    returned = original(cast_to, options, **how)
            except RecorderAbort as stop:
                with isolate_recording_errors(failing=True):
                    call.leave(stop.error)
                raise stop.error from None
            except BaseException as error:
                with isolate_recording_errors(failing=True):
                    call.leave(error)
                raise
            if not call.streaming:
                with isolate_recording_errors(call.session):
                    call.leave(None)
            return returned

        return request

    def of_send(self, original: Callable[..., object]) -> Callable[..., object]:
        """Make the replacement for the method `send` of the client's httpx client."""

        @wraps(original)
        def send(request: _Request, **how: object) -> object:
            call = under_way.get()
            if call is None:
                return original(request, **how)
            with isolate_recording_errors(call.session, inside=True):
                call.requested(request.read(), request.headers, _path(request))
                call.session.recorder.commit()
                call.sent()
            try:
                got = (
                    response_of(call.recorded, request, streams=how.get("stream") is True)
                    if call.is_replayed
                    else original(request, **how)
                )
                response: _Response = got  # type: ignore[assignment] # httpx's
            except BaseException as error:
                with isolate_recording_errors(failing=True):
                    call.failed(error)
                    call.session.recorder.commit_after(error)
                raise
            with isolate_recording_errors(call.session, inside=True):
                self._received(call, response, streams=how.get("stream") is True)
            return response

        return send

    def _received(self, call: Call, response: _Response, *, streams: bool) -> None:
        got: Whole = response
        if streams and not is_answer(response.status_code):
            try:
                response.read()
            except Exception as error:
                got = _give_back_unread(response, error, "SyncByteStream")
        elif streams and response.is_stream_consumed:
            _take_body_read_before(call, response)
            on_end(call)(None, whole=True)
            return
        elif streams:
            call.opened(Head(response))
            kind = of_library(Copying, type(response), "SyncByteStream")
            response.stream = kind(response.stream, on_chunk(call), on_end(call))
            return
        call.received(got)
        if not call.ends_now(response.status_code):
            call.session.recorder.commit()


class AsyncListener(Listener):
    """A Listener for asynchronous clients."""

    def of_request(self, original: Callable[..., object]) -> Callable[..., object]:
        """Make the replacement for the SDK's method `request`."""
        awaited: Callable[..., Awaitable[object]] = original  # type: ignore[assignment] # see listen

        @wraps(original)
        async def request(cast_to: object, options: RequestOptions, **how: object) -> object:
            recording = self.family.recording
            if recording is None:  # the client was released, but other code still has this method
                return await awaited(cast_to, options, **how)
            call = None
            with isolate_recording_errors():
                call = self.begun(options, recording)
            if call is None:
                self.refuse_in_replay(options)
                with during(under_way, None):
                    return await awaited(cast_to, options, **how)
            try:
                with during(under_way, call):
                    returned = await awaited(cast_to, options, **how)
            except RecorderAbort as stop:
                with isolate_recording_errors(failing=True):
                    await call.aleave(stop.error)
                raise stop.error from None
            except BaseException as error:
                with isolate_recording_errors(failing=True):
                    await call.aleave(error)
                raise
            if not call.streaming:
                with isolate_recording_errors(call.session):
                    await call.aleave(None)
            return returned

        return request

    def of_send(self, original: Callable[..., object]) -> Callable[..., object]:
        """Make the replacement for the method `send` of the client's httpx client."""
        awaited: Callable[..., Awaitable[_Response]] = original  # type: ignore[assignment] # as above

        @wraps(original)
        async def send(request: _Request, **how: object) -> object:
            call = under_way.get()
            if call is None:
                return await awaited(request, **how)
            with isolate_recording_errors(call.session, inside=True):
                call.requested(request.read(), request.headers, _path(request))
                make_ready_aside()
                await call.session.recorder.acommit()
                call.sent()
            try:
                if call.is_replayed:
                    streams = how.get("stream") is True
                    got = await async_response_of(call.recorded, request, streams=streams)
                    response: _Response = got  # type: ignore[assignment] # httpx's
                else:
                    response = await awaited(request, **how)
            except BaseException as error:
                with isolate_recording_errors(failing=True):
                    call.failed(error)
                    await call.session.recorder.acommit_after(error)
                raise
            with isolate_recording_errors(call.session, inside=True):
                await self._received(call, response, streams=how.get("stream") is True)
            return response

        return send

    async def _received(self, call: Call, response: _Response, *, streams: bool) -> None:
        got: Whole = response
        if streams and not is_answer(response.status_code):
            try:
                await response.aread()
            except Exception as error:
                got = _give_back_unread(response, error, "AsyncByteStream")
        elif streams:
            ended = async_on_end(call)
            if response.is_stream_consumed:
                _take_body_read_before(call, response)
                await ended(None, whole=True)
                return
            call.opened(Head(response))
            kind = of_library(AsyncCopying, type(response), "AsyncByteStream")
            response.stream = kind(response.stream, on_chunk(call), ended, on_end(call))
            return
        call.received(got)
        if not call.ends_now(response.status_code):
            await call.session.recorder.acommit()


def _take_body_read_before(call: Call, response: _Response) -> None:
    """Record a body that the user's hook or transport has already read.

    Its pieces won't be seen, because it is not read from the connection again.
    """
    call.opened(Head(response, decoded=True))
    call.heard(response.content)


def _path(request: _Request) -> str:
    """The path of a request's URL, percent-encoded."""
    return request.url.raw_path.decode("ascii", errors="replace").partition("?")[0]


def on_chunk(call: Call) -> Callable[[bytes], None]:
    """Make the callback for each piece of an answer's body."""

    def seen(chunk: bytes) -> None:
        with isolate_recording_errors():
            call.heard(chunk)

    return seen


def on_end(call: Call) -> BodyEnded:
    """Make the callback for the end of an answer's body."""

    def ended(error: BaseException | None, *, whole: bool) -> None:
        with isolate_recording_errors():
            call.finished(error, whole=whole)
        with isolate_recording_errors(call.session, failing=error is not None):
            call.leave(call.outcome)

    return ended


def async_on_end(call: Call) -> AsyncEnded:
    """Make the callback for the end of an answer's body on an event loop."""

    async def ended(error: BaseException | None, *, whole: bool) -> None:
        with isolate_recording_errors():
            call.finished(error, whole=whole)
        with isolate_recording_errors(call.session, failing=error is not None):
            await call.aleave(call.outcome)

    return ended


def _give_back_unread(response: _Response, error: Exception, wanted: str) -> Whole:
    """Let the SDK itself raise the error of an error body that can't be read.

    Returns the part of the answer that is known.
    """
    response.stream = of_library(Broken, type(response), wanted)(error)
    response.is_stream_consumed = False
    # as it would be without lllm; an SDK does not read the body of a closed response
    response.is_closed = False
    return Read(response, ())
