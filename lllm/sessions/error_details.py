"""Converts an exception to its recorded form."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from lllm.events.concurrency.shielded import is_cancelled_task
from lllm.events.model import Error
from lllm.pricing.failed_attempts import http_status
from lllm.replay.outcome import recorded_failure


def describe(error: BaseException, clean: Callable[[str], str] = str) -> Error:
    """Convert an exception to its recorded form.

    Args:
        error: The exception.
        clean: A function that removes secrets from its texts.

    Returns:
        Its type, message and traceback, and its code and status if it has them.
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
    except Exception:  # a property of a user's class may raise anything
        return None


def is_cancellation(error: BaseException) -> bool:
    """True if an exception stops the program or task on purpose and is not a fault.

    Args:
        error: The exception.

    Returns:
        True for Ctrl-C, SystemExit, a generator that is closed, and a task that is cancelled.
    """
    if isinstance(error, Exception):
        return False
    ends = KeyboardInterrupt | SystemExit | GeneratorExit
    return isinstance(error, ends) or is_cancelled_task(error)
