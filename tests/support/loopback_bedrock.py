"""What Bedrock on this machine says: Anthropic's Messages, streamed in Amazon's frames.

server.answers(streamed(message(says("Hello."))))
server.answers(framed(chunk({"type": "ping"}), exception("throttlingException", "Slow down.")))

The frames are those of https://smithy.io/2.0/aws/amazon-eventstream.html.
"""

from __future__ import annotations

import base64
import json
import struct
import threading
from binascii import crc32
from typing import Any, Literal

from tests.support import loopback_messages
from tests.support.loopback import JSON, Reply

KIND = "application/vnd.amazon.eventstream"
METRICS: JSON = {"inputTokenCount": 20, "outputTokenCount": 5, "invocationLatency": 301}


def frame(payload: bytes, **headers: str) -> bytes:
    """One frame. headers: their names without the colon, with _ for -."""
    head = b""
    for name, value in headers.items():
        key, said = f":{name.replace('_', '-')}".encode(), value.encode()
        head += bytes([len(key)]) + key + b"\x07" + struct.pack(">H", len(said)) + said
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    prelude += struct.pack(">I", crc32(prelude))
    whole = prelude + head + payload
    return whole + struct.pack(">I", crc32(whole))


def chunk(event: JSON) -> bytes:
    """A frame with an event of Anthropic's stream."""
    text = base64.b64encode(json.dumps(event).encode()).decode()
    payload = json.dumps({"bytes": text, "p": "abcdefgh"}).encode()
    return frame(payload, event_type="chunk", content_type="application/json", message_type="event")


def exception(kind: str, message: str) -> bytes:
    """A frame that says that the answer failed."""
    payload = json.dumps({"message": message}).encode()
    return frame(payload, exception_type=kind, message_type="exception")


def error(code: str, message: str) -> bytes:
    """A frame for a fault that no exception stands for."""
    return frame(b"", message_type="error", error_code=code, error_message=message)


def framed(
    *pieces: bytes | threading.Event, end: Literal["whole", "cut", "hang"] = "whole"
) -> Reply:
    """Frames, or bytes of them, one after the other."""
    headers = {"Content-Type": KIND, "x-amzn-RequestId": "req_aws"}
    return Reply(pieces=list(pieces), end=end, headers=headers)


def frames_of(whole: JSON) -> list[bytes]:
    """The frames of a message."""
    *events, last = loopback_messages.events_of(whole)
    return [chunk(one) for one in [*events, last | {"amazon-bedrock-invocationMetrics": METRICS}]]


def streamed(whole: JSON, size: int | None = None) -> Reply:
    """A message as a stream; its bytes in pieces of `size`, by default a frame in each."""
    pieces = frames_of(whole)
    if size is not None:
        body = b"".join(pieces)
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return framed(*pieces)


def failure(status: int, kind: str, message: str, **headers: str) -> Reply:
    """An error in the form that Amazon gives them."""
    said: dict[str, Any] = {"x-amzn-RequestId": "req_aws", "x-amzn-ErrorType": f"{kind}:http://x/"}
    return Reply(status, json.dumps({"message": message}).encode(), said | headers)
