"""Detects a `with` inside a generator.

The body of a generator runs in steps, and its caller's code in between, in the same context. So the
caller sees the context variables that a `with` around a `yield` has set.
"""

from __future__ import annotations

import inspect
import warnings
from types import FrameType

_KINDS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
# For these, a generator is a context manager or a fixture: its yield stands for the caller's block.
_MANAGERS = ("contextlib", "_pytest.fixtures", "pytest_asyncio.plugin")


def frame_of_generator(frame: FrameType | None) -> FrameType | None:
    """Find the generator that contains a `with`.

    Args:
        frame: The frame of the code that enters the `with`. If that is a generator under
            `@contextmanager`, the code that uses the context manager is meant.

    Returns:
        The generator's frame; None if no caller's code runs between its steps.
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
        frame: The frame of the generator.
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
