"""The effects that an agent's logic yields: commit events, call a model, run a tool, wait.

The logic is one generator that yields effects. `drive` runs them in a thread and `adrive` on an
event loop, so the logic is written only once.
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
    """Writes all staged events to the log, before the next effect runs.

    It is a separate effect so that an error of the log is never mistaken for a failed model call or
    tool.

    Args:
        recorder: The recorder with the staged events.
    """

    recorder: Recorder

    def run(self) -> object:
        """Write the events in this thread."""
        self.recorder.commit()
        return None

    async def arun(self) -> object:
        """Write the events on the event loop."""
        await self.recorder.acommit()
        return None


class BeginTurn(msgspec.Struct, frozen=True):
    """Finds out what a fork changes before a model call; the result is a TurnEdit, or None.

    Only the steps of a replayed or forked session yield it.

    Args:
        step: The number of the next answer within the agent call, from 1.
        attempt: The number of the try for that answer, from 1.
    """

    step: int
    attempt: int

    def run(self) -> object:
        """Return None: without a replay, nothing is changed."""
        return None

    async def arun(self) -> object:
        """Return None: without a replay, nothing is changed."""
        return None


class Invoke(msgspec.Struct, frozen=True):
    """Calls a model once; the result is an Answer.

    Args:
        invoker: The invoker that calls the model.
        request: The request to send.
        on_text: A function that is called with each piece of the answer's text, or once with all
            of it if the invoker can't stream; None for none.
    """

    invoker: Invoker
    request: Request
    on_text: OnText | None = None
    step: int = 1  # the number of the answer within the agent call
    attempt: int = 1  # the number of the try for that answer

    def run(self) -> object:
        """Call the model in this thread."""
        if self.on_text is None:
            return self.invoker.invoke(self.request)
        if isinstance(self.invoker, Streams):
            return self.invoker.stream(self.request, self.on_text)
        return _hand_on_text(self.invoker.invoke(self.request), self.on_text)

    async def arun(self) -> object:
        """Call the model on the event loop."""
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
        tool: The tool to run.
        arguments: The arguments, by name.
        ordinal: The number of this tool call within the session.
    """

    tool: Tool[..., object]
    arguments: Mapping[str, object]
    ordinal: int
    index: int = 0  # the place of the call in the answer, from 0

    def run(self) -> object:
        """Run the tool in this thread."""
        with during(current_tool, self.ordinal):
            return self.tool.run(self.arguments)

    async def arun(self) -> object:
        """Run the tool on the event loop, or in a thread if it is not async."""
        with during(current_tool, self.ordinal):
            return await self.tool.arun(self.arguments)


class ToolEnded(Protocol):
    """A callback for each of several tools, called when that tool ends."""

    def __call__(
        self, index: int, value: object, error: BaseException | None, elapsed: int
    ) -> None:
        """Record the end of a tool.

        Args:
            index: The index of the tool among the tools that run.
            value: The return value; None if the tool failed.
            error: The error of the tool; None if it returned.
            elapsed: The duration of the run, in nanoseconds.
        """


class RunTools(msgspec.Struct, frozen=True):
    """Runs several tools at the same time, and commits the events of each as it ends.

    If a tool raises an error that is not an Exception, the others end: tasks are cancelled; threads
    can't be cancelled, and nobody waits for them.

    Args:
        runs: The tools, in the order in which they begin.
        at_once: The number of sync tools that may run at the same time; async tools all run at
            once.
        ended: Called when a tool has ended, in the thread that ran it.
        recorder: The recorder to which `ended` stages events.
    """

    runs: tuple[RunTool, ...]
    at_once: int
    ended: ToolEnded
    recorder: Recorder

    def run(self) -> object:
        """Run the tools in threads."""
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
        """Run the tools as tasks on the event loop."""
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
    """Waits before the next effect runs.

    Args:
        nanoseconds: The length of the wait.
    """

    nanoseconds: int

    def run(self) -> object:
        """Wait in this thread."""
        time.sleep(self.nanoseconds / 1_000_000_000)
        return None

    async def arun(self) -> object:
        """Wait on the event loop."""
        import asyncio

        await asyncio.sleep(self.nanoseconds / 1_000_000_000)
        return None


def carried_out(steps: Steps[T], carry_out: Callable[[Effect], Steps[object]]) -> Steps[T]:
    """Replace how the effects of some steps are run.

    Args:
        steps: The generator that yields the effects.
        carry_out: A function that returns the steps to run in place of an effect; their result or
            error becomes that of the effect.

    Returns:
        Steps that return the same as the given ones.
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
    """Run the effects of some steps in this thread.

    Args:
        steps: The generator that yields the effects.
        recorder: The recorder with the staged events; all are in the log when this returns.

    Returns:
        The return value of the steps.

    Raises:
        BaseException: The error of the steps.
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
    """Run the effects of some steps on the event loop; otherwise the same as `drive`.

    Args:
        steps: The generator that yields the effects.
        recorder: The recorder with the staged events; all are in the log when this returns.

    Returns:
        The return value of the steps.

    Raises:
        BaseException: The error of the steps.
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
