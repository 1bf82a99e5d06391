"""Stores as a crash leaves them: cut anywhere, with anything behind the end.

A `Journal` writes sessions and remembers after each append how large the file was that it went to;
so for a cut at any byte it can say which events must be there, and that no other is.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

from lllm import LogStore
from lllm.events.codec import decode
from lllm.events.envelope import NewEvent
from lllm.events.model import SessionStarted
from lllm.testing.writers import without_positions
from tests.support.echo import echo
from tests.survival.figures import Figures
from tests.survival.places import Place

# https://sqlite.org/fileformat2.html#the_write_ahead_log
WAL_HEADER, FRAME_HEADER = 32, 24


def growing(place: Place) -> Path:
    """The file that appends go to now."""
    if place.kind == "sqlite":
        return place.path.with_name("runs.db-wal")
    return max(place.path.glob("*.jsonl"))


class Journal:
    """Writes sessions to a store, and knows what a cut leaves of them.

    appends: the events of each append, with the name of the file they went to and its size after.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.appends: list[tuple[str, int, tuple[NewEvent, ...]]] = []

    def open(self) -> LogStore:
        """The store, with every append noted."""
        backend = self.place.backend()
        append = backend.append

        def noted(events: Sequence[NewEvent]) -> Sequence[int]:
            positions = append(events)
            file = growing(self.place)
            self.appends.append((file.name, file.stat().st_size, tuple(events)))
            return positions

        backend.append = noted  # type: ignore[method-assign] # the store is to know nothing of it
        return LogStore(backend)

    def write(self, store: LogStore, sessions: int) -> None:
        """Some sessions, of several appends each."""
        tactic = echo(store)
        for number in range(sessions):
            tactic(f"task {number} " * 5, tags={"number": str(number)})

    def settle(self) -> None:
        """Nothing of what stands here can be cut any more, as the store was closed: SQLite has
        moved it out of the write-ahead log."""
        if self.place.kind == "sqlite":
            self.appends = [("runs.db", end, events) for _, end, events in self.appends]

    def expected(self, cut: Path | None = None, size: int = 0) -> list[NewEvent]:
        """The events of the store, or those that are left once one file is cut to a size."""
        return [
            event
            for name, end, events in self.appends
            for event in events
            if cut is None or name != cut.name or end <= size
        ]

    def cut(self, file: Path, size: int) -> None:
        """Cut a file of the store, and forget what is gone with that.

        A JSONL append that lacks nothing but its newline would be kept, so it is not made.
        """
        if any(one[0] == file.name and one[1] == size + 1 for one in self.appends):
            size += file.suffix == ".jsonl"
        os.truncate(file, size)
        if file.suffix == ".jsonl":
            noted(self.place, int(file.stem) + size)
        self.appends = [one for one in self.appends if one[0] != file.name or one[1] <= size]


def opens_right(place: Place, expected: Sequence[NewEvent], figures: Figures) -> None:
    """The store holds these events and no others, lists what they say, and goes on."""
    figures.faults += 1
    figures.acknowledged += len(expected)
    with place.store() as store:
        assert without_positions(store.backend.read()) == list(expected)
        listed_right(store, expected)
        assert store.lag == 0
        echo(store)("behind the harm")
        assert store.list_sessions(limit=1)[0].state == "success"
        assert store.rebuild(check=True).difference is None
        assert without_positions(store.backend.read())[: len(expected)] == list(expected)


def listed_right(store: LogStore, expected: Sequence[NewEvent]) -> None:
    """The list is what the events say. A session without its end runs, as far as anybody knows: its
    owner's lock was copied and is another file now, though it may have got the number of the first.
    """
    ended = {one.stream for one in expected if one.type in ("session.succeeded", "session.failed")}
    tags = {
        one.stream: payload.tags
        for one in store.backend.read()
        if isinstance(payload := decode(one), SessionStarted)
    }
    listed = store.list_sessions()
    assert {one.session_id: one.tags for one in listed} == tags
    for one in listed:
        assert one.state in ({"success"} if one.session_id in ended else {"running", "interrupted"})


def noted(place: Place, position: int) -> None:
    """No append behind a position was acknowledged, so none was noted."""
    (place.path / "locks" / "write.lock").write_bytes(b"%020d\n" % position)


def copied(place: Place, number: int) -> Place:
    """The store as a crash would leave it now: without SQLite's memory of its write-ahead log."""
    copy = place.next(number)
    shutil.copytree(
        place.folder, copy.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*-shm")
    )
    return copy


def places_to_cut(wal: Path, limit: int | None, chance: random.Random) -> list[int]:
    """Every frame boundary of a write-ahead log, a few bytes beside each, and places by chance.

    limit: how many of them, by chance, None for all.
    """
    content = wal.read_bytes()
    size = len(content)
    (page,) = struct.unpack_from(">I", content, 8)
    boundaries = range(WAL_HEADER, size + 1, FRAME_HEADER + page)
    near = {at + beside for at in boundaries for beside in (-9, -1, 0, 1, FRAME_HEADER, 30)}
    near |= {0, 1, WAL_HEADER - 1, *(chance.randrange(size) for _ in boundaries)}
    all_ = sorted(at for at in near if 0 <= at <= size)
    return all_ if limit is None else sorted(chance.sample(all_, min(limit, len(all_))))


def garbage(place: Place, chance: random.Random, *, behind_a_cut: bool) -> bytes:
    """What may stand behind the end of a file after a crash: of a JSONL log the beginning of an
    append, or zeros, or both; of SQLite's, anything.

    behind_a_cut: there is a beginning already, and nothing may mend it.
    """
    content = growing(place).read_bytes()
    line = content.split(b"\n", 1)[0] or b"{"
    zeros = b"\0" * chance.randrange(1, 20_000)
    beginning = line[: chance.randrange(1, len(line))]
    if place.kind == "jsonl":
        return zeros if behind_a_cut else chance.choice([zeros, beginning, beginning + zeros])
    begin = chance.randrange(max(len(content), 1))
    of_another = content[begin : begin + chance.randrange(1, 5_000)]
    return (b"?" if behind_a_cut else b"") + chance.choice([
        chance.randbytes(chance.randrange(1, 20_000)), zeros, b"\n" * chance.randrange(1, 5),
        beginning, of_another + b"x",
    ])  # fmt: skip
