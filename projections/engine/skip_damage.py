"""Reads a log that may be damaged, for rows, which can't tell of damage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from lllm.events.backend import LogBackend, read_types
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged

_logger = logging.getLogger("lllm.store")


def skip_corrupt_events(
    log: LogBackend, types: Sequence[str], after: int, upto: int
) -> Iterator[Recorded]:
    """What can be read of some types. Rows can't tell of damage; `lllm verify` does.

    Raises LogDamaged where nobody knows where to go on.
    """
    return _around(lambda after: read_types(log, types, after=after, upto=upto), after)


def skip_corrupt_events_of(log: LogBackend, stream: str, after: int) -> Iterator[Recorded]:
    """What can be read of one stream, behind a position. Raises as `skip_corrupt_events`."""
    return _around(lambda after: log.read(after=after, stream=stream), after)


def _around(read: Callable[[int], Iterator[Recorded]], after: int) -> Iterator[Recorded]:
    told = False
    while True:
        try:
            yield from read(after)
            return
        except LogDamaged as damage:
            if damage.position <= after:
                raise
            if not told:
                _logger.error(
                    "%s The lists and sums do without it, and without what else is damaged.", damage
                )
            told = True
            after = damage.position
