"""Reports the size, format and files of a JSONL log."""

from __future__ import annotations

import json
from contextlib import suppress
from io import FileIO
from typing import TYPE_CHECKING

from lllm.events.backends.jsonl.read_events import blocks
from lllm.events.backends.jsonl.segments import Segment, segments_of
from lllm.events.health import Health

if TYPE_CHECKING:
    from lllm.events.backends.jsonl.backend import LocalFileBackend


def health_of(log: LocalFileBackend, head: int, read_bytes: int | None) -> Health:
    """Make the report of `ReportsHealth` for a JSONL log.

    Args:
        log: The log to report on.
        head: The position up to which lines are counted.
        read_bytes: How many bytes may be read to count the events; None for no limit.

    Returns:
        The report.
    """
    found = segments_of(log.path)
    last = found[-1:]
    size = sum(segment.path.stat().st_size for segment in found)
    is_counted = read_bytes is None or size <= read_bytes
    return Health(
        kind="jsonl",
        path=log.path,
        format=_format(log),
        durability=log.durability,
        bytes=size,
        events=_count_lines(found, head) if is_counted else None,
        torn_bytes=sum(max(one.begin + one.path.stat().st_size - head, 0) for one in last),
        unit="byte",
        files=tuple(segment.path for segment in last),
        locks=log.path / "locks",
    )


def _format(log: LocalFileBackend) -> int | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads((log.path / "log.json").read_bytes())["format"])
    return None


def _count_lines(found: list[Segment], head: int) -> int:
    count = 0
    for segment in found:
        with FileIO(segment.path) as file:
            count += sum(data.count(b"\n") for _, data in blocks(file, 0, head - segment.begin))
    return count
