"""Records generators as sessions: the session is current only while a step of it runs.

Between two steps, the code of the loop over a generator runs, often in another task or thread, as
in a streaming handler of a web server. That code is not part of the session.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import partial, wraps

from lllm.events.codec import encode
from lllm.events.concurrency import finalizer_work
from lllm.events.values.json_values import to_plain
from lllm.sessions.session import SessionScope
from lllm.sessions.unfinished_calls import unwatch, watch
from lllm.sessions.unfinished_sessions import PlainDelivery

_DROPPED = "The generator was dropped before its session had ended."
MOST_BYTES = 16 << 20  # of the items in one delivery, as JSON

Opening = Callable[[tuple[object, ...], dict[str, object]], SessionScope]


class _Streaming:
    """The session of one generator, with the items that it has yielded.

    At the interpreter's exit it is ended, as an OpenCall is.
    """

    def __init__(self, scope: SessionScope) -> None:
        self._scope = scope
        self.__class__ = _OpenStreaming
        self._items: list[object] = []
        self._size = 0
        self._left_out = 0
        scope.begin_apart()
        watch(self)

    def add(self, item: object) -> None:
        """Record an item in its present state, because its reader may change it.

        A stream may be endless, so items beyond the limit are only counted.
        """
        plain = to_plain(item)
        self._size += len(encode(plain))
        if self._size > MOST_BYTES:
            self._left_out += 1
        else:
            self._items.append(plain)

    def delivers(self) -> None:
        """Set the session's result: the items, or a part of them and the number of the others."""
        value: object = self._items
        if self._left_out:
            value = {"items": self._items, "left_out": self._left_out}
        self._scope.recorder.delivery = PlainDelivery(value)

    def leave(self, error: BaseException | None) -> None:
        """End the session."""
        self.delivers()
        if finalizer_work.by_collector():
            finalizer_work.later(partial(self._scope.leave, error))
        else:
            self._scope.leave(error)
        self._forget()

    async def aleave(self, error: BaseException | None) -> None:
        """End the session on an event loop."""
        self.delivers()
        await self._scope.aleave(error)
        self._forget()

    def _forget(self) -> None:
        unwatch(self)
        self.__class__ = _Streaming

    def settle(self) -> None:
        """Do nothing: the end of another session does not end this one. See OpenCall."""

    def settle_at_exit(self) -> None:
        """End the session when the program exits; see OpenCall."""
        self.delivers()
        self._scope.leave(GeneratorExit("The program ended before the generator."), follow=False)


class _OpenStreaming(_Streaming):
    """A generator's session that has not ended; it is ended if it is garbage-collected.

    It is a class of its own so that no finalizer runs for a session that ended normally; see
    `lllm.sessions.session`.
    """

    def __del__(self) -> None:
        if not self._scope.is_over:
            self.delivers()
            finalizer_work.later(partial(self._scope.leave, GeneratorExit(_DROPPED), follow=False))


def steps(
    function: Callable[..., object], opening: Opening
) -> Callable[..., Generator[object, object, object]]:
    """Wrap a generator function, so that each generator is a session.

    Args:
        function: The generator function.
        opening: A function that makes the session of one call from its arguments.

    Returns:
        A generator function with the same name.
    """

    @wraps(function)
    def generated(*args: object, **kwargs: object) -> Generator[object, object, object]:
        scope = opening(args, kwargs)
        stream = _Streaming(scope)
        try:
            scope.recorder.commit()
            with scope.attached():
                inner: Generator[object, object, object] = function(*args, **kwargs)  # type: ignore[assignment] # it is one
            advance: Callable[[], object] = partial(next, inner)
            while True:
                try:
                    with scope.attached():
                        item = advance()
                except StopIteration as stop:
                    returned: object = stop.value
                    break
                stream.add(item)
                try:
                    sent = yield item
                except GeneratorExit:
                    with scope.attached():
                        inner.close()
                    raise
                except BaseException as error:
                    advance = partial(inner.throw, error)
                else:
                    advance = partial(inner.send, sent)
        except BaseException as error:
            stream.leave(error)
            raise
        stream.leave(None)
        return returned

    return generated


def async_steps(
    function: Callable[..., object], opening: Opening
) -> Callable[..., AsyncGenerator[object, object]]:
    """Wrap an asynchronous generator function, so that each generator is a session.

    Args:
        function: The generator function.
        opening: A function that makes the session of one call from its arguments.

    Returns:
        An async generator function with the same name.
    """

    @wraps(function)
    async def generated(*args: object, **kwargs: object) -> AsyncGenerator[object, object]:
        scope = opening(args, kwargs)
        stream = _Streaming(scope)
        try:
            await scope.recorder.acommit()
            with scope.attached():
                inner: AsyncGenerator[object, object] = function(*args, **kwargs)  # type: ignore[assignment] # it is one
            advance: Callable[[], Awaitable[object]] = inner.__anext__
            while True:
                try:
                    with scope.attached():
                        item = await advance()
                except StopAsyncIteration:
                    break
                stream.add(item)
                try:
                    sent = yield item
                except GeneratorExit:
                    with scope.attached():
                        await inner.aclose()
                    raise
                except BaseException as error:
                    advance = partial(inner.athrow, error)
                else:
                    advance = partial(inner.asend, sent)
        except BaseException as error:
            await stream.aleave(error)
            raise
        await stream.aleave(None)

    return generated
