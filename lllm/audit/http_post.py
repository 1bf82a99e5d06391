"""Sends one HTTP request to a time-stamping authority or a witness.

A slow server must not make the caller wait for long, even if it sends a byte now and then.
Therefore the whole request runs in a thread of its own, with a time limit.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from lllm.audit.base64_text import encoded
from lllm.events.concurrency.thread_starts import starting_threads
from lllm.events.errors import AuditError
from lllm.invokers.http.opener import opener, shown_url

SECONDS = 10.0

_LONGEST = 1 << 20  # bytes of an answer


class PostAnswer(msgspec.Struct, frozen=True):
    """The answer to a request, whatever its status.

    Attributes:
        status: The HTTP status, for example 200.
        body: The content of the answer.
    """

    status: int
    body: bytes


def post(url: str, body: bytes, content_type: str, *, seconds: float = SECONDS) -> PostAnswer:
    """Send a POST request. Redirections are not followed, because they would turn it into a GET.

    Args:
        url: The address, http or https. It may contain a user and a password before the host.
        body: The content to send.
        content_type: The type of the content, for example "text/plain".
        seconds: The time limit for the whole request, in seconds.

    Returns:
        The status and content that the server sent.

    Raises:
        AuditError: The URL is invalid, or no answer of at most a MiB came in time.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise AuditError(f"A URL must begin with https:// or http://; {shown_url(url)!r} does not.")
    found: list[PostAnswer | Exception] = []

    def send() -> None:
        try:
            found.append(_send(url, body, content_type, seconds))
        except Exception as error:  # raised where the caller waits
            found.append(error)

    sender = threading.Thread(target=send, name="lllm-post", daemon=True)
    try:
        starting_threads(sender.start)
    except RuntimeError:  # there are too many threads, or the interpreter ends
        send()
    else:
        sender.join(seconds)
    answer = found[0] if found else TimeoutError()
    if isinstance(answer, Exception):
        raise _unreachable(url, answer, seconds) from answer
    if len(answer.body) > _LONGEST:
        raise AuditError(f"{shown_url(url)} answers with more than {_LONGEST:,} bytes.")
    return answer


def _send(url: str, body: bytes, content_type: str, seconds: float) -> PostAnswer:
    headers = {"Content-Type": content_type, "User-Agent": "lllm"}
    parts = urlsplit(url)
    user, found, host = parts.netloc.rpartition("@")
    if found:  # https://www.rfc-editor.org/rfc/rfc7617
        headers["Authorization"] = f"Basic {encoded(unquote(user).encode())}"
    address = urlunsplit(parts._replace(netloc=host))
    request = urllib.request.Request(address, data=body, headers=headers, method="POST")
    try:
        with opener().open(request, timeout=seconds) as answer:
            return PostAnswer(answer.status, answer.read(_LONGEST + 1))
    except urllib.error.HTTPError as error:
        with error:
            return PostAnswer(error.code, error.read(_LONGEST + 1))
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise error.reason from error
        raise


def _unreachable(url: str, error: Exception, seconds: float) -> AuditError:
    why = str(getattr(error, "reason", error))
    if isinstance(error, TimeoutError):
        why = f"no whole answer in {seconds:g} seconds"
    elif isinstance(error, HTTPException):
        why = f"the answer is not HTTP ({error})"
    return AuditError(f"{shown_url(url)} can't be reached: {why}.")
