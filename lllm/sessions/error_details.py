"""Makes the recorded form of an exception."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from lllm.events.concurrency.shielded import is_cancelled_task
from lllm.events.model import Error
from lllm.pricing.failed_attempts import http_status
from lllm.replay.outcome import recorded_failure


def describe(error: BaseException, clean: Callable[[str], str] = str) -> Error:
    """Make the recorded form of an exception.

    Args:
        error: The exception.
        clean: Cuts from its texts what must not be told.

    Returns:
        Its type, message, traceback, and the code and status where it has them.
    """
    recorded = recorded_failure(error)
    if recorded is not None:
        return recorded.error
    try:
        message = str(error)
    except Exception:  # a user's __str__ may raise anything
        message = "(its message could not be made)"
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    code, status = _attribute(error, "code"), _attribute(error, "status")
    return Error(
        name,
        clean(message),
        clean(_traceback(error)),
        clean(code) if isinstance(code, str) else None,
        status if isinstance(status, int) else http_status(error),
    )


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # a user's __notes__ or __cause__ may raise anything
        return "".join(traceback.format_tb(error.__traceback__))


def _attribute(error: BaseException, name: str) -> object:
    try:
        return getattr(error, name, None)
    except Exception:  # a property of the user's
        return None


def is_cancellation(error: BaseException) -> bool:
    """True if an exception stops the program or task on purpose and is not a fault.

    Args:
        error: What was raised.

    Returns:
        True for Ctrl-C, SystemExit, a generator that is closed, and a task that is cancelled.
    """
    if isinstance(error, Exception):
        return False
    ends = KeyboardInterrupt | SystemExit | GeneratorExit
    return isinstance(error, ends) or is_cancelled_task(error)
