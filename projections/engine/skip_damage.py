"""Reads a log for the views, skipping corrupt events; `lllm verify` reports those."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from lllm.events.backend import DigestPage, LogBackend, read_digests, read_types
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged

T = TypeVar("T")

_logger = logging.getLogger("lllm.store")


def skip_corrupt_events(
    log: LogBackend, types: Sequence[str], after: int, upto: int
) -> Iterator[Recorded]:
    """Read the readable events of some types.

    Args:
        log: The log.
        types: Names of event types.
        after: The position to begin behind.
        upto: The last position to read.

    Yields:
        The events in order.

    Raises:
        LogDamaged: Nobody knows where to go on behind damage.
    """
    return _read_around(lambda after: read_types(log, types, after=after, upto=upto), after)


def skip_corrupt_events_of(log: LogBackend, stream: str, after: int) -> Iterator[Recorded]:
    """Read the readable events of one stream.

    Args:
        log: The log.
        stream: The stream.
        after: The position to begin behind.

    Yields:
        The events in order.

    Raises:
        LogDamaged: Nobody knows where to go on behind damage.
    """
    return _read_around(lambda after: log.read(after=after, stream=stream), after)


def skip_corrupt_digests(log: LogBackend, after: int, upto: int) -> Iterator[DigestPage]:
    """Read the digests of the readable events.

    Args:
        log: The log.
        after: The position to begin behind.
        upto: The last position to read.

    Yields:
        Some positions and digests at a time, in order.

    Raises:
        LogDamaged: Nobody knows where to go on behind damage.
    """
    return _read_around(lambda after: read_digests(log, after=after, upto=upto), after)


def _read_around(read: Callable[[int], Iterator[T]], after: int) -> Iterator[T]:
    logged = False
    while True:
        try:
            yield from read(after)
            return
        except LogDamaged as damage:
            if damage.position <= after:
                raise
            if not logged:
                _logger.error(
                    "%s The lists and sums do without it, and without what else is damaged.", damage
                )
            logged = True
            after = damage.position
