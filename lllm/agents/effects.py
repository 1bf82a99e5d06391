"""The effects that an agent's logic yields: commit events, call a model, run a tool, wait.

The logic is one generator that yields effects. `drive` carries them out in a thread and `adrive` on
an event loop, so that the logic exists once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from functools import partial
from typing import Protocol, TypeVar

import msgspec

from lllm.events.concurrency.thread_starts import starting_threads
from lllm.events.recorder import Recorder
from lllm.invokers import Answer, Invoker, OnText, Request, Streams
from lllm.pricing.genai_prices import make_ready_aside
from lllm.sessions.context_values import during
from lllm.sessions.current_session import current_tool
from lllm.tools.tool import Tool

T = TypeVar("T")


class Effect(Protocol):
    """An action with a result, which runs either in a thread or on an event loop."""

    def run(self) -> object:
        """Run the effect in this thread; the result is sent back to the generator of steps."""

    async def arun(self) -> object:
        """Run the effect on the event loop; the result is sent back to the generator of steps."""


Steps = Generator[Effect, object, T]


class Commit(msgspec.Struct, frozen=True):
    """Writes all events that were staged so far, before the next effect runs.

    It is an effect of its own, so that a log that can't be written is never taken for a model or a
    tool that failed.

    Args:
        recorder: Holds what is staged.
    """

    recorder: Recorder

    def run(self) -> object:
        """See Effect."""
        self.recorder.commit()
        return None

    async def arun(self) -> object:
        """See Effect."""
        await self.recorder.acommit()
        return None


class BeginTurn(msgspec.Struct, frozen=True):
    """Asks what a fork changes before the model is asked; the result is a TurnEdit, or None.

    Only a replayed or forked session yields it.

    Args:
        step: Which answer of the agent call comes next.
        attempt: Which try of it.
    """

    step: int
    attempt: int

    def run(self) -> object:
        """See Effect."""
        return None

    async def arun(self) -> object:
        """See Effect."""
        return None


class Invoke(msgspec.Struct, frozen=True):
    """Calls a model once; the result is an Answer.

    Args:
        invoker: Calls the model.
        request: What is asked.
        on_text: Gets the text of the answer while it comes, or all of it at once from an invoker
            that can't stream.
    """

    invoker: Invoker
    request: Request
    on_text: OnText | None = None
    step: int = 1  # which answer of the agent call it is for
    attempt: int = 1  # of that answer

    def run(self) -> object:
        """See Effect."""
        if self.on_text is None:
            return self.invoker.invoke(self.request)
        if isinstance(self.invoker, Streams):
            return self.invoker.stream(self.request, self.on_text)
        return _hand_on_text(self.invoker.invoke(self.request), self.on_text)

    async def arun(self) -> object:
        """See Effect."""
        make_ready_aside()
        if self.on_text is None:
            return await self.invoker.ainvoke(self.request)
        if isinstance(self.invoker, Streams):
            return await self.invoker.astream(self.request, self.on_text)
        return _hand_on_text(await self.invoker.ainvoke(self.request), self.on_text)


def _hand_on_text(answer: Answer, on_text: OnText) -> Answer:
    if isinstance(answer, Answer) and answer.content.text:
        on_text(answer.content.text)
    return answer


class RunTool(msgspec.Struct, frozen=True):
    """Runs a tool; the result is the tool's return value.

    Args:
        tool: The tool.
        arguments: By name.
        ordinal: The number of this tool call in the session.
    """

    tool: Tool[..., object]
    arguments: Mapping[str, object]
    ordinal: int
    index: int = 0  # of the call in the answer that asks for it

    def run(self) -> object:
        """See Effect."""
        with during(current_tool, self.ordinal):
            return self.tool.run(self.arguments)

    async def arun(self) -> object:
        """See Effect."""
        with during(current_tool, self.ordinal):
            return await self.tool.arun(self.arguments)


class ToolEnded(Protocol):
    """A callback for each of several tools, called when that tool ends."""

    def __call__(
        self, index: int, value: object, error: BaseException | None, elapsed: int
    ) -> None:
        """Record how a tool ended.

        Args:
            index: Which of the tools it is.
            value: What it returned.
            error: What it raised; None where it returned.
            elapsed: Nanoseconds that it ran.
        """


class RunTools(msgspec.Struct, frozen=True):
    """Runs several tools at the same time, and commits the events of each as it ends.

    What one raises that is no Exception ends the others: tasks are cancelled, threads that run
    can't be and are left.

    Args:
        runs: The tools, in the order that they begin in.
        at_once: How many plain tools may run at the same time; async ones all do.
        ended: Called when a tool has ended, in the thread that ran it.
        recorder: Holds what `ended` stages.
    """

    runs: tuple[RunTool, ...]
    at_once: int
    ended: ToolEnded
    recorder: Recorder

    def run(self) -> object:
        """See Effect."""
        from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

        pool = ThreadPoolExecutor(self.at_once, thread_name_prefix="lllm-tool")
        try:
            works = [
                partial(copy_context().run, self._run_one, index, run)
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
    def _reports_end(self, index: int) -> Iterator[list[object]]:
        """A `with` around a tool that calls `ended` with the tool's result."""
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

    def _run_one(self, index: int, run: RunTool) -> None:
        with self._reports_end(index) as returned:
            returned.append(run.run())
        self.recorder.commit()

    async def arun(self) -> object:
        """See Effect."""
        import asyncio

        turns = asyncio.Semaphore(self.at_once)

        async def in_turn(index: int, run: RunTool) -> None:
            async with nullcontext() if run.tool.is_async else turns:
                with self._reports_end(index) as returned:
                    returned.append(await run.arun())
                await self.recorder.acommit()

        tasks = [asyncio.create_task(in_turn(index, run)) for index, run in enumerate(self.runs)]
        try:
            await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        return None


class Wait(msgspec.Struct, frozen=True):
    """Waits for some seconds.

    Args:
        nanoseconds: How long.
    """

    nanoseconds: int

    def run(self) -> object:
        """See Effect."""
        time.sleep(self.nanoseconds / 1_000_000_000)
        return None

    async def arun(self) -> object:
        """See Effect."""
        import asyncio

        await asyncio.sleep(self.nanoseconds / 1_000_000_000)
        return None


def carried_out(steps: Steps[T], carry_out: Callable[[Effect], Steps[object]]) -> Steps[T]:
    """Have every effect of some steps carried out in another way.

    Args:
        steps: What yields the effects.
        carry_out: The steps in place of an effect; what they return or raise is its result.

    Returns:
        Steps that return what the given ones do.
    """
    advance: Callable[[], Effect] = partial(next, steps)
    while True:
        try:
            effect = advance()
        except StopIteration as stop:
            returned: T = stop.value
            return returned
        try:
            result = yield from carry_out(effect)
        except BaseException as error:
            advance = partial(steps.throw, error)
        else:
            advance = partial(steps.send, result)


def drive(steps: Steps[T], recorder: Recorder) -> T:
    """Run effects in this thread.

    Args:
        steps: What yields them.
        recorder: Holds what the steps stage; all of it is durable when this returns.

    Returns:
        What the steps return.

    Raises:
        BaseException: What the steps raise.
    """
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
    """Run effects on the event loop; otherwise the same as `drive`.

    Args:
        steps: What yields them.
        recorder: Holds what the steps stage; all of it is durable when this returns.

    Returns:
        What the steps return.

    Raises:
        BaseException: What the steps raise.
    """
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
