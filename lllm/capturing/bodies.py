"""The body of an HTTP answer, copied while the caller reads it.

What passes is kept with its time, as it came, compressed or not; it is read once it is over. httpx
and httpx2 ask of a stream that it is one of their own classes, so a copy is one of both: of
`Copying` or `AsyncCopying` and of the class that its library wants.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache, partial
from typing import Protocol

from lllm.events import deferred


class Stream(Protocol):
    """What httpx reads from a connection."""

    def __iter__(self) -> Iterator[bytes]: ...
    def close(self) -> None: ...


class AsyncStream(Protocol):
    """The same on an event loop."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


class Copied:
    """What has passed, and whether it is over.

    dropped: called in a thread of its own where nobody holds it any more, who could end it.
    """

    def __init__(self, dropped: Ended) -> None:
        self._raw: list[tuple[int, bytes]] = []
        self._over = False
        self._dropped = dropped
        self.whole = False  # whether the connection had no more to give

    def __del__(self) -> None:
        if not self._over:
            self.drop(None)

    def drop(self, error: BaseException | None) -> None:
        """It is over, and found so where nothing can be waited for."""
        if self.end():
            deferred.later(partial(self._dropped, self, error))

    def seen(self, chunk: bytes) -> None:
        """A piece that came from the connection."""
        self._raw.append((time.perf_counter_ns(), chunk))

    def end(self) -> bool:
        """It is over; returns whether it was not before."""
        before, self._over = self._over, True
        return not before

    def decoded(self, response: object) -> Iterator[tuple[int, bytes]]:
        """All that passed, without its compression, each piece with the time when it came.

        response: what it is the body of. A new response of its class reads the pieces again, since
        httpx knows each compression that it asked for.
        """
        came = [0]

        def again() -> Iterator[bytes]:
            for came[0], chunk in self._raw:
                yield chunk

        headers = getattr(response, "headers", {})
        encoding = headers.get("content-encoding")
        copy = type(response)(  # type: ignore[call-arg] # a Response of httpx or httpx2
            200, headers={} if encoding is None else {"content-encoding": encoding}, content=again()
        )
        for chunk in copy.iter_bytes():  # type: ignore[attr-defined] # as above
            yield came[0], chunk


Ended = Callable[[Copied, BaseException | None], None]


class Copying(Copied):
    """A stream whose bytes are kept. ended: called once, when it is over or closed, with what cut
    it off."""

    def __init__(self, inner: Stream, ended: Ended) -> None:
        super().__init__(ended)
        self._inner = inner
        self._ended = ended

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)  # an SDK may look for what it put there

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._inner:
                self.seen(chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self._tell(error)
            raise
        self.whole = True
        self._tell(None)

    def close(self) -> None:
        """The caller has read enough, or all."""
        try:
            self._inner.close()
        finally:
            self._tell(None)

    def _tell(self, error: BaseException | None) -> None:
        if deferred.by_collector():
            self.drop(error)
        elif self.end():
            self._ended(self, error)


class AsyncCopying(Copied):
    """The same on an event loop."""

    def __init__(
        self,
        inner: AsyncStream,
        ended: Callable[[Copied, BaseException | None], Awaitable[None]],
        dropped: Ended,
    ) -> None:
        super().__init__(dropped)
        self._inner = inner
        self._ended = ended

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                self.seen(chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            await self._tell(error)
            raise
        self.whole = True
        await self._tell(None)

    async def aclose(self) -> None:
        """The caller has read enough, or all."""
        try:
            await self._inner.aclose()
        finally:
            await self._tell(None)

    async def _tell(self, error: BaseException | None) -> None:
        if self.end():
            await self._ended(self, error)


class Broken:
    """A body that could not be read: whoever tries again is told the same."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        raise self._error

    def close(self) -> None:
        """It is closed."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        raise self._error
        yield b""  # which makes it a generator

    async def aclose(self) -> None:
        """It is closed."""


@cache
def of_library(kind: type, response: type, wanted: str) -> type:
    """A kind of stream as one that a library takes.

    response: the library's class of responses, whose package has the class `wanted`.
    """
    package = sys.modules[response.__module__.partition(".")[0]]
    return type(kind.__name__, (kind, getattr(package, wanted)), {})
