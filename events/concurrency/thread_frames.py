"""Finds the stack frame that each thread is executing."""

from __future__ import annotations

import gc
import operator
import sys
from types import FrameType
from typing import cast

# Up to Python 3.11 an allocation may start a collection, also inside `sys._current_frames`, which
# holds a lock of the interpreter. A finalizer that starts a thread there waits for that lock
# forever: https://github.com/python/cpython/issues/106883
_COLLECTS_INSIDE = sys.version_info < (3, 12)
_UNCOLLECTED = (gc.disable, sys._current_frames, gc.enable)


def thread_frames() -> dict[int, FrameType]:
    """Get the innermost frame of each thread, without running finalizers.

    Returns:
        The frames by the idents of their threads.
    """
    if not _COLLECTS_INSIDE or not gc.isenabled():
        return sys._current_frames()
    try:
        # In one step: between several, another thread could continue, or an interrupt could come.
        frames = tuple(map(operator.call, _UNCOLLECTED))[1]
    except BaseException:  # not enough memory
        gc.enable()
        raise
    return cast("dict[int, FrameType]", frames)
