"""Reads a log for the views and skips corrupt events, which `lllm verify` reports."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar

import msgspec

from lllm.events.backend import LogBackend, archived_leaves, read_types, read_with_digests
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged
from lllm.events.integrity.leaves import leaf_pages

T = TypeVar("T")

_logger = logging.getLogger("lllm.store")


def skip_corrupt_events(
    log: LogBackend, types: Sequence[str], after: int, upto: int
) -> Iterator[Recorded]:
    """Read the readable events of some types.

    Args:
        log: The log to read.
        types: The event types, as "llm.responded".
        after: Read the events after this position.
        upto: The last position to read.

    Yields:
        The events in order.

    Raises:
        LogDamaged: The log is damaged, and where it continues is unknown.
    """
    return _read_around(lambda after: read_types(log, types, after=after, upto=upto), after)


def skip_corrupt_events_of(log: LogBackend, stream: str, after: int) -> Iterator[Recorded]:
    """Read the readable events of one stream.

    Args:
        log: The log to read.
        stream: The name of the stream.
        after: Read the events after this position.

    Yields:
        The events in order.

    Raises:
        LogDamaged: The log is damaged, and where it continues is unknown.
    """
    return _read_around(lambda after: log.read(after=after, stream=stream), after)


def skip_corrupt_events_between(log: LogBackend, after: int, upto: int) -> Iterator[Recorded]:
    """Read the readable events of all types.

    Args:
        log: The log to read.
        after: Read the events after this position.
        upto: The last position to read.

    Yields:
        The events in order.

    Raises:
        LogDamaged: The log is damaged, and where it continues is unknown.
    """
    return _read_around(lambda after: log.read(after=after, upto=upto), after)


class OtherEvent(msgspec.Struct, frozen=True, gc=False):
    """The position and digest of an event whose payload is not needed.

    Attributes:
        position: The position in the log.
        digest: The digest, 32 bytes; None if it can't be read.
    """

    position: int
    digest: bytes | None


def events_and_digests(
    log: LogBackend, types: Collection[str], after: int, upto: int
) -> Iterator[Recorded | OtherEvent]:
    """Read the readable events of some types, and the digests of all others.

    Args:
        log: The log to read.
        types: The event types that are read as a whole.
        after: Read the events after this position.
        upto: The last position to read.

    Yields:
        The events in order; an event that can't be read is an OtherEvent.

    Raises:
        LogDamaged: The log is damaged, and where it continues is unknown.
    """
    types, reached = frozenset(types), after

    def read(after: int) -> Iterator[Recorded | OtherEvent]:
        nonlocal reached
        archived = archived_leaves(log, after=reached, upto=upto)
        leaf = next(archived, None)
        for found in read_with_digests(log, types, after=after, upto=upto):
            event = found if isinstance(found, Recorded) else OtherEvent(*found)
            while leaf is not None and leaf[0] < event.position:
                reached = leaf[0]
                yield OtherEvent(*leaf)
                leaf = next(archived, None)
            reached = event.position
            yield event
        while leaf is not None:
            yield OtherEvent(*leaf)
            leaf = next(archived, None)

    def damaged(end: int) -> Iterator[Recorded | OtherEvent]:
        nonlocal reached
        for page in leaf_pages(log, after=reached, upto=end):
            for leaf in page:
                yield OtherEvent(*leaf)
        reached = end

    return _read_around(read, after, damaged)


def _nothing(_: int) -> Iterator[T]:
    return iter(())


def _read_around(
    read: Callable[[int], Iterator[T]],
    after: int,
    damaged: Callable[[int], Iterator[T]] = _nothing,
) -> Iterator[T]:
    """Continue reading behind damage; `damaged` returns what is yielded in place of the damage."""
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
                    "%s Lists and sums leave out this and all other damaged events.", damage
                )
            logged = True
            after = damage.position
        yield from damaged(after)
