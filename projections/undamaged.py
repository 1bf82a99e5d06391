"""Reads a log that may be damaged, for rows, which can't tell of damage."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from lllm.events.errors import LogDamaged
from lllm.events.log import LogBackend, read_types
from lllm.events.record import Recorded

_logger = logging.getLogger("lllm.store")

_PLACES = 100  # of damage that are passed over at once; each is looked up in a read of its own


def undamaged(log: LogBackend, types: Sequence[str], after: int, upto: int) -> Iterator[Recorded]:
    """What can be read of some types. Rows can't tell of damage; `lllm verify` does.

    Raises LogDamaged where nobody knows where to go on, or the log is damaged all over.
    """
    places = 0
    while True:
        try:
            yield from read_types(log, types, after=after, upto=upto)
            return
        except LogDamaged as damage:
            places += 1
            if damage.position <= after or places > _PLACES:
                raise
            if places == 1:
                _logger.error(
                    "%s The lists and sums do without it, and without what else is damaged.", damage
                )
            after = damage.position
