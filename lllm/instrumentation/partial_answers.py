"""Reads the body of a streamed answer as it arrives.

The bytes are read in batches and dropped, so that what stays in memory is what the model said. A
compressed body waits for its end: only httpx knows all the compressions that it asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

_BATCH = 1 << 16  # bytes; most streams are shorter, and cost their reader nothing before their end


class Head:
    """Status and headers of an HTTP answer, without its body.

    Args:
        response: Of httpx or httpx2.
        decoded: True if the body comes as it was before it was compressed.
    """

    content = b""

    def __init__(self, response: object, *, decoded: bool = False) -> None:
        self.kind = type(response)
        self.status_code: int = response.status_code  # type: ignore[attr-defined] # httpx's
        self.headers: Mapping[str, str] = response.headers  # type: ignore[attr-defined] # as above
        if decoded:
            left = {**self.headers}  # whose names are in lower case
            left.pop("content-encoding", None)
            self.headers = left


class Heard:
    """The bytes of a body that have arrived and are not parsed yet.

    Args:
        head: What they are the body of.
        take: Reads a piece, with the time of `time.perf_counter_ns` when it came.
        at_end: True to read all at the end only.
    """

    def __init__(self, head: Head, take: Callable[[bytes, int], None], *, at_end: bool) -> None:
        self._head = head
        self._take = take
        self._waits = at_end or head.headers.get("content-encoding") is not None
        self._waiting: list[tuple[int, bytes]] = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Add a piece that has just arrived."""
        self._waiting.append((time.perf_counter_ns(), chunk))
        self._size += len(chunk)
        if self._size >= _BATCH and not self._waits:
            self.read()

    def read(self) -> None:
        """Parse the bytes that are waiting."""
        waiting, self._waiting, self._size = self._waiting, [], 0
        for came, chunk in self._decoded(waiting):
            self._take(chunk, came)

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
