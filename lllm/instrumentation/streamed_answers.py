"""Reads an answer while the caller streams it, and reports how it ended.

It may end completely, fail, or be left by the caller. The bytes are parsed in batches and dropped,
so only the answer itself stays in memory. A compressed body is kept until its end: only httpx
knows all the compressions that it offered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lllm.events.errors import InvokeError
from lllm.invokers import Answer
from lllm.invokers.sdk.exchange import Exchange, Read
from lllm.sessions.error_details import is_cancellation

CLOSED = "The caller closed the stream before its end."
_BATCH = 1 << 16  # bytes; most streams are shorter, and delay their reader only at their end


class Head:
    """The status and the headers of an HTTP answer, without its body.

    Args:
        response: A response of httpx or httpx2.
        decoded: True if the body is already decompressed.
    """

    content = b""

    def __init__(self, response: object, *, decoded: bool = False) -> None:
        self.kind = type(response)
        self.status_code: int = response.status_code  # type: ignore[attr-defined] # httpx's
        self.headers: Mapping[str, str] = response.headers  # type: ignore[attr-defined] # as above
        if decoded:
            left = {**self.headers}  # httpx's names are in lower case
            left.pop("content-encoding", None)
            self.headers = left


class StreamEnd(NamedTuple):
    """The result of an answer that the caller streamed.

    Attributes:
        answer: The answer; None if it failed or the caller left it early.
        failure: The reason why there is no answer, with the part that had arrived; None otherwise.
        cancelled: True if the caller stopped reading, or its task was cancelled.
        outcome: The error of the call; None if it succeeded.
    """

    answer: Answer | None = None
    failure: InvokeError | None = None
    cancelled: bool = False
    outcome: BaseException | None = None


class StreamedAnswer:
    """The answer to one attempt, read from its body as the caller receives it.

    Args:
        exchange: Parses the answer to the attempt.
        head: The status and the headers, which arrived before the body.
        as_stream: True if the request asked the provider for a streamed answer. SDKs also let the
            caller stream the body of an answer that the provider sends whole.
    """

    def __init__(self, exchange: Exchange, head: Head, *, as_stream: bool) -> None:
        self._exchange = exchange
        self._head = head
        self._as_stream = as_stream
        self._unread = _UnreadBody(head, at_end=not as_stream)
        self._whole_body: list[bytes] = []  # of an answer that was not requested as a stream
        self._broken: InvokeError | None = None  # an error that the provider sent in the stream
        exchange.opened(head)

    def add(self, chunk: bytes) -> None:
        """Add a piece of the body that has just arrived."""
        if self._unread.add(chunk):
            self._read()

    def _read(self) -> None:
        for came, chunk in self._unread.pieces():
            if not self._as_stream:
                self._whole_body.append(chunk)
            elif self._broken is None:
                try:
                    for _ in self._exchange.feed(chunk, came):
                        pass  # the caller has it already
                except InvokeError as error:
                    self._broken = error

    def end(self, error: BaseException | None, *, whole: bool, left: str) -> StreamEnd:
        """Finish the answer and report its result.

        Args:
            error: The error that ended the body; None if there was none.
            whole: True if the body arrived completely.
            left: The reason to record if the caller stopped reading before the end.

        Returns:
            The answer, or the reason why there is none.
        """
        self._read()
        if self._exchange.done:
            # SDKs read past the provider's end mark, and ignore errors there.
            error = None
        try:
            answer = self._answer(whole=whole, cut_off=error is not None)
        except InvokeError as told:
            return StreamEnd(failure=self._exchange.failure(told), outcome=told)
        if answer is not None:
            return StreamEnd(answer)
        outcome = GeneratorExit(left) if error is None else error
        cancelled = is_cancellation(outcome)
        why = left
        if not cancelled:
            why = f"The stream was cut off: {type(error).__name__}: {error}"
        elif error is not None:
            why = CLOSED
        failure = self._exchange.failure(InvokeError(why, retryable=False))
        return StreamEnd(failure=failure, cancelled=cancelled, outcome=outcome)

    def _answer(self, *, whole: bool, cut_off: bool) -> Answer | None:
        """Read the answer; None if its end did not arrive. Raises InvokeError."""
        exchange = self._exchange
        if self._broken is not None:
            raise self._broken
        if not self._as_stream and not cut_off and (whole or self._whole_body):
            return exchange.answered(Read(self._head, self._whole_body))
        if whole:
            exchange.rest(self._head)
        if not cut_off and (exchange.complete or exchange.done or whole):
            return exchange.ended()
        return None


class _UnreadBody:
    """The bytes of a body that have arrived but are not parsed yet.

    Args:
        head: The status and the headers of the answer.
        at_end: True to parse everything only at the end.
    """

    def __init__(self, head: Head, *, at_end: bool) -> None:
        self._head = head
        self._waits = at_end or head.headers.get("content-encoding") is not None
        self._waiting: list[tuple[int, bytes]] = []
        self._size = 0

    def add(self, chunk: bytes) -> bool:
        """Add a piece that has just arrived; return True if it is time to parse."""
        self._waiting.append((time.perf_counter_ns(), chunk))
        self._size += len(chunk)
        return self._size >= _BATCH and not self._waits

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Return the pieces, each with its time of arrival from `time.perf_counter_ns`."""
        waiting, self._waiting, self._size = self._waiting, [], 0
        return self._decoded(waiting)

    def _decoded(self, raw: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        encoding = self._head.headers.get("content-encoding")
        if encoding is None:
            yield from raw
            return
        came = [0]

        def again() -> Iterator[bytes]:
            for came[0], chunk in raw:
                yield chunk

        headers = {"content-encoding": encoding}
        copy = self._head.kind(  # type: ignore[call-arg] # a Response of httpx or httpx2
            200, headers=headers, content=again()
        )
        for chunk in copy.iter_bytes():  # type: ignore[attr-defined] # as above
            yield came[0], chunk
