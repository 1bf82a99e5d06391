"""Delivers batches to a receiver: waits while it is away, and divides what is too large for it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from lllm.otel.otlp_format import OtlpFormat, Rejected, Signal
from lllm.otel.otlp_post import TooLarge, TryAgain, WrongReceiver

_FIRST_WAIT = 1.0  # seconds; each further one is twice as long
_LONGEST_WAIT = 60.0
_FAILURES = 5  # internal errors of the receiver, after which a request is taken for their cause

Wait = Callable[[float], bool]
"""Waits some seconds; returns True if the sender should stop."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent, and what the receiver refused of it.

    Attributes:
        spans: Spans that were accepted.
        logs: Log records that were accepted.
        rejected: Spans and log records that the receiver refused for good.
    """

    spans: int = 0
    logs: int = 0
    rejected: int = 0

    def plus(self, other: Counts) -> Counts:
        """Add what was sent after this."""
        return Counts(
            spans=self.spans + other.spans,
            logs=self.logs + other.logs,
            rejected=self.rejected + other.rejected,
        )


class Output(Protocol):
    """Takes encoded records: a receiver or a file."""

    @property
    def form(self) -> OtlpFormat:
        """Encodes the records."""

    def send(self, signal: Signal, records: list[bytes]) -> Rejected:
        """Send records, or write them; see `HttpOutput.send`."""


class Undelivered(Exception):
    """What was not delivered before the sender had to stop; the message says why."""


class Delivery:
    """Sends records until the receiver has them.

    Args:
        output: The receiver or file.
        wait: Waits between two tries.
        patience: The longest time without success, in seconds; None for no limit. A receiver that
            refuses every request, because of a wrong key for example, ends it at once if there is
            a limit.
        tell: Is called with what a user should know, such as that the receiver is away.

    Attributes:
        waiting: Why the last try failed; empty after a success.
        is_abandoned: True if nobody waits for the delivery any more, so it has to end.
    """

    def __init__(
        self, output: Output, wait: Wait, *, patience: float | None, tell: Callable[[str], None]
    ) -> None:
        self._output = output
        self._wait = wait
        self._patience = patience
        self._tell = tell
        self._told: set[str] = set()
        self._takes_logs = True
        self.waiting = ""
        self.is_abandoned = False

    def deliver(self, signal: Signal, records: list[bytes]) -> Counts:
        """Send records, and wait until they are accepted or refused for good.

        Args:
            signal: What they are.
            records: The encoded records; a request has all of them, if it is not too large.

        Returns:
            What was accepted and refused.

        Raises:
            Undelivered: The sender should stop, or the patience is over.
        """
        if not records:
            return Counts()
        if signal == "logs" and not self._takes_logs:
            return Counts(rejected=len(records))
        try:
            rejected = self._until_accepted(signal, records)
        except TooLarge as error:
            if len(records) == 1:
                self._tell_once(f"One of the {signal} is too large for the receiver: {error}")
                return Counts(rejected=1)
            half = len(records) // 2
            return self.deliver(signal, records[:half]).plus(self.deliver(signal, records[half:]))
        count = min(max(rejected.count, 0), len(records))
        if rejected.message:
            what = f"refuses {count:,} of {len(records):,} {_NAMES[signal]}" if count else "warns"
            self._tell_once(f"The receiver {what}: {rejected.message}")
        elif count:
            self._tell_once(
                f"The receiver refuses {count:,} {_NAMES[signal]}, and does not say why."
            )
        accepted = len(records) - count
        if signal == "traces":
            return Counts(spans=accepted, rejected=count)
        return Counts(logs=accepted, rejected=count)

    def _until_accepted(self, signal: Signal, records: list[bytes]) -> Rejected:
        began, pause, failures = time.monotonic(), _FIRST_WAIT, 0
        while True:
            try:
                rejected = self._output.send(signal, records)
            except TryAgain as error:
                failures += error.is_failure
                if failures > _FAILURES:
                    return Rejected(len(records), str(error))
                why, seconds = str(error), error.seconds
            except WrongReceiver as error:
                if signal == "logs" and error.status in _NO_LOGS:
                    self._takes_logs = False
                    note = "Log records (tags, retries, annotations) are not sent to it."
                    return Rejected(len(records), f"{error}. {note}")
                why, seconds = str(error), None
                if self._patience is not None:
                    raise Undelivered(why) from error
            else:
                self._succeeded()
                return rejected
            # so that many senders do not come back at the same moment
            seconds = pause * random.uniform(0.8, 1.2) if seconds is None else seconds
            pause = min(pause * 2, _LONGEST_WAIT)
            self._pause(why, seconds, began)

    def _pause(self, why: str, seconds: float, began: float) -> None:
        """Wait before the next try. Raises Undelivered if there is none."""
        if why != self.waiting:
            self._tell(f"{why}. It is tried again, and nothing is lost.")
        self.waiting = why
        is_over = self._patience is not None and time.monotonic() - began + seconds > self._patience
        if is_over or self._wait(seconds):
            raise Undelivered(why)

    def _succeeded(self) -> None:
        if self.is_abandoned:
            raise Undelivered("the store was closed meanwhile")
        if self.waiting:
            self._tell("The receiver takes requests again.")
        self.waiting = ""

    def _tell_once(self, message: str) -> None:
        if message not in self._told and len(self._told) < _DIFFERENT:
            self._told.add(message)
            self._tell(message)


_DIFFERENT = 100  # refusals that are told; all are counted
_NO_LOGS = frozenset({404, 405, 410, 501})
_NAMES = {"traces": "spans", "logs": "log records"}
