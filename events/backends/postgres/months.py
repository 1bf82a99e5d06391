"""Begins the partition of a month, in a log whose payloads are partitioned; see `partition_schema`.

Whoever appends looks once an hour whether a month has begun, by the server's clock. Meanwhile
payloads go to the partition of the month before, where they are found all the same.
"""

from __future__ import annotations

import logging
import time

from lllm.events.backends.postgres.connection import Statement
from lllm.events.backends.postgres.errors import ServerRefused
from lllm.events.backends.postgres.read_events import Ask
from lllm.events.errors import LogUnavailable

_EVERY = 3600.0  # seconds
_AGAIN = 60.0  # seconds, after an error
_UNDEFINED = ("42883", "3F000", "42501")  # SQLSTATEs: no such function, no schema, no privilege

_logger = logging.getLogger("lllm.store")


class Months:
    """The months of one log.

    Args:
        schema: The name of the schema, quoted.
        ask: Executes a statement on any connection.
    """

    def __init__(self, schema: str, ask: Ask) -> None:
        self._ask = ask
        self._next = 0.0
        # Two transactions: the sequence jumps only to a table that everybody sees.
        self._make = Statement(f"SELECT {schema}.make_partitions()")
        self._begin = Statement(f"SELECT {schema}.begin_month()")

    def look(self, *, now: bool = False) -> None:
        """Begin a month if one has begun; after an append, so that it costs that one no time.

        Args:
            now: True to look even if the last look was less than an hour ago.
        """
        if not now and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY
        try:
            self._ask(self._make, ())
            if self._ask(self._begin, ()).get_value(0, 0) == b"\x01":
                self._ask(self._make, ())
        except ServerRefused as error:
            if error.sqlstate in _UNDEFINED:  # of an earlier lllm, which has no partitions
                return
            self._next = time.monotonic() + _AGAIN
            _logger.warning("The partition of this month can't be made yet: %s", error)
        except LogUnavailable:
            self._next = time.monotonic() + _AGAIN
