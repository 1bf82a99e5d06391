"""Turns the recorded end of an attempt or tool into the answer or the error that code gets.

When such an error is logged again, the log repeats the recorded error. A class that a log names is
never looked up, except for the built-in exceptions of Python.
"""

from __future__ import annotations

import builtins

import msgspec

from lllm.events.errors import InvokeError, ParseError
from lllm.events.model import Error, LLMFailed, LLMResponded, Price
from lllm.invokers import Answer, Finish

_RECORDED = "lllm_recorded"  # the attribute of an exception that holds its RecordedFailure
_FINISHES: tuple[Finish, ...] = ("stop", "tool_calls", "length", "content_filter", "other")
_CANCELLED = ("KeyboardInterrupt", "SystemExit", "GeneratorExit")
CANCELLED_TASK = "asyncio.exceptions.CancelledError"
_RETRYABLE = (408, 409, 425, 429)

_FREE = Price("free", nanos=0, reason="The answer comes from the log, and is not paid for again.")


def price_of_answered(price: Price | None) -> Price:
    """Make the price of an attempt that is answered from the log: 0, with the recorded cost.

    Args:
        price: The recorded price of the attempt; None if the price is unknown.

    Returns:
        A price of 0 nano-dollars. Its `recorded` is the recorded cost, if that is known.
    """
    recorded = None if price is None else price.nanos
    return _FREE if recorded is None else msgspec.structs.replace(_FREE, recorded=recorded)


def first_price(price: Price | None) -> Price | None:
    """Give the price that an attempt had when a model was asked, before any replay or fork.

    Args:
        price: The price in the recording; None if the price is unknown.

    Returns:
        The price with the first cost in `nanos`; None if the price is unknown.
    """
    if price is None or price.recorded is None:
        return price
    return msgspec.structs.replace(price, nanos=price.recorded, recorded=None)


class RecordedAnswer(Answer, frozen=True, kw_only=True):
    """The answer of a recorded attempt, with its recorded price."""

    price: Price
    """The price of the attempt when it was recorded."""


class RecordedFailure:
    """Keeps the record of an error, so that a replay logs the error as it was logged first.

    Args:
        error: The recorded error.
        attempt: The event of the failed attempt to call a model; None for a tool.
        wait: The recorded wait before the next attempt in nanoseconds; None if no attempt followed.
    """

    __slots__ = ("attempt", "error", "wait")

    def __init__(
        self, error: Error, attempt: LLMFailed | None = None, wait: int | None = None
    ) -> None:
        self.error = error
        self.attempt = attempt
        self.wait = wait

    def __reduce__(self) -> tuple[type[RecordedFailure], tuple[object, ...]]:
        return RecordedFailure, (self.error, self.attempt, self.wait)


class RecordedError(Exception):
    """Raised in a replay in place of a recorded exception whose class is not built into Python.

    It has the message of the recorded exception.
    """


def recorded_failure(error: BaseException) -> RecordedFailure | None:
    """Find the record of an error that a replay raised.

    Args:
        error: Any error that code met.

    Returns:
        The record of the error; None if the error is new and not from a recording.
    """
    found = error.__dict__.get(_RECORDED) if hasattr(error, "__dict__") else None
    return found if isinstance(found, RecordedFailure) else None


def answer_of(responded: LLMResponded) -> RecordedAnswer:
    """Make the complete answer of a recorded attempt.

    Args:
        responded: The event that ended the attempt.
    """
    finish: Finish = next((one for one in _FINISHES if one == responded.finish), "other")
    return RecordedAnswer(
        content=responded.content,
        finish=finish,
        model=responded.model,
        finish_raw=responded.finish_raw,
        response_id=responded.response_id,
        request_id=responded.request_id,
        service_tier=responded.service_tier,
        fingerprint=responded.fingerprint,
        usage_raw=responded.usage_raw,
        usage=responded.usage,
        first_token=responded.first_token,
        price=responded.price,
    )


def failure_of(failed: LLMFailed, *, retried: bool | None, wait: int | None) -> Exception:
    """Make the error of a recorded attempt that failed.

    Args:
        failed: The event that ended the attempt.
        retried: True if the agent tried again, or would have; False if the agent took the failure
            for final; None if neither is known.
        wait: The recorded wait before the next attempt in nanoseconds; None if no attempt followed.

    Returns:
        An InvokeError, or a built-in exception of Python if the attempt failed with one. The
        caller has to raise it.
    """
    error = failed.error
    recorded = RecordedFailure(error, failed, wait)
    if not error.type.endswith("InvokeError") and retried is not True:
        return _marked(_like(error), recorded)
    status = error.status
    if retried is None:
        retried = status is None or status in _RETRYABLE or status >= 500
    return _marked(
        InvokeError(
            error.message,
            retryable=retried,
            status=status,
            code=error.code,
            retry_after=failed.retry_after,
            request_id=failed.request_id,
            partial=failed.partial,
            usage=failed.usage,
            usage_raw=failed.usage_raw,
            service_tier=failed.service_tier,
            model=failed.model,
            unfinished=failed.unfinished,
        ),
        recorded,
    )


def tool_failure(error: Error) -> Exception:
    """Make the error of a recorded tool that failed.

    Args:
        error: The recorded error.

    Returns:
        An exception that is logged like the recorded error. The caller has to raise it.
    """
    return _marked(_like(error), RecordedFailure(error))


def is_stop(error: Error) -> bool:
    """True if a recorded error only stopped the code, such as Ctrl-C or a cancelled task.

    Args:
        error: The recorded error.
    """
    return error.type in _CANCELLED or error.type == CANCELLED_TASK


def _like(error: Error) -> Exception:
    if error.type == f"{ParseError.__module__}.{ParseError.__name__}":
        return ParseError(error.message)
    kind = getattr(builtins, error.type, None) if error.type.isidentifier() else None
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(error.message)
        except TypeError:  # it takes more than a message
            pass
    return RecordedError(error.message)


def _marked(error: Exception, recorded: RecordedFailure) -> Exception:
    setattr(error, _RECORDED, recorded)
    return error
