"""The interface of the two forms in which OTLP is sent: protobuf and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from lllm.otel.records import LogRecord, SpanRecord

Signal = Literal["traces", "logs"]
Resource = Mapping[str, str]
"""What is sent about the program, as {"service.name": "desk"}."""


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """What a receiver refused of a request that it accepted as a whole.

    Attributes:
        count: The number of spans or log records that it refused.
        message: Its reason, or a warning; empty for none.
    """

    count: int = 0
    message: str = ""


class OtlpFormat(Protocol):
    """Encodes records, makes requests of them, and reads the answers."""

    @property
    def content_type(self) -> str:
        """The media type of requests and answers."""

    def span(self, record: SpanRecord) -> bytes:
        """Encode a span."""

    def log(self, record: LogRecord) -> bytes:
        """Encode a log record."""

    def request(self, signal: Signal, records: Sequence[bytes]) -> bytes:
        """Make the body of a request.

        Args:
            signal: What the records are.
            records: The encoded records.

        Returns:
            The body.
        """

    def rejected(self, signal: Signal, answer: bytes) -> Rejected:
        """Read the answer to a request that was accepted.

        Args:
            signal: What was sent.
            answer: The body of the answer.

        Returns:
            What was refused; nothing if the answer can't be read.
        """
