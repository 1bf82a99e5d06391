"""The body of an HTTP answer, copied while the caller reads it.

What passes is kept with its time, as it came, compressed or not; it is read once it is over. httpx
and httpx2 ask of a stream that it is one of their own classes, so a copy is one of both: of
`Copying` or `AsyncCopying` and of the class that its library wants.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache
from typing import Protocol


class Stream(Protocol):
    """What httpx reads from a connection."""

    def __iter__(self) -> Iterator[bytes]: ...
    def close(self) -> None: ...


class AsyncStream(Protocol):
    """The same on an event loop."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


class Copied:
    """What has passed, and whether it is over."""

    def __init__(self) -> None:
        self._raw: list[tuple[int, bytes]] = []
        self._over = False

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


class Copying(Copied):
    """A stream whose bytes are kept. ended: called once, when it is over or closed, with what cut
    it off."""

    def __init__(
        self, inner: Stream, ended: Callable[[Copied, BaseException | None], None]
    ) -> None:
        super().__init__()
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
        self._tell(None)

    def close(self) -> None:
        """The caller has read enough, or all."""
        self._inner.close()
        self._tell(None)

    def _tell(self, error: BaseException | None) -> None:
        if self.end():
            self._ended(self, error)


class AsyncCopying(Copied):
    """The same on an event loop."""

    def __init__(
        self,
        inner: AsyncStream,
        ended: Callable[[Copied, BaseException | None], Awaitable[None]],
    ) -> None:
        super().__init__()
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
        await self._tell(None)

    async def aclose(self) -> None:
        """The caller has read enough, or all."""
        await self._inner.aclose()
        await self._tell(None)

    async def _tell(self, error: BaseException | None) -> None:
        if self.end():
            await self._ended(self, error)


@cache
def of_library(copying: type, response: type, wanted: str) -> type:
    """`copying` as a stream that a library takes.

    response: the library's class of responses, whose package has the class `wanted`.
    """
    package = sys.modules[response.__module__.partition(".")[0]]
    return type(copying.__name__, (copying, getattr(package, wanted)), {})
