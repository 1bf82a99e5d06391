"""What a recorded attempt or tool comes to in a replay: an answer, a result, or an error.

An error is told in the record as it was told then. No class is looked up that a log names, but for
Python's own exceptions.
"""

from __future__ import annotations

import builtins

import msgspec

from lllm.events.errors import InvokeError, ParseError
from lllm.events.model import Error, LLMFailed, LLMResponded, Price
from lllm.invokers import Answer, Finish

_RECORDED = "lllm_recorded"  # the attribute of an exception
_FINISHES: tuple[Finish, ...] = ("stop", "tool_calls", "length", "content_filter", "other")
_CANCELLED = ("KeyboardInterrupt", "SystemExit", "GeneratorExit")
CANCELLED_TASK = "asyncio.exceptions.CancelledError"
_RETRYABLE = (408, 409, 425, 429)

_FREE = Price("free", nanos=0, reason="The answer comes from the log, and is not paid for again.")


def price_of_answered(price: Price | None) -> Price:
    """The price of an attempt that is answered from the log: nothing, with what it cost then.

    Args:
        price: What it cost when it was recorded; None where nobody said.
    """
    recorded = None if price is None else price.nanos
    return _FREE if recorded is None else msgspec.structs.replace(_FREE, recorded=recorded)


def first_price(price: Price | None) -> Price | None:
    """What an attempt cost when its answer was first given: before any replay or fork of it.

    Args:
        price: As it is recorded.
    """
    if price is None or price.recorded is None:
        return price
    return msgspec.structs.replace(price, nanos=price.recorded, recorded=None)


class RecordedAnswer(Answer, frozen=True, kw_only=True):
    """The answer of a recorded attempt."""

    price: Price
    """What it cost then."""


class RecordedFailure:
    """How an error was told when it happened.

    Args:
        error: The error as it was recorded.
        attempt: The failed attempt to call a model; None for a tool.
        wait: Nanoseconds that were waited before the next attempt; None where none followed.
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
    """An error that a model or a tool met when a session was recorded; its message is that one's.

    It stands for an exception whose class is not Python's own.
    """


def recorded_failure(error: BaseException) -> RecordedFailure | None:
    """How an error of a replay was told when it happened.

    Args:
        error: Any error.

    Returns:
        None for one that was raised now.
    """
    found = error.__dict__.get(_RECORDED) if hasattr(error, "__dict__") else None
    return found if isinstance(found, RecordedFailure) else None


def answer_of(responded: LLMResponded) -> RecordedAnswer:
    """The answer of a recorded attempt, whole.

    Args:
        responded: What was recorded of it.
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
    """The error of a recorded attempt that failed.

    Args:
        failed: What was recorded of it.
        retried: True where another attempt followed or would have, False where the agent took it
            for one that no other mends; None where nobody knows.
        wait: Nanoseconds that were waited before the next.

    Returns:
        An InvokeError, or an error of Python's own where that was met. It is not raised yet.
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
    """The error of a recorded tool that failed.

    Args:
        error: As it was recorded.

    Returns:
        An error that is told as that one was. It is not raised yet.
    """
    return _marked(_like(error), RecordedFailure(error))


def is_stop(error: Error) -> bool:
    """Tell whether an error was no fault but the wish to stop: Ctrl-C, a cancelled task.

    Args:
        error: As it was recorded.
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
