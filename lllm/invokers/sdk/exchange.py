"""Turns the HTTP answer to one request into an Answer or an InvokeError.

Nothing here sends: it is the part of an invoker that threads and event loops share. An answer is
read from the raw body, because an SDK's models add and drop fields. No credential leaves this
module: every text passes the `Secrets` of the access. The SDK's errors are replaced by new ones,
raised outside of the `except` block, because their causes and tracebacks can quote headers.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from lllm.events.errors import InvokeError
from lllm.invokers.http.amazon_event_stream import CONTENT_TYPE, EventStreamDecoder
from lllm.invokers.http.errors import (
    cleaned,
    from_response,
    request_id,
    status_of,
    tells_error,
    with_use,
)
from lllm.invokers.http.sse import Decoder
from lllm.pricing.failed_attempts import was_unsent
from lllm.pricing.provider_bill import billed_in_headers
from lllm.pricing.service_tiers import tier_in_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lllm.invokers import Answer
    from lllm.invokers.dialects.dialect import Dialect
    from lllm.invokers.http.endpoint import Access
    from lllm.invokers.http.secrets import Secrets


class Response(Protocol):
    """An SDK's HTTP answer, whose body may still be unread."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; their names are case-insensitive."""


class Whole(Response, Protocol):
    """An HTTP answer whose body is fully read."""

    @property
    def content(self) -> bytes:
        """The body."""


class Read:
    """A response whose body was read from a stream. Its repr does not show the body."""

    def __init__(self, response: Response, chunks: Iterable[bytes]) -> None:
        self.status_code = response.status_code
        self.headers = response.headers
        self.content = b"".join(chunks)


