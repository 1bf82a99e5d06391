"""Reads the archive files of a folder as one log, in place.

Positions are numbers of events, over all files in the order in which they were made. A stream that
stands in several files, such as the definition of an agent, is read from the first.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from lllm.events.backends.archive.archive_file import SUFFIX, ArchiveFile, files_in
from lllm.events.backends.location import local_path
from lllm.events.backends.sqlite.errors import FileErrors
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import LogDamaged, LogReadOnly, StoreError
from lllm.events.health import Health


class ArchiveBackend:
    """Reads an archive that `LogStore.archive` made; nothing can be appended to it.

    Args:
        path: The folder with archive files, or one such file.

    Attributes:
        path: The absolute path of that folder or file.
        read_only: Always True.
        why_not_erasable: Why nothing can be erased in it, and what to do; for the error.

    Raises:
        StoreError: There is no archive file.
        LogUnavailable: A file can't be opened.
        LogTooNew: A newer lllm wrote a file.
        LogDamaged: A file is no archive, or its index is damaged.
        MissingExtra: The extra `archive` is not installed.
    """

    read_only = True
    why_not_erasable = (
        "an archive is never changed. Import it into a store, erase the session there, archive the "
        "others again, and delete the files."
    )

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = local_path(path).absolute()
        self._files: list[ArchiveFile] = []
        with FileErrors(self.path):
            found = files_in(self.path) if self.path.is_dir() else [self.path]
        if not found:
            raise StoreError(f"{self.path} has no archive in it: no file ends in {SUFFIX}.")
        try:
            for one in found:
                self._files.append(ArchiveFile(one))
        except BaseException:
            self.close()
            raise
        counts = (file.index.events for file in self._files)
        self._begins = [0, *accumulate(counts)]  # the position before the first event of each file
        self._owners: dict[str, int] = {}  # the file from which each stream is read
        for number, file in enumerate(self._files):
            for stream in file.index.streams:
                self._owners.setdefault(stream, number)

    def __repr__(self) -> str:
        return f"ArchiveBackend({str(self.path)!r})"

    def __reduce__(self) -> tuple[Callable[[Path], ArchiveBackend], tuple[Path]]:
        """Pickle the backend by its path; another process opens the files again."""
        return ArchiveBackend, (self.path,)

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """Refuse to append, unless there is nothing to append."""
        if not events:
            return ()
        raise LogReadOnly(
            f"{self.path} is an archive, which is never appended to. Import it into a store: "
            "`lllm import`."
        )

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """Read a range of events, as `LogBackend.read` requires."""
        after, upto = max(after, 0), self.head() if upto is None else min(upto, self.head())
        if stream is not None:
            owner = self._owners.get(stream)
            if owner is None:
                return iter(())
            blocks = self._files[owner].index.streams[stream]
            found = self._blocks(owner, blocks, after, upto)
            return (event for event in found if event.stream == stream)
        return self._all(after, upto)

    def read_types(
        self, types: Collection[str], *, after: int = 0, upto: int | None = None
    ) -> Iterator[Recorded]:
        """Read the events of some types; see `ReadsByType`."""
        return (event for event in self.read(after=after, upto=upto) if event.type in types)

    def _all(self, after: int, upto: int) -> Iterator[Recorded]:
        first = max(bisect_right(self._begins, after) - 1, 0)
        for number in range(first, len(self._files)):
            if self._begins[number] >= upto:
                return
            blocks = range(len(self._files[number].index.blocks))
            for event in self._blocks(number, blocks, after, upto):
                if self._owners.get(event.stream) == number:
                    yield event

    def _blocks(
        self, number: int, blocks: Sequence[int], after: int, upto: int
    ) -> Iterator[Recorded]:
        """Read some blocks of a file, as far as their positions are wanted."""
        file = self._files[number]
        counts = (block.events for block in file.index.blocks)
        begins = [*accumulate(counts, initial=self._begins[number])]
        for block in blocks:
            begin, end = begins[block], begins[block + 1]
            if end <= after or begin >= upto:
                continue
            try:
                events = file.lines(block)
            except LogDamaged as damage:
                lost = range(max(begin, after) + 1, min(end, upto) + 1)
                raise LogDamaged(str(damage), position=lost[-1], lost=lost) from damage.__cause__
            for event in events:
                position = begin + event.position
                if after < position <= upto:
                    yield event.without_position().at(position)

    def head(self) -> int:
        """The number of events in all files."""
        return self._begins[-1]

    def health(self, head: int, *, read_bytes: int | None) -> Health:
        """Report the size, format and files; see `ReportsHealth`."""
        del read_bytes  # the index has the number of events
        return Health(
            kind="archive",
            path=self.path,
            format=max(file.index.format for file in self._files),
            bytes=sum(file.size for file in self._files),
            events=head,
            unit="event",
        )

    def close(self) -> None:
        """Close all files; closing twice does nothing."""
        for file in self._files:
            file.close()
