"""Lets callers read an answer with `async for` while the model is still writing it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress

from lllm.agents.dialog import Message, Piece


class AnswerStream:
    """A model's answer as an `async for` over pieces of its text, as they arrive.

        answer = agent.stream()
        async for piece in answer:
            print(piece, end="", flush=True)
        print(answer.message.cost)

    The answer is asked for when the loop begins; leaving the loop early cancels it, once this is
    closed (`contextlib.aclosing` closes it at once). What `arespond` raises, the loop raises.

    Args:
        respond: Asks for the answer; gets what is called with each piece of it.
    """

    def __init__(self, respond: Callable[[Callable[[Piece], object]], Awaitable[Message]]) -> None:
        self._respond = respond
        self._message: Message | None = None
        self._pieces = self._run()

    @property
    def message(self) -> Message:
        """Wait for the whole answer.

        Raises:
            RuntimeError: The loop has not come to its end yet.
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
                await answer  # what is cancelled still writes that it was
