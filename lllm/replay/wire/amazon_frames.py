"""Encodes the events of a stream as the binary frames in which Amazon Bedrock sends them.

The frames have checksums (https://smithy.io/2.0/aws/amazon-eventstream.html). Each frame contains
one event of the stream of the model's provider
(https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ResponseStream.html).
"""

from __future__ import annotations

import base64
from binascii import crc32
from collections.abc import Callable

from lllm.invokers.dialects.provider_json import mapping
from lllm.replay.wire.pieces import JSON

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_STRING = b"\x07"  # the code for a header whose value is a string
_SIZES = 16  # the bytes of a frame without its headers and payload


def frame_of(event: JSON, write: Callable[[JSON], bytes]) -> bytes:
    """Encode one event as a frame.

    Args:
        event: An event of the provider's stream. One of type "error" becomes an exception or an
            error in the form of Amazon.
        write: A function that encodes JSON values as bytes.
    """
    if event.get("type") == "error":
        said = mapping(event.get("error"))
        kind, message = str(said.get("type") or "internalServerException"), said.get("message")
        if kind.endswith("Exception"):
            payload = write({"message": message})
            return _frame(payload, {"exception-type": kind, "message-type": "exception"})
        headers = {"error-code": kind, "error-message": str(message or "")}
        return _frame(b"", {"message-type": "error", **headers})
    chunk = write({"bytes": base64.b64encode(write(event)).decode()})
    return _frame(
        chunk,
        {"event-type": "chunk", "content-type": "application/json", "message-type": "event"},
    )


def _frame(payload: bytes, headers: dict[str, str]) -> bytes:
    head = b""
    for name, value in headers.items():
        key, said = f":{name}".encode(), value.encode()
        head += bytes([len(key)]) + key + _STRING + len(said).to_bytes(2, "big") + said
    size = _SIZES + len(head) + len(payload)
    sizes = size.to_bytes(4, "big") + len(head).to_bytes(4, "big")
    whole = sizes + crc32(sizes).to_bytes(4, "big") + head + payload
    return whole + crc32(whole).to_bytes(4, "big")
