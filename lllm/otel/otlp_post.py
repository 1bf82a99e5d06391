"""Sends one OTLP request over HTTP, and says what the answer means.

The rules are those of https://opentelemetry.io/docs/specs/otlp/#otlphttp-response: 429, 502, 503,
504 and a receiver that can't be reached are tried again; anything else is an answer for good.
"""

from __future__ import annotations

import gzip
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException

from lllm.invokers.http.opener import opener, shown_url
from lllm.invokers.http.retry_after import retry_after
from lllm.otel.otlp_format import OtlpFormat, Rejected, Signal
from lllm.otel.settings import Receiver
from lllm.terminal_safe import visible

SECONDS = 30.0  # for one request; OpenTelemetry's default is 10
_LEVEL = 1  # of gzip; level 9 takes four times as long for a tenth fewer bytes
_LONGEST = 1 << 20  # bytes of an answer that are read
_SHOWN = 300  # characters of an error's text
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_SETTINGS = frozenset({301, 302, 303, 307, 308, 401, 402, 403, 404, 405, 407, 410, 421, 501})


class TryAgain(Exception):
    """The receiver can't take the request now.

    Attributes:
        seconds: How long it asked to wait; None if it did not.
        is_failure: True for an internal error of the receiver, which this request may cause.
    """

    def __init__(
        self, message: str, seconds: float | None = None, *, is_failure: bool = False
    ) -> None:
        super().__init__(message)
        self.seconds = seconds
        self.is_failure = is_failure


class WrongReceiver(Exception):
    """The receiver refuses every request: a wrong key, or an address that is not OTLP's.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class TooLarge(Exception):
    """The receiver takes no request of this size."""


class HttpOutput:
    """Sends requests to a receiver.

    Args:
        receiver: Where to send them.
        form: Encodes them.
        compress: True to compress them.
        seconds: The time limit for a request, in seconds.
    """

    def __init__(
        self, receiver: Receiver, form: OtlpFormat, *, compress: bool, seconds: float = SECONDS
    ) -> None:
        self.form = form
        self._receiver = receiver
        self._compress = compress
        self._seconds = seconds
        handlers = []
        if receiver.certificate is not None:
            context = ssl.create_default_context(cafile=str(receiver.certificate))
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = opener(*handlers)

    def send(self, signal: Signal, records: list[bytes]) -> Rejected:
        """Send records in one request.

        Args:
            signal: What they are.
            records: The encoded records.

        Returns:
            What the receiver refused of them. If it refuses the request as a whole, that is all.

        Raises:
            TryAgain: It can't take the request now.
            WrongReceiver: It takes no requests at all.
            TooLarge: The request is too large for it.
        """
        body = self.form.request(signal, records)
        url = self._receiver.urls[signal]
        headers = {
            "Content-Type": self.form.content_type,
            "User-Agent": "lllm",
            **self._receiver.headers[signal],
        }
        if self._compress:
            body = gzip.compress(body, _LEVEL, mtime=0)
            headers["Content-Encoding"] = "gzip"
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._seconds) as answer:
                return self.form.rejected(signal, answer.read(_LONGEST))
        except urllib.error.HTTPError as error:
            with error:
                return self._refused(error, len(records), url)
        except (OSError, HTTPException) as error:
            raise TryAgain(f"{shown_url(url)} can't be reached: {_why(error)}") from error

    def _refused(self, error: urllib.error.HTTPError, count: int, url: str) -> Rejected:
        said = f"{shown_url(url)} answers {error.code}{self._said(error)}"
        if error.code in _AGAIN:
            wait = retry_after({"retry-after": error.headers.get("Retry-After", "")})
            seconds = None if wait is None else wait / 1_000_000_000
            raise TryAgain(said, seconds, is_failure=error.code == 500) from error
        if error.code == 413:
            raise TooLarge(said) from error
        if error.code in _SETTINGS:
            raise WrongReceiver(said, error.code) from error
        return Rejected(count, said)

    def _said(self, error: urllib.error.HTTPError) -> str:
        """The text of an answer, as far as people can read it, without our own credentials."""
        try:
            text = error.read(_LONGEST).decode("utf-8", "replace")
        except (OSError, HTTPException):
            return ""
        for secret in self._receiver.secrets:
            text = text.replace(secret, "***")
        text = " ".join("".join(one if one.isprintable() else " " for one in text).split())
        return f": {visible(text[:_SHOWN])}" if text else ""


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return f"no answer in {SECONDS:g} seconds"
    return visible(str(reason) or type(reason).__name__)
