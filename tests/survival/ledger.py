"""What writers were told is stored, kept apart from the log, and whether the log has it.

A ledger is a file that every process of a round appends to, one line for each event, right after
`append` returned it. A line is written by one call of the kernel, so it survives a SIGKILL as the
log's own bytes do; the last line of a killed process may be cut short, and does not count.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lllm import LocalFileBackend, PostgresBackend, SQLiteBackend
from lllm.events.codec import salt_of
from lllm.events.digest import check_digest
from lllm.events.envelope import NewEvent
from lllm.events.log import LogBackend
from tests.survival.figures import Figures

Append = Callable[..., Sequence[int] | None]


class Entry(NamedTuple):
    """One event as its writer was told of it."""

    stream: str
    seq: int
    digest: str
    wait: int  # nanoseconds that the append took


class Ledger:
    """The acknowledgements of one round, written to a file beside the store.

    dies_at: the number of acknowledged events, of this process, at which it kills itself.
    """

    def __init__(self, path: Path, *, dies_at: int | None = None) -> None:
        self.path = path
        self._dies_at = dies_at
        self._told = 0
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def watch(self, backend: SQLiteBackend | LocalFileBackend | PostgresBackend) -> None:
        """Note every append of a backend, from now on."""
        for name in ("append", "try_append", "append_within"):
            append: Append | None = getattr(backend, name, None)
            if append is not None:
                setattr(backend, name, self._noting(append))

    def _noting(self, append: Append) -> Append:
        def noted(events: Sequence[NewEvent], *within: float) -> Sequence[int] | None:
            began = time.perf_counter_ns()
            positions = append(events, *within)
            if positions is not None:
                self._note(events, time.perf_counter_ns() - began)
            return positions

        return noted

    def _note(self, events: Sequence[NewEvent], wait: int) -> None:
        lines = [f"{one.stream} {one.seq} {one.digest.hex()} {wait}\n" for one in events]
        os.write(self._fd, "".join(lines).encode())
        self._told += len(lines)
        if self._dies_at is not None and self._told >= self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def complaining(self, *, except_for: type[Exception] | tuple[()] = ()) -> Iterator[None]:
        """Note what is raised inside, for the process that reads this.

        except_for: errors that are expected.
        """
        try:
            yield
        except except_for:
            raise
        except BaseException:
            with self.path.with_suffix(".errors").open("a") as file:
                file.write(traceback.format_exc())
            raise


def entries(path: Path) -> list[Entry]:
    """What stands in a ledger. Raises AssertionError where a writer complained."""
    complaints = path.with_suffix(".errors")
    assert not complaints.exists(), complaints.read_text()
    if not path.exists():
        return []
    whole = path.read_bytes().rpartition(b"\n")[0].decode()
    return [_entry(line) for line in whole.splitlines()]


def _entry(line: str) -> Entry:
    stream, seq, digest, wait = line.split(" ")
    return Entry(stream, int(seq), digest, int(wait))


def audit(log: LogBackend, told: Sequence[Entry], figures: Figures) -> None:
    """Count what a log has lost or doubled of the events that its writers were told of.

    Raises AssertionError where positions do not grow, a stream has a hole or is out of order, or a
    digest does not fit its event.
    """
    stored: Counter[tuple[str, int, str]] = Counter()
    last: Counter[str] = Counter()
    salts: dict[str, bytes] = {}
    position = 0
    for event in log.read():
        assert event.position > position, f"position {event.position} behind {position}"
        position = event.position
        last[event.stream] += 1
        assert event.seq == last[event.stream], f"{event.stream}: {event.seq} out of order"
        check_digest(event, salts.setdefault(event.stream, salt_of(event)))
        stored[event.stream, event.seq, event.digest.hex()] += 1
    assert log.head() == position
    keys = [(one.stream, one.seq, one.digest) for one in told]
    figures.acknowledged += len(keys)
    figures.lost += sum(stored[key] == 0 for key in keys)
    figures.doubled += sum(stored[key] > 1 for key in set(keys))
    waits = [one.wait / 1e9 for one in told]
    figures.longest_wait = max([figures.longest_wait, *waits])
