"""The pieces of an answer that a model is still writing, and an `async for` over them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress

from lllm.agents.dialog import Message


class Piece(str):
    """A piece of an answer's text that a model is still writing.

    If an attempt fails, or its answer is rejected, discard its pieces: the next attempt has another
    `request` number and begins the answer again.
    """

    __slots__ = ("attempt", "request")

    request: int
    """The number, within the session, of the model call that the piece comes from."""
    attempt: int
    """The number of tries for that answer so far, including this one; the first is 1."""

    def __new__(cls, text: str, *, request: int, attempt: int) -> Piece:
        """Make a piece from a text."""
        piece = super().__new__(cls, text)
        piece.request = request
        piece.attempt = attempt
        return piece


class AnswerStream:
    """A model's answer as an `async for` over pieces of its text, as they arrive.

        answer = agent.stream()
        async for piece in answer:
            print(piece, end="", flush=True)
        print(answer.message.cost)

    The model is called when the loop begins. Leaving the loop early cancels the answer as soon as
    the stream is closed (`contextlib.aclosing` closes it at once). The loop raises the same errors
    as `arespond`.

    Args:
        respond: An async function that asks for the answer; its argument is a function to call
            with each piece.
    """

    def __init__(self, respond: Callable[[Callable[[Piece], object]], Awaitable[Message]]) -> None:
        self._respond = respond
        self._message: Message | None = None
        self._pieces = self._run()

    @property
    def message(self) -> Message:
        """The complete answer.

        Raises:
            RuntimeError: The loop has not reached its end yet.
        """
        if self._message is None:
            raise RuntimeError("The answer is still coming: loop over the stream to its end first.")
        return self._message

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self._pieces

    async def aclose(self) -> None:
        """Cancel the rest of the answer."""
        await self._pieces.aclose()

    async def _run(self) -> AsyncGenerator[Piece, None]:
        import asyncio

        pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
        answer = asyncio.ensure_future(self._respond(pieces.put_nowait))
        answer.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            self._message = await answer
        finally:
            answer.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await answer  # the cancelled call still records its end
