"""structlog to a file, one flushed JSON line an event: what people do without a framework.

A flushed line is the kernel's: it survives the death of the process, as lllm's events do.
"""

import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog


class Worker:
    """A logger as its documentation sets one up for production, with the standard json module."""

    def __init__(self, folder: Path, work: dict[str, Any]) -> None:
        self._events = [event for moment in work["session"] for event in moment]
        self._sessions = 0
        self._path = folder / "structlog.jsonl"
        self._file = self._path.open("a", encoding="utf-8")
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=structlog.WriteLoggerFactory(self._file),  # flushes each line
            cache_logger_on_first_use=True,
        )
        self.operations = {"session": self._session}

    def _session(self) -> Callable[[], object]:
        self._sessions += 1
        return self._log

    def _log(self) -> None:
        log = structlog.get_logger().bind(session=uuid.uuid4().hex)
        for event in self._events:
            log.info(event["type"], **event["fields"])

    def stored(self) -> dict[str, tuple[int, int]]:
        lines = sum(1 for _ in self._path.open(encoding="utf-8"))
        return {"session": (lines // len(self._events), self._sessions)}
