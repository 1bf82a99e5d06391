"""Tells how a framework has called a hook: from a coroutine, from a generator, or plainly."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import FrameType

_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def _frames_of(modules: tuple[str, ...]) -> Iterator[FrameType]:
    """The frames of a framework that have called a hook, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(_OURS):
        frame = frame.f_back
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(modules):
        yield frame
        frame = frame.f_back


_OURS = __name__.rpartition(".")[0]


def is_awaited(modules: tuple[str, ...]) -> bool:
    """True if a coroutine of a framework has called the hook that asks.

    Args:
        modules: How the names of the framework's modules begin.
    """
    frame = next(_frames_of(modules), None)
    return frame is not None and bool(frame.f_code.co_flags & inspect.CO_COROUTINE)


def generator_of(modules: tuple[str, ...]) -> FrameType | None:
    """Find the generator of a framework, if any, that has called the hook that asks.

    Args:
        modules: How the names of the framework's modules begin.

    Returns:
        The frame of the generator, also of an asynchronous one; None if none has called it.
    """
    found = (frame for frame in _frames_of(modules) if frame.f_code.co_flags & _GENERATORS)
    return next(found, None)


def is_async_generator(frame: FrameType) -> bool:
    """True if a frame belongs to an asynchronous generator."""
    return bool(frame.f_code.co_flags & inspect.CO_ASYNC_GENERATOR)
