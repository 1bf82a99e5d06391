"""What an agent asks of the world, apart from how it is carried out.

The logic of an agent is one generator that yields effects: commit what is staged, call this model,
run that tool, wait. `drive` carries them out in a thread and `adrive` on an event loop, so that the
logic exists once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Protocol, TypeVar

import msgspec

from lllm.events.concurrency.thread_starts import starting_threads
from lllm.events.recorder import Recorder
from lllm.invokers import Answer, Invoker, OnText, Request, Streams
from lllm.pricing.genai_prices import make_ready_aside
from lllm.sessions.current_session import current_tool
from lllm.tools.tool import Tool

T = TypeVar("T")


class Effect(Protocol):
    """Something to be done outside, in a thread or on an event loop."""

    def run(self) -> object: ...
    async def arun(self) -> object: ...


Steps = Generator[Effect, object, T]


class Commit(msgspec.Struct, frozen=True):
    """Make durable what led to the effect that follows. It is one of its own, so that a log that
    can't be written is never taken for a model or a tool that failed."""

    recorder: Recorder

    def run(self) -> object:
        self.recorder.commit()
        return None

    async def arun(self) -> object:
        await self.recorder.acommit()
        return None


class Invoke(msgspec.Struct, frozen=True):
    """Call a model once; gives an Answer. on_text: gets its text while it comes, or all of it at
    once from an invoker that can't stream."""

    invoker: Invoker
    request: Request
    on_text: OnText | None = None

    def run(self) -> object:
        if self.on_text is None:
            return self.invoker.invoke(self.request)
        if isinstance(self.invoker, Streams):
            return self.invoker.stream(self.request, self.on_text)
        return self._told(self.invoker.invoke(self.request), self.on_text)

    async def arun(self) -> object:
        make_ready_aside()
        if self.on_text is None:
            return await self.invoker.ainvoke(self.request)
        if isinstance(self.invoker, Streams):
            return await self.invoker.astream(self.request, self.on_text)
        return self._told(await self.invoker.ainvoke(self.request), self.on_text)

    @staticmethod
    def _told(answer: Answer, on_text: OnText) -> Answer:
        if isinstance(answer, Answer) and answer.content.text:
            on_text(answer.content.text)
        return answer


class RunTool(msgspec.Struct, frozen=True):
    """Run a tool; gives what it returns. ordinal: the tool interrupt that it is."""

    tool: Tool[..., object]
    arguments: Mapping[str, object]
    ordinal: int

    def run(self) -> object:
        token = current_tool.set(self.ordinal)
        try:
            return self.tool.run(self.arguments)
        finally:
            current_tool.reset(token)

    async def arun(self) -> object:
        token = current_tool.set(self.ordinal)
        try:
            return await self.tool.arun(self.arguments)
        finally:
            current_tool.reset(token)


class ToolEnded(Protocol):
    """Told once of each of several tools: what it returned, or raised. elapsed: nanoseconds."""

    def __call__(
        self, index: int, value: object, error: BaseException | None, elapsed: int
    ) -> None: ...


class RunTools(msgspec.Struct, frozen=True):
    """Run several tools at once. Each that has ended is made durable then.

    What one raises that is no Exception ends the others: tasks are cancelled, threads that run
    can't be and are left.

    at_once: how many plain ones may run, in the order of the runs.
    """

    runs: tuple[RunTool, ...]
    at_once: int
    ended: ToolEnded
    recorder: Recorder

    def run(self) -> object:
        from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

        pool = ThreadPoolExecutor(self.at_once, thread_name_prefix="lllm-tool")
        try:
            works = [
                partial(copy_context().run, self._one, index, run)
                for index, run in enumerate(self.runs)
            ]
            futures = starting_threads(lambda: [pool.submit(work) for work in works])
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        return None

    @contextmanager
    def _told(self, index: int) -> Iterator[list[object]]:
        """Tell how a tool ended. Takes what it returned as the only item of the list."""
        began = time.perf_counter_ns()
        returned: list[object] = []
        try:
            yield returned
        except BaseException as error:
            self.ended(index, None, error, time.perf_counter_ns() - began)
            if not isinstance(error, Exception):
                raise
        else:
            self.ended(index, returned[0], None, time.perf_counter_ns() - began)

    def _one(self, index: int, run: RunTool) -> None:
        with self._told(index) as returned:
            returned.append(run.run())
        self.recorder.commit()

    async def arun(self) -> object:
        import asyncio

        turns = asyncio.Semaphore(self.at_once)

        async def one(index: int, run: RunTool) -> None:
            if run.tool.is_async:
                await self._aone(index, run)
                return
            async with turns:
                await self._aone(index, run)

        tasks = [asyncio.create_task(one(index, run)) for index, run in enumerate(self.runs)]
        try:
            await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        return None

    async def _aone(self, index: int, run: RunTool) -> None:
        with self._told(index) as returned:
            returned.append(await run.arun())
        await self.recorder.acommit()


class Wait(msgspec.Struct, frozen=True):
    """Wait for some nanoseconds."""

    nanoseconds: int

    def run(self) -> object:
        time.sleep(self.nanoseconds / 1_000_000_000)
        return None

    async def arun(self) -> object:
        import asyncio

        await asyncio.sleep(self.nanoseconds / 1_000_000_000)
        return None


def drive(steps: Steps[T], recorder: Recorder) -> T:
    """Carry out the effects of `steps` in this thread; returns what they return, once everything
    they staged is durable."""
    advance: Callable[[], Effect] = partial(next, steps)
    try:
        while True:
            effect = advance()
            try:
                result = effect.run()
            except BaseException as error:
                advance = partial(steps.throw, error)
            else:
                advance = partial(steps.send, result)
    except StopIteration as stop:
        returned: T = stop.value
    except BaseException as error:
        recorder.commit_after(error)
        raise
    recorder.commit()
    return returned


async def adrive(steps: Steps[T], recorder: Recorder) -> T:
    """The same on the event loop."""
    advance: Callable[[], Effect] = partial(next, steps)
    try:
        while True:
            effect = advance()
            try:
                result = await effect.arun()
            except BaseException as error:
                advance = partial(steps.throw, error)
            else:
                advance = partial(steps.send, result)
    except StopIteration as stop:
        returned: T = stop.value
    except BaseException as error:
        await recorder.acommit_after(error)
        raise
    await recorder.acommit()
    return returned
