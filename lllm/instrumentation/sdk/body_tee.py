"""Copies the body of an HTTP answer while the caller reads it.

httpx and httpx2 require a stream to be an instance of one of their own classes, so each copy is an
instance of `Copying` or `AsyncCopying` and of the class that its library requires.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache
from typing import Protocol

from lllm.events.concurrency import finalizer_work
from lllm.instrumentation.sdk.abandoned_streams import BodyEnd, BodyEnded, OpenBodyEnd


class Stream(Protocol):
    """The interface of httpx's body streams."""

    def __iter__(self) -> Iterator[bytes]: ...
    def close(self) -> None:
        """Stop reading."""


class AsyncStream(Protocol):
    """The interface of httpx's body streams on an event loop."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None:
        """Stop reading."""


class Copied:
    """A body that is copied.

    Args:
        seen: A callback for each piece of the body.
        dropped: A callback for a body that nobody reads any more; it runs in a new thread.

    Attributes:
        end: The end of the body, which is reported once.
    """

    def __init__(self, seen: Callable[[bytes], None], dropped: BodyEnded) -> None:
        self._seen = seen
        self.end: BodyEnd = OpenBodyEnd(dropped)


class AsyncEnded(Protocol):
    """A callback for the end of a body on an event loop."""

    def __call__(self, error: BaseException | None, *, whole: bool) -> Awaitable[None]:
        """Handle the end: the error that ended the body, and whether it arrived completely."""


class Copying(Copied):
    """A body stream that copies what the caller reads.

    Args:
        inner: The library's stream.
        seen: A callback for each piece of the body.
        ended: A callback for the end, called once when the body is complete, broken or closed.
    """

    def __init__(self, inner: Stream, seen: Callable[[bytes], None], ended: BodyEnded) -> None:
        super().__init__(seen, ended)
        self._inner = inner
        self._ended = ended

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)  # an SDK may look for attributes that it has set

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._inner:
                self._seen(chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self._tell(error)
            raise
        self.end.whole = True
        self._tell(None)

    def close(self) -> None:
        """Report that the caller stops reading, at the end or before it."""
        try:
            self._inner.close()
        finally:
            self._tell(None)

    def _tell(self, error: BaseException | None) -> None:
        if self.end.come():
            if finalizer_work.by_collector():
                self.end.tell_later(error)
            else:
                self._ended(error, whole=self.end.whole)


class AsyncCopying(Copied):
    """A body stream that copies what the caller reads on an event loop.

    Args:
        inner: The library's stream.
        seen: A callback for each piece of the body.
        ended: A callback for the end, called once when the body is complete, broken or closed.
        dropped: A callback for a body that nobody reads any more; it runs in a new thread.
    """

    def __init__(
        self,
        inner: AsyncStream,
        seen: Callable[[bytes], None],
        ended: AsyncEnded,
        dropped: BodyEnded,
    ) -> None:
        super().__init__(seen, dropped)
        self._inner = inner
        self._ended = ended

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _AsyncPieces(self, aiter(self._inner))

    def came(self, chunk: bytes) -> None:
        """Handle a piece of the body."""
        self._seen(chunk)

    async def aclose(self) -> None:
        """Report that the caller stops reading, at the end or before it."""
        try:
            await self._inner.aclose()
        finally:
            await self.tell(None)

    async def tell(self, error: BaseException | None) -> None:
        """Report the end of the body once, with the error that cut it off."""
        if self.end.come():
            await self._ended(error, whole=self.end.whole)


class _AsyncPieces:
    """An async iterator that reads a body once.

    It is not a generator: a closing event loop closes each async generator on its own, and
    complains about one that is in the middle of closing another.
    """

    def __init__(self, copying: AsyncCopying, inner: AsyncIterator[bytes]) -> None:
        self._copying = copying
        self._inner = inner

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._inner)
        except StopAsyncIteration:
            self._copying.end.whole = True
            await self._copying.tell(None)
            raise
        except GeneratorExit:
            raise
        except BaseException as error:
            await self._copying.tell(error)
            raise
        self._copying.came(chunk)
        return chunk


class Broken:
    """A body that could not be read; every further read raises the same error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        raise self._error

    def close(self) -> None:
        """Do nothing: the body is already closed."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        raise self._error
        yield b""  # makes this function a generator

    async def aclose(self) -> None:
        """Do nothing: the body is already closed."""


@cache
def of_library(kind: type, response: type, wanted: str) -> type:
    """Make a stream class that is also a subclass of the HTTP library's own stream class.

    Args:
        kind: `Copying` or `AsyncCopying`.
        response: The library's class of responses.
        wanted: The name of the class in the library's package that a stream must be an instance of.

    Returns:
        A subclass of both.
    """
    package = sys.modules[response.__module__.partition(".")[0]]
    return type(kind.__name__, (kind, getattr(package, wanted)), {})