class Exchange:
    """Reads the answer to one request, whole or streamed.

    Args:
        access: The base URL that the request was sent to, and its key.
        dialect: The dialect of the request and the answer.
        model: The requested model.
        secrets: The secrets to remove from all texts.
        tier: The service tier that the request's headers ask for; None for the default one.

    Attributes:
        done: True if the provider has sent its end mark.
    """

    def __init__(
        self,
        access: Access,
        dialect: Dialect,
        model: str,
        secrets: Secrets,
        *,
        tier: str | None = None,
    ) -> None:
        self._access = access
        self._dialect = dialect
        self._model = model
        self._secrets = secrets
        self._began = time.perf_counter_ns()
        self._request_id: str | None = None
        self._billed: int | None = None  # the cost in a gateway's header
        self._tier = tier
        self._decoder: Decoder | EventStreamDecoder = Decoder()
        self._assembly = dialect.assembly()
        self._first: int | None = None
        self._whole: Answer | None = None
        self._in_one_piece = False  # although a stream was requested
        self._unstreamed: list[bytes] = []
        self.done = False

    # -- a whole answer

    def answered(self, response: Whole) -> Answer:
        """Read the Answer from a complete body.

        Args:
            response: The whole HTTP answer, with a success status.

        Returns:
            The answer in lllm's terms.

        Raises:
            InvokeError: The body has no answer.
        """
        self._begin(response)
        try:
            text = self._secrets.cut(response.content.decode())
            body: object = json.loads(text)
        except (ValueError, RecursionError):
            body = None
        if body is None:
            raise InvokeError(
                f"{self._access.host} answered with a body that is not JSON.",
                retryable=True,
                status=response.status_code,
                request_id=self._request_id,
            )
        try:
            return self._read(body)
        except InvokeError as error:
            if error.status is not None or not tells_error(body):
                raise
            used = error
        raise with_use(self._from_response(status_of(body), response.headers, text), used)

    def _begin(self, response: Response) -> None:
        self._request_id = request_id(response.headers, self._secrets)
        self._billed = billed_in_headers(response.headers)
        self._tier = tier_in_headers(response.headers, self._access.provider) or self._tier

    def _read(self, body: object) -> Answer:
        answer = self._dialect.answer(body, model=self._model, request_id=self._request_id)
        if self._tier is not None:
            answer = msgspec.structs.replace(answer, service_tier=self._tier)
        if self._billed is None or answer.billed is not None:
            return answer
        return msgspec.structs.replace(answer, billed=self._billed)

    # -- a streamed answer

    def opened(self, response: Response) -> None:
        """Handle the status and headers of a stream."""
        self._begin(response)
        kind = response.headers.get("content-type", "")
        self._in_one_piece = "application/json" in kind
        if CONTENT_TYPE in kind:
            self._decoder = EventStreamDecoder()

    def feed(self, chunk: bytes, came: int | None = None) -> Iterator[str]:
        """Handle the next chunk of the body.

        Args:
            chunk: The next bytes of the body.
            came: The time of its arrival by `time.perf_counter_ns`; None for now.

        Yields:
            The new pieces of the answer's text.

        Raises:
            InvokeError: An event reports that the answer failed.
        """
        if self._in_one_piece:
            # Some servers send no stream although one was requested; others label theirs as JSON.
            self._in_one_piece = bool(self._unstreamed) or chunk.lstrip().startswith(b"{")
        if self._in_one_piece:
            self._unstreamed.append(chunk)
            return
        for data in self._decoder.feed(chunk):
            if data == "[DONE]":
                self.done = True
            try:
                event: object = json.loads(self._secrets.cut(data))
            except (ValueError, RecursionError):
                continue  # an end mark, or a message of a proxy
            text = self._assembly.take(event) if isinstance(event, dict) else ""
            if self._first is None and self._assembly.begun:
                self._first = (came or time.perf_counter_ns()) - self._began
            if text:
                yield text

    def rest(self, response: Response) -> str:
        """Read an answer that came in one piece although a stream was requested.

        Args:
            response: The status and the headers of the answer.

        Returns:
            The text of the answer; "" if it came as a stream.

        Raises:
            InvokeError: The body has no answer.
        """
        if not self._unstreamed:
            return ""
        self._whole = self.answered(Read(response, self._unstreamed))
        return self._whole.content.text

    @property
    def complete(self) -> bool:
        """True if the whole answer has arrived, so a broken stream loses nothing."""
        return self._whole is not None or self._assembly.complete

    def ended(self) -> Answer:
        """Make the Answer from a stream that has ended.

        Returns:
            The answer in lllm's terms.

        Raises:
            InvokeError: The stream ended too early.
        """
        if self._whole is not None:
            return self._whole
        # Some servers end with their mark, and never send the reason why the model stopped.
        if not (self.complete or (self.done and self._assembly.begun)):
            early = f"The stream of {self._access.host} ended before the answer did."
            raise self.failure(InvokeError(early, retryable=True))
        return msgspec.structs.replace(self._answer_so_far(), first_token=self._first)

    def _answer_so_far(self) -> Answer:
        # Secrets are removed once more, because one may have arrived in two pieces.
        return self._read(self._secrets.cut_values(self._assembly.body()))

    # -- a failure

    def refused(self, response: Response, text: str) -> InvokeError:
        """Make the error for an HTTP answer without success status.

        Args:
            response: The status and the headers of the answer.
            text: The body of the answer.

        Returns:
            The error to raise, without secrets.
        """
        return self._from_response(response.status_code, response.headers, text)

    def failure(self, error: Exception) -> InvokeError:
        """Make lllm's error for an error of the SDK or its transport.

        Args:
            error: The SDK's error, or an InvokeError.

        Returns:
            The error to raise, without secrets, and with the part of a stream that had arrived.
        """
        failed = self._as_invoke_error(error)
        failed.request_id = failed.request_id or self._request_id
        if self._assembly.body():
            failed.unfinished = not self._assembly.settled
            try:
                came = self._answer_so_far()
            except InvokeError:
                return failed
            failed.partial = came.content if self._assembly.begun else None
            with_use(failed, came)
        elif self._unstreamed:
            failed.unfinished = True
        return failed

    def _as_invoke_error(self, error: Exception) -> InvokeError:
        if isinstance(error, InvokeError):
            return cleaned(error, self._secrets, request_id=self._request_id)
        got = getattr(error, "response", None)
        if _is_a(error, "APIStatusError") and got is not None:
            return self._from_response(got.status_code, got.headers, got.text)
        cause = error.__cause__ or error
        told = self._secrets.cut_error(f"{type(cause).__name__}: {cause}")
        if "header" in told.lower():
            # h11 quotes the invalid header in an escaped form, in which the secret is not
            # recognised.
            return InvokeError(
                f"A header of the request can't be sent ({type(cause).__name__}). Are there odd "
                f"characters in what the invoker was given, or in {self._access.headers_env}?",
                retryable=False,
                unserved=True,
            )
        host, port = self._access.host, self._access.port
        unsent = was_unsent(error)
        if _is_a(error, "APITimeoutError", "TimeoutException"):
            silent = f"{host} sent nothing for {self._access.timeout:g} seconds ({told})"
            return InvokeError(silent, retryable=True, unserved=unsent)
        if _is_a(error, "APIConnectionError", "RequestError"):
            lost = f"The connection to {host}:{port} failed ({told})"
            return InvokeError(lost, retryable=True, unserved=unsent)
        return InvokeError(f"The request could not be made ({told})", retryable=False)

    def _from_response(self, status: int, headers: Mapping[str, str], text: str) -> InvokeError:
        return from_response(status, headers, text, host=self._access.host, secrets=self._secrets)


def _is_a(error: Exception, *names: str) -> bool:
    """True if an error's class has one of these names; needs no import of the SDK.

    SDKs and their transports (httpx, httpx2) share the names.
    """
    return any(kind.__name__ in names for kind in type(error).__mro__)
