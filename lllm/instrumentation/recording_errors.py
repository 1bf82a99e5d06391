"""Hides errors of the recording from the caller; a log line and a warning report them."""

from __future__ import annotations

import logging
import warnings
from contextlib import suppress

from lllm.events.errors import BudgetExceeded, LogError, SessionEnded, WrongProcess
from lllm.sessions.session import SessionScope

_logger = logging.getLogger("lllm.invoker")


class RecorderAbort(BaseException):
    """Carries an lllm error past the SDK's `except Exception`.

    The SDK would treat the error as a network error, and retry.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error


class isolate_recording_errors:  # noqa: N801 - a `with`, like those of contextlib
    """Log errors of the recording instead of raising them to the caller.

    Two errors are raised, because the user asked for them: BudgetExceeded, and LogUnavailable if
    the store was opened with `on_error="raise"`.

    Args:
        session: The session that is being recorded; None if there is none yet.
        inside: True if the SDK calls this code. Errors are then raised as RecorderAbort, which the
            SDK does not treat as a network error.
        failing: True if the SDK is already raising an error; no other error replaces it.
    """

    __slots__ = ("_failing", "_inside", "_session")

    def __init__(
        self, session: SessionScope | None = None, *, inside: bool = False, failing: bool = False
    ) -> None:
        self._session = session
        self._inside = inside
        self._failing = failing

    def __enter__(self) -> None:
        """Begin the protected block."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        if isinstance(error, WrongProcess):
            return True  # a forked child continues a call that its parent records
        wanted = isinstance(error, BudgetExceeded | LogError) and _is_wanted(error, self._session)
        if self._failing or not wanted:
            _warn_of(error)
            return True
        if self._inside:
            raise RecorderAbort(error) from None
        return False


def _is_wanted(error: Exception, session: SessionScope | None) -> bool:
    if isinstance(error, SessionEnded):
        return False
    return isinstance(error, BudgetExceeded) or (session is not None and session.host.log.raises)


def _warn_of(error: Exception) -> None:
    """Warn the user that a call could not be recorded."""
    # a user's log handler may raise, or a filter may turn the warning into an error
    with suppress(Exception):
        _logger.error("a captured call could not be recorded", exc_info=error)
    with suppress(Exception):
        warnings.warn(
            f"A captured call could not be recorded: {type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=4,
        )
