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

    The SDK would take it for an error of the network, and try again.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error


class isolate_recording_errors:  # noqa: N801 - a `with`, like those of contextlib
    """Log errors of the recording instead of raising them to the caller.

    Two things are the caller's wish, and are raised: a budget that is spent, and a log that can't
    be written where the store was made with `on_error="raise"`.

    Args:
        session: What is recorded.
        inside: True if the SDK is around this, which must not take our errors for the network's.
        failing: True if the SDK's own error is on its way to the caller, which nothing replaces.
    """

    __slots__ = ("_failing", "_inside", "_session")

    def __init__(
        self, session: SessionScope | None = None, *, inside: bool = False, failing: bool = False
    ) -> None:
        self._session = session
        self._inside = inside
        self._failing = failing

    def __enter__(self) -> None:
        """See the class."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        if isinstance(error, WrongProcess):
            return True  # a forked child goes on with a call that its parent records
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
    with suppress(Exception):  # a handler of the user's, or a warning that is told to be an error
        _logger.error("a captured call could not be recorded", exc_info=error)
    with suppress(Exception):
        warnings.warn(
            f"A captured call could not be recorded: {type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=4,
        )
