"""Lets a process read what it has appended itself, although another append is still under way.

Positions are given in the order in which events become visible, so an append that has not ended
hides all later ones. Most end within milliseconds, and a reader of the process that wrote waits for
them. One whose client was stopped in the middle may take hours: a reader waits for it once, and
then goes on without what it hides; `LogStore.lag` counts that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from lllm.events.backends.postgres.connection import Statement
from lllm.events.backends.postgres.read_events import Ask

LONGEST = 1.0  # seconds
_PAUSES = (0.0005, 0.02)  # seconds between two looks: the first, and the longest

_logger = logging.getLogger("lllm.store")


class OwnAppends:
    """What this process has appended to one log.

    Args:
        schema: The name of the schema, quoted.
        shown: The log's URL for messages.
        ask: Executes a statement on any connection.

    Attributes:
        last: The highest position of an append that was acknowledged; 0 if there is none.
    """

    def __init__(self, schema: str, shown: str, ask: Ask) -> None:
        self._shown = shown
        self._ask = ask
        self._stuck_at = -1  # the head behind which nothing came for the longest time
        self.last = 0
        literal = schema.replace("'", "''")
        self._under_way = Statement(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            f" AND classid = '{literal}.blocks'::regclass::oid)"
        )

    def wait(self, seconds: float, head_of_log: Callable[[], int]) -> bool:
        """Wait until the last append of this process is visible.

        Args:
            seconds: The longest time to wait; it is at most a second in any case.
            head_of_log: Asks for the head of the log. It is not kept, because the log that has it
                would then be freed only by a garbage collection.

        Returns:
            False if an append that is still under way hides it.

        Raises:
            LogUnavailable: The server can't be reached.
        """
        wanted, until = self.last, time.monotonic() + min(seconds, LONGEST)
        pause, longest = _PAUSES
        while True:
            under_way = self._ask(self._under_way, ()).get_value(0, 0) == b"\x01"
            head = head_of_log()
            if head >= wanted:
                return True
            if not under_way:  # a standby that took over does not have it
                self.last = min(self.last, head)
                return True
            if head == self._stuck_at:
                return False
            if time.monotonic() > until:
                if seconds >= LONGEST:
                    self._stuck_at = head
                    _logger.warning(
                        "%s: an append of another connection has not ended for %g s. Until it or "
                        "its connection ends, events that were appended after it are not visible.",
                        self._shown, seconds,
                    )  # fmt: skip
                return False
            time.sleep(pause)
            pause = min(2 * pause, longest)
