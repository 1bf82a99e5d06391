"""Detects a `with` inside a generator.

The body of a generator runs in pieces, and its caller's code in between, in the same context: what
a `with` around a `yield` sets there, the caller finds set.
"""

from __future__ import annotations

import inspect
import warnings
from types import FrameType

_KINDS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
# Whoever drives a generator as a context manager or a fixture means what is inside by its yield.
_MANAGERS = ("contextlib", "_pytest.fixtures", "pytest_asyncio.plugin")


def frame_of_generator(frame: FrameType | None) -> FrameType | None:
    """Find the generator that contains a `with`.

    Args:
        frame: Of the code that enters the `with`. A generator under `@contextmanager` stands for
            the code that uses it.

    Returns:
        The generator's frame; None where its caller's code never runs in the middle of it.
    """
    while frame is not None:
        frame = _behind_managers(frame)
        if frame is None or not frame.f_code.co_flags & _KINDS:
            return None
        above = frame.f_back
        if above is None or not _is_manager(above):
            return frame
        frame = above
    return None


def is_async(frame: FrameType) -> bool:
    """True if a frame belongs to an asynchronous generator."""
    return bool(frame.f_code.co_flags & inspect.CO_ASYNC_GENERATOR)


def _behind_managers(frame: FrameType | None) -> FrameType | None:
    while frame is not None and _is_manager(frame):
        frame = frame.f_back
    return frame


def _is_manager(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") in _MANAGERS


_warned = False


def warn_of_async_generator(frame: FrameType) -> None:
    """Warn once of a `with` around a yield, and say what to use instead.

    Args:
        frame: Of the generator.
    """
    global _warned
    if _warned:
        return
    _warned = True
    warnings.warn(
        f"{frame.f_code.co_qualname} has `with store.session(...)` around a yield. Nobody can tell "
        "when an asynchronous generator is not running, so while it waits at the yield its session "
        "gets the calls of its caller's code. Put @store.tactic(...) above it instead: that "
        "attaches the session for each step.",
        UserWarning,
        stacklevel=4,
    )
