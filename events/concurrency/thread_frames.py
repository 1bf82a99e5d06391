"""Reads the stack frame that each thread is executing."""

from __future__ import annotations

import gc
import operator
import sys
from types import FrameType
from typing import cast

# Up to Python 3.11 an allocation may begin a collection, also those of `sys._current_frames`, which
# holds a lock of the interpreter. A finalizer that starts a thread there waits for that lock for
# ever: https://github.com/python/cpython/issues/106883
_COLLECTS_INSIDE = sys.version_info < (3, 12)
_UNCOLLECTED = (gc.disable, sys._current_frames, gc.enable)


def thread_frames() -> dict[int, FrameType]:
    """Get the innermost frame of each thread by its ident, without running finalizers."""
    if not _COLLECTS_INSIDE or not gc.isenabled():
        return sys._current_frames()
    try:
        # One step: between several, another thread could go on, or an interrupt come.
        frames = tuple(map(operator.call, _UNCOLLECTED))[1]
    except BaseException:  # there is no memory for it
        gc.enable()
        raise
    return cast("dict[int, FrameType]", frames)
