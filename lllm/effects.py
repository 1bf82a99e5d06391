"""What an agent asks of the world, apart from how it is carried out.

The logic of an agent is one generator that yields effects: call this model, run that tool, wait.
`drive` carries them out in a thread and `adrive` on an event loop, so that the logic exists once.
Before each effect, what is staged is committed: everything that led to a call is durable when the
call begins.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Mapping
from contextvars import ContextVar
from typing import Protocol, TypeVar

import msgspec

from lllm.events.recorder import Recorder
from lllm.invokers import Invoker, Request
from lllm.tools import Tool

T = TypeVar("T")

current_tool: ContextVar[int | None] = ContextVar("lllm_tool", default=None)


class Effect(Protocol):
    """Something to be done outside, in a thread or on an event loop."""

    def run(self) -> object: ...
    async def arun(self) -> object: ...


Steps = Generator[Effect, object, T]


class Invoke(msgspec.Struct, frozen=True):
    """Call a model once; gives an Answer."""

    invoker: Invoker
    request: Request

    def run(self) -> object:
        return self.invoker.invoke(self.request)

    async def arun(self) -> object:
        return await self.invoker.ainvoke(self.request)


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


class Wait(msgspec.Struct, frozen=True):
    """Wait for some nanoseconds."""

    nanoseconds: int

    def run(self) -> object:
        time.sleep(self.nanoseconds / 1_000_000_000)
        return None

    async def arun(self) -> object:
        await asyncio.sleep(self.nanoseconds / 1_000_000_000)
        return None


def drive(steps: Steps[T], recorder: Recorder) -> T:
    """Carry out the effects of `steps` in this thread; returns what they return."""
    advance: Callable[[], Effect] = lambda: next(steps)  # noqa: E731 # it is set anew below
    try:
        while True:
            effect = advance()
            try:
                recorder.commit()
                result = effect.run()
            except BaseException as error:
                advance = _throw(steps, error)
            else:
                advance = _send(steps, result)
    except StopIteration as stop:
        returned: T = stop.value
        return returned
    finally:
        recorder.commit()


async def adrive(steps: Steps[T], recorder: Recorder) -> T:
    """Carry out the effects of `steps` on the event loop; returns what they return."""
    advance: Callable[[], Effect] = lambda: next(steps)  # noqa: E731 # it is set anew below
    try:
        while True:
            effect = advance()
            try:
                await recorder.acommit()
                result = await effect.arun()
            except BaseException as error:
                advance = _throw(steps, error)
            else:
                advance = _send(steps, result)
    except StopIteration as stop:
        returned: T = stop.value
        await recorder.acommit()
        return returned
    finally:
        recorder.commit()  # after an error, when an await could be cancelled; else nothing is left


def _send(steps: Steps[T], result: object) -> Callable[[], Effect]:
    return lambda: steps.send(result)


def _throw(steps: Steps[T], error: BaseException) -> Callable[[], Effect]:
    return lambda: steps.throw(error)
