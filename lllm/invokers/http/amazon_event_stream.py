"""Decodes Amazon's event streams: the JSON of each event, from chunks of a body.

Bedrock answers in binary frames with checksums (https://smithy.io/2.0/aws/amazon-eventstream.html).
Each frame has what other providers send as a server-sent event
(https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ResponseStream.html). The
frames are parsed with botocore, which the SDK also needs for Bedrock.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Protocol, cast

from lllm.events.concurrency.late_imports import importing
from lllm.events.errors import InvokeError

CONTENT_TYPE = "application/vnd.amazon.eventstream"


class _Frame(Protocol):
    """A frame of the stream; text headers are str."""

    headers: Mapping[str, object]
    payload: bytes


class _Buffer(Protocol):
    """Cuts bytes into frames."""

    def add_data(self, data: bytes) -> None: ...
    def __iter__(self) -> Iterator[_Frame]: ...


class EventStreamDecoder:
    """Decodes one stream; how its bytes are split into chunks makes no difference."""

    def __init__(self) -> None:
        self._buffer: _Buffer | None = None

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Return the JSON of each event that this chunk completes.

        An exception in the stream becomes an event of type "error", as Anthropic sends them.

        Args:
            chunk: The next bytes of the body.

        Yields:
            JSON texts.

        Raises:
            InvokeError: The bytes are not an event stream, or were damaged on the way; or botocore
                is not installed.
        """
        if self._buffer is None:
            self._buffer = _new_buffer()
        self._buffer.add_data(chunk)
        frames = iter(self._buffer)
        while True:
            try:
                frame = next(frames, None)
            except Exception as error:  # botocore's errors for lengths, headers and checksums
                raise InvokeError(
                    f"The event stream can't be read ({type(error).__name__}: {error})",
                    retryable=True,
                ) from None
            if frame is None:
                return
            text = _json_of(frame)
            if text is not None:
                yield text


def _new_buffer() -> _Buffer:
    try:
        with importing():
            module = import_module("botocore.eventstream")
    except ImportError:
        raise InvokeError(
            "The answer is one of Amazon's event streams, which needs botocore: "
            'pip install "anthropic[bedrock]"',
            retryable=False,
        ) from None
    return cast("Callable[[], _Buffer]", module.EventStreamBuffer)()


def _json_of(frame: _Frame) -> str | None:
    """Read the JSON of a frame; None for a frame without a part of the answer."""
    kind = frame.headers.get(":message-type")
    if kind == "event":
        return _piece(_object(frame.payload))
    if kind == "exception":
        said = _object(frame.payload)
        code = frame.headers.get(":exception-type")
        message = said.get("message") or said.get("Message") or said.get("originalMessage")
    elif kind == "error":
        code, message = frame.headers.get(":error-code"), frame.headers.get(":error-message")
    else:
        return None
    return json.dumps({"type": "error", "error": {"type": code, "message": message}}, default=str)


def _piece(said: Mapping[str, object]) -> str | None:
    """Decode the base64 JSON in the payload of a chunk."""
    encoded = said.get("bytes")
    if not isinstance(encoded, str):
        return None
    try:
        return base64.b64decode(encoded).decode()
    except ValueError:
        return None


def _object(payload: bytes) -> Mapping[str, object]:
    try:
        found: object = json.loads(payload or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
