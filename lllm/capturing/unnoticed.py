"""What goes wrong in recording a call, kept from the caller: a log line and a warning tell it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lllm.events.errors import BudgetExceeded, LogError, SessionEnded, WrongProcess

_logger = logging.getLogger("lllm.invoker")


class Stop(BaseException):
    """Carries an error of ours out of an SDK, which would take an Exception for its own."""

    def __init__(self, error: Exception) -> None:
        self.error = error


@contextmanager
def unnoticed(*, stops: bool = False) -> Iterator[None]:
    """Keep from the caller what goes wrong in recording.

    stops: whether the SDK is around this, which must not take our errors for the network's.
    """
    try:
        yield
    except WrongProcess:
        pass  # a forked child goes on with a call that its parent records
    except SessionEnded as error:
        _tell_of(error)
    except (BudgetExceeded, LogError) as error:
        if stops:
            raise Stop(error) from None
        raise
    except Exception as error:
        _tell_of(error)


def _tell_of(error: Exception) -> None:
    _logger.error("a captured call could not be recorded", exc_info=error)
    warnings.warn(
        f"A captured call could not be recorded: {type(error).__name__}: {error}",
        RuntimeWarning,
        stacklevel=5,
    )
