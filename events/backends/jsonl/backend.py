"""A log in a folder of JSONL files, for development: readable with `tail -f` and `jq`.

    <path>/log.json                      the number of the format
    <path>/00000000000000000000.jsonl    the events; see `line_format` and `segments`
    <path>/rows.sqlite                   rows that projections make of them; can be deleted
    <path>/locks/                        the locks of writers, which show who is alive

An append is one write at the end of the last file, under a lock between threads and a lock between
processes. Readers take neither lock.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lllm.events.backends.jsonl import complete_end, erasing, lost_end, read_events, segments
from lllm.events.backends.jsonl.appender import Appender
from lllm.events.backends.jsonl.erasing_intent import intent_of
from lllm.events.backends.jsonl.format_file import has_format, write_format
from lllm.events.backends.jsonl.line_format import (
    type_field,
    type_of,
)
from lllm.events.backends.jsonl.shared_folder import JSONLFolder, folders
from lllm.events.backends.jsonl.torn_tail import damaged_tail, tail_state
from lllm.events.backends.location import local_path
from lllm.events.backends.rows_file import open_rows
from lllm.events.backends.sharing import Share, open_otherwise
from lllm.events.backends.sqlite.database import Database, Durability
from lllm.events.concurrency.fair_locks import FairFileLock
from lllm.events.concurrency.locks import is_held, kept_waiting
from lllm.events.concurrency.robust_locks import LockPair, ThreadLock
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import (
    LogError,
    LogReadOnly,
    LogUnavailable,
)
from lllm.events.files.own_files import (
    check_by_path,
    make_folder,
    open_to_read,
)
from lllm.events.files.permissions import checked_mode, folder_mode, mode_like

if TYPE_CHECKING:
    from lllm.events.backend import Progress
    from lllm.events.damage import Readable
    from lllm.events.health import Health
    from lllm.events.integrity.repair import Repaired

SEGMENT_BYTES = 64 << 20
_NOTING_SECONDS = 1.0  # to wait for other processes, which write the same note

_log = logging.getLogger("lllm.store")

_Reopen = Callable[[Path, Durability, int, bool, int | None], "LocalFileBackend"]


class LocalFileBackend:
    """Keeps the log in a folder of JSONL files.

    If the folder can't be written, it can still be read; an append then raises LogUnavailable.

    Args:
        path: The folder; created if it does not exist.
        durability: "process": events survive kill -9. "power": they survive a loss of power, too,
            and each append takes an fsync.
        segment_bytes: The size in bytes from which a file is followed by a new one.
        read_only: True to write nothing, not even rows; an append raises LogReadOnly.
        mode: The permissions of new files, independent of the umask, as 0o660 for a store that a
            group shares; None for 0o600, or for the permissions of an existing shared store.
            Existing files are not changed.

    Raises:
        LogUnavailable: The folder can't be created or read.
        LogTooNew: A newer lllm wrote the log.
        LogError: The folder is not a log of lllm.
    """

    rows_in_log = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "process",
        segment_bytes: int = SEGMENT_BYTES,
        read_only: bool = False,
        mode: int | None = None,
    ) -> None:
        if durability not in ("process", "power"):
            raise ValueError(f'durability is "process" or "power", not {durability!r}')
        if segment_bytes < 1:
            raise ValueError(f"segment_bytes is at least 1, not {segment_bytes!r}")
        self.mode = checked_mode(mode)
        self.path = local_path(path).absolute()
        self.rows_path = self.path / "rows.sqlite"
        self.durability = durability
        self.segment_bytes = segment_bytes
        self.read_only = read_only
        self._rows: Database | None = None
        self._rows_lock = ThreadLock()
        # The end of the log at the last check for damage.
        self._reported_end: tuple[Path, int] | None = None
        self._closed = False
        self._share = self._open_folder()
        self._shared = self._share.thing
        self._appender = Appender(self._shared, segment_bytes)
        self.liveness = self._shared.liveness
        try:
            with segments.FolderErrors(self.path):
                self._open()
                if not read_only and self.rows_path.exists():
                    self._note_end()
                if not read_only and intent_of(self.path).exists():
                    self._erase(())
        except BaseException:
            self._share.close()
            raise

    def __repr__(self) -> str:
        return f"LocalFileBackend({str(self.path)!r})"

    def __reduce__(self) -> tuple[_Reopen, tuple[Path, Durability, int, bool, int | None]]:
        """Pickle the backend by its path; another process opens the folder again."""
        given = self.path, self.durability, self.segment_bytes, self.read_only, self.mode
        return _reopen, given

    # -- Opening

    def _open_folder(self) -> Share[JSONLFolder]:
        """Open the shared state of the folder, with this store's options."""
        path, mode, durable = self.path, self.mode, self.durability == "power"

        def make() -> JSONLFolder:
            found = mode_like(path / "locks", path / "log.json") if mode is None else mode
            return JSONLFolder(path, self.segment_bytes, durable=durable, mode=found)

        if self.read_only:
            return folders.open(path, self, make, options={}, key=("read only",))
        share = folders.open(path, self, make, options={"durability": self.durability})
        if mode is not None and share.thing.mode != mode:
            share.close()
            raise open_otherwise(path, f"mode={share.thing.mode:#o}", f"mode={mode:#o}")
        return share

    def _open(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise LogError(
                f"{self.path} is a file, and LocalFileBackend keeps its log in a folder. Give it "
                "another path, or open a database with SQLiteBackend."
            )
        if has_format(self.path):
            return
        if self.read_only:
            raise LogUnavailable(f"There is no log in {self.path} to be read: no log.json.")
        make_folder(
            self._shared.locks, parents=True, durable=self.durability == "power",
            mode=folder_mode(self._shared.mode),
        )  # fmt: skip
        with LockPair(self._shared.thread_lock, self._lock_file()) as mine:
            if not has_format(self.path):
                if not mine:
                    raise kept_waiting(self.path)
                write_format(self.path, mode=self._shared.mode, durable=self.durability == "power")

    def _note_end(self) -> None:
        """Note the log's end from the position of its rows, if no append has noted it.

        This is done before the rows are deleted and built again, which would lose their position.
        """
        if lost_end.noted_in(self._shared.locks / "write.lock") is not None:
            return
        reached = self._reached_by_rows()
        try:
            with LockPair(self._shared.thread_lock, self._lock_file(), _NOTING_SECONDS) as mine:
                note = self._shared.tail.high_water
                if mine and reached and note is not None and note.read() is None:
                    note.write(max(reached, complete_end.end_of(self.path).position), synced=False)
        except OSError:
            return  # a log that can't be written can still be read

    def _reached_by_rows(self) -> int:
        """The position of the rows; 0 if there are none that can be read."""
        try:
            return lost_end.reached_by(self.rows_database()) if self.rows_path.exists() else 0
        except LogError:
            return 0  # the rows will be built again from the log

    def _lock_file(self) -> FairFileLock:
        self._check_open()
        return self._shared.write_lock()

    def _check_open(self) -> None:
        if self._closed:
            raise LogUnavailable(f"{self.path} has been closed; open the store again.")

    def readable(self) -> Readable:
        """Read past damage; see `ReadsPastDamage`."""
        from lllm.events.backends.jsonl.readable_lines import ReadableLines

        return ReadableLines(self)

    def copy_to(self, copy: Path, progress: Progress | None) -> tuple[int, int]:
        """Copy the folder; see `CopiesFiles`."""
        from lllm.events.backends.jsonl.copy import copy_folder

        return copy_folder(self.path, self.head(), copy, progress)

    def repair(self) -> Repaired:
        """Repair the files; see `CanBeRepaired`."""
        from lllm.events.backends.jsonl.repair import repair_folder

        return repair_folder(self)

    def health(self, head: int, *, read_bytes: int | None) -> Health:
        """Report the size, format and files; see `ReportsHealth`."""
        from lllm.events.backends.jsonl.health import health_of

        with segments.FolderErrors(self.path):
            return health_of(self, head, read_bytes)

    def rows_database(self) -> Database:
        """The file for the rows of projections, opened at the first call.

        Raises:
            LogUnavailable: The file can't be opened.
        """
        with self._rows_lock.held():
            if self._rows is None:
                with segments.FolderErrors(self.path):
                    check_by_path(self.rows_path)
                self._rows = open_rows(
                    self, self.rows_path, lock=self._shared.locks / "rows.lock",
                    read_only=self.read_only, mode=self._shared.mode,
                )  # fmt: skip
            return self._rows

    # -- Appending

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """Append events, as `LogBackend.append` requires."""
        positions = self._append(events, timeout=None)
        assert positions is not None
        return positions

    def try_append(self, events: Sequence[NewEvent]) -> Sequence[int] | None:
        """Append without waiting for a lock; see `AppendsWithoutWaiting`.

        None if the lock is held, or if much of other writers must be read first.

        Args:
            events: The events, in order.

        Returns:
            The positions; None, with nothing stored, if the lock is held, or if much that other
            processes wrote would have to be read first.
        """
        return self._append(events, timeout=0, read_much=False)

    def append_within(self, events: Sequence[NewEvent], seconds: float) -> Sequence[int] | None:
        """Append, but wait no longer than some seconds; see `AppendsWithin`."""
        return self._append(events, timeout=seconds)

    def _append(
        self, events: Sequence[NewEvent], *, timeout: float | None, read_much: bool = True
    ) -> Sequence[int] | None:
        if self.read_only:
            raise LogReadOnly(f"{self.path} was opened to be read only.")
        if not events:
            return ()
        if self.at_write():  # a signal handler inside a write must not wait for that write
            self.when_written(partial(self.append, events))
            return ()
        nesting = self._shared.nesting
        try:
            nesting.begin(sys._getframe())
            with segments.FolderErrors(self.path):
                return self._appender.append(events, self._lock_file, timeout, read_much=read_much)
        finally:
            nesting.end()

    def at_write(self) -> bool:
        """True if the current thread is inside an append; see `KnowsNesting`."""
        return self._shared.nesting.is_inside()

    def when_written(self, work: Callable[[], object]) -> None:
        """Queue a function until this thread's current append has ended; see `KnowsNesting`."""
        self._shared.nesting.queue(work)

    # -- erasing

    def erase_payloads(self, erased: Sequence[Recorded]) -> None:
        """Overwrite the lines of events; see `ErasesPayloads`."""
        if self.read_only:
            raise LogReadOnly(f"{self.path} was opened to be read only.")
        with segments.FolderErrors(self.path):
            self._erase(erased)

    def _erase(self, erased: Sequence[Recorded]) -> None:
        """Finish an erasure that a crash interrupted, and erase the given events."""
        with LockPair(self._shared.thread_lock, self._lock_file()) as mine:
            if not mine:
                raise kept_waiting(self.path)
            if erased:
                erasing.erase_lines(self.path, erased, mode=self._shared.mode)
            else:
                erasing.finish(self.path)

    def vacuum(self) -> bool:
        """Do nothing, because lines are overwritten in place and leave no copies."""
        return True

    # -- Reading

    def head(self) -> int:
        """The position where the last complete append ends, in bytes."""
        self._check_open()
        with segments.FolderErrors(self.path):
            end = complete_end.end_of(self.path)
            if end.segment is not None and end.position < end.segment.begin + end.size:
                return self._head_at_rest(end.segment, end)
            return end.position

    def _head_at_rest(self, segment: segments.Segment, end: complete_end.End) -> int:
        """Find the head of a log that has bytes after its last complete append.

        A last append that lacks only its final newline was acknowledged, unless it is being written
        right now. The next append adds the newline.
        """
        with open_to_read(segment.path) as file:
            state = tail_state(file, end.position - segment.begin, end.size)
        if (
            state.kind == "unended"
            and state.end == end.size
            and not is_held(self._shared.locks / "write.lock")
        ):
            return segment.begin + end.size + 1
        self._report_damage(segment, end.size)
        return end.position

    def _report_damage(self, segment: segments.Segment, size: int) -> None:
        """Warn once that the end of the log is damaged, so that reads may be incomplete.

        Bytes that may belong to a write in progress cause no warning.
        """
        if self._reported_end == (segment.path, size):
            return
        self._reported_end = segment.path, size
        with open_to_read(segment.path) as file:
            end = complete_end.whole_end(file)
            if tail_state(file, end, size).kind == "damaged":
                _log.warning("%s", damaged_tail(segment, end, size))

    def check_end(self) -> None:
        """Check that the last events are still there; see `KnowsItsEnd`."""
        with segments.FolderErrors(self.path):
            lost_end.check_end(self.path, self._shared.locks / "write.lock", self._reached_by_rows)

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """Read a range of events, as `LogBackend.read` requires."""
        upto = self._upto(upto)
        if stream is None:
            return self._translated(read_events.events_between(self.path, after, upto))
        return self._translated(read_events.events_of_stream(self.path, stream, after, upto))

    def read_types(
        self, types: Collection[str], *, after: int = 0, upto: int | None = None
    ) -> Iterator[Recorded]:
        """Read the events of some types without decoding the others; see `ReadsByType`."""
        fields = {type_field(type_) for type_ in types}
        return self._translated(
            read_events.events_between(
                self.path, after, self._upto(upto), lambda line: type_of(line) in fields
            )
        )

    def _upto(self, upto: int | None) -> int:
        head = self.head()
        return head if upto is None else min(upto, head)

    def _translated(self, events: Iterator[Recorded]) -> Iterator[Recorded]:
        with segments.FolderErrors(self.path):
            yield from events

    def close(self) -> None:
        """Close the store's share of the folder; the last store closes the files."""
        self._closed = True
        with self._rows_lock.held():
            rows, self._rows = self._rows, None
        if rows is not None:
            rows.close()
        self._share.close()


def _reopen(
    path: Path, durability: Durability, segment_bytes: int, read_only: bool, mode: int | None
) -> LocalFileBackend:
    return LocalFileBackend(
        path, durability=durability, segment_bytes=segment_bytes, read_only=read_only, mode=mode
    )
