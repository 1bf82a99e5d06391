"""Damage is found, named by position and session, and what is around it can still be read."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.cli.exit_codes import Finding
from lllm.cli.render.verify import NOT_SHOWN, show
from lllm.events.backends.memory import MemoryBackend
from lllm.events.buffered import BufferedLog
from lllm.events.damage import Damage
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import LogDamaged, LogError, LogUnavailable
from lllm.events.integrity.verify import Verified, readable, verify
from lllm.events.log import LogBackend
from lllm.events.model import LogGap
from lllm.testing.writers import batch, event, without_positions
from tests.conftest import OpenBackend
from tests.support.echo import echo
from tests.support.histories import Attempt, History

ATTEMPT = Attempt("gpt-4o-mini", "a", 5, False, None)


def write(backend: LogBackend) -> None:
    """What a small store holds: sessions of a tactic, sessions between each other, one that runs,
    a tag, an error."""
    with LogStore(backend) as store:
        echo(store)("first")
        history = History(store)
        a, b = (history.start(f"shop::{name}", "", {}, None) for name in "ab")
        for session in (a, b, a, a, b):
            history.attempt(session, ATTEMPT)
        history.finish(a, True)
        history.attempt(b, ATTEMPT)
        history.finish(b, False)
        history.tag(a, {"reviewed": "yes"}, ())
        store.save_error(ValueError("no session"))
        echo(store)("second")
        running = history.start("shop::running", "", {}, None)
        history.attempt(running, ATTEMPT)


def salvaged(log: LogBackend) -> tuple[list[Recorded], list[Damage]]:
    """What can be read of a log, and the notes on what can't."""
    events: list[Recorded] = []
    damages: list[Damage] = []
    for one in readable(log):
        if isinstance(one, Damage):
            damages.append(one)
        else:
            events.append(one)
    return events, damages


def checked(log: LogBackend) -> Verified:
    """The log verified; what it counts is what can be read."""
    verified = verify(log)
    assert verified.events == len(salvaged(log)[0])
    return verified


def places(verified: Verified) -> list[tuple[int, str, int]]:
    """Where the damage is."""
    return [(one.position, one.stream, one.seq) for one in verified.damages]


def streams_of(events: Sequence[Recorded]) -> dict[str, list[Recorded]]:
    """The events of each stream."""
    found: dict[str, list[Recorded]] = {}
    for one in events:
        found.setdefault(one.stream, []).append(one)
    return found


class TestWhole:
    """A log that is as it was written."""

    def test_nothing_is_wrong(self, open_backend: OpenBackend) -> None:
        """Of a log that is whole all events and streams are counted, and nothing is reported."""
        write(open_backend())
        log = open_backend()
        events = list(log.read())
        verified = checked(log)
        assert verified == Verified(len(events), len(streams_of(events)), (), 0, 0, 0)
        assert verified.events > 30
        log.close()

    def test_empty(self, open_backend: OpenBackend) -> None:
        """A log without events is whole."""
        log = open_backend()
        assert verify(log) == Verified(0, 0, (), 0, 0, 0)
        log.close()

    def test_any_backend(self) -> None:
        """A log is verified by its four methods alone, whatever it is."""
        log = MemoryBackend()
        log.append([*batch("a", 0), event("b", 1), *batch("a", 1)])
        log.append([event("c", 2)])
        verified = verify(log)
        assert (verified.events, verified.streams) == (8, 3)
        assert places(verified) == [(8, "c", 2)]

    def test_newer_events(self, open_backend: OpenBackend) -> None:
        """Events of a newer version or an unknown type are checked like all others."""
        log = open_backend()
        salt = bytes(range(32))
        data = msgspec.json.encode({"new": {"salt": 1}, "salt": salt, "odd": "x"})
        odd = data.replace(b'"x"', b'"\\ud800"')
        log.append([seal(salt, "s", 1, 5, "session.started", 99, data)])
        log.append([seal(salt, "s", 2, 6, "unheard.of", 1, b"no JSON"), *batch("t", 0)])
        log.append([seal(salt, "odd", 1, 5, "session.started", 99, odd)])
        assert verify(log).damages == ()
        log.append([msgspec.structs.replace(event("s", 3), digest=bytes(32))])
        assert places(verify(log)) == [(log.head(), "s", 3)]
        log.close()

    def test_refused_appends(self, tmp_path: Path) -> None:
        """An append that was refused leaves no hole in the positions."""
        log = SQLiteBackend(tmp_path / "runs.db")
        for number in range(3):
            log.append(batch("s", number))
            log.append(batch("s", number))
            for conflict in ([event("s", 1, b"1")], [event("t", 1), event("s", 1, b"1")]):
                with pytest.raises(LogError, match="another event stands in its place"):
                    log.append(conflict)
        log.append([event("s", 10)])
        assert log.head() == 10
        assert checked(log).damages == ()
        log.close()

    def test_behind_the_end(self, open_backend: OpenBackend) -> None:
        """An event behind the last one of its session is damage, though its digest fits."""
        log = open_backend()
        for type_ in ("session.succeeded", "session.failed"):
            log.append([event(type_, 1), event(type_, 2, type_=type_)])
            assert checked(log).damages == ()
        log.append([event("session.failed", 3)])
        assert places(checked(log)) == [(log.head(), "session.failed", 3)]
        log.close()

    def test_places_in_words(self) -> None:
        """What is wrong with the place of an event is said so that it can be looked for."""

        class Mixed(MemoryBackend):
            def read(self, **_: object) -> Iterator[Recorded]:  # type: ignore[override] # all
                seqs = (1, 2, 2, 1, 4, 7, 8)
                mixed = [event("s", seq) for seq in seqs]
                end = event("s", 9, type_="session.failed")
                for at, one in enumerate([*mixed, end, event("s", 10)], 1):
                    yield Recorded(at, *msgspec.structs.astuple(one))

            def head(self) -> int:
                return 9

        assert [(one.position, one.what) for one in verify(Mixed()).damages] == [
            (3, "it is in the log twice"),
            (4, "it comes after event 2 of its stream, out of order"),
            (5, "event 3 of its stream is missing before it"),
            (6, "events 5 to 6 of its stream are missing before it"),
            (9, "it comes after the last event of its stream"),
        ]

    def test_without_a_way_on(self) -> None:
        """Where a log does not say how to read on behind its damage, its error is raised."""
        with pytest.raises(LogDamaged, match="no way on"):
            verify(NoWayOn())

    def test_progress(self, open_backend: OpenBackend) -> None:
        """How far a check is, is told in positions; at its end all is reached."""
        log = open_backend()
        log.append(batch("s", 0, 10_000))
        told: list[tuple[int, int]] = []
        verify(log, progress=lambda reached, to_reach: told.append((reached, to_reach)))
        assert len(told) == 3
        assert told == sorted(told)
        assert {to_reach for _, to_reach in told} == {log.head()}
        assert told[-1][0] == log.head()
        log.close()

    def test_while_others_append(self, open_backend: OpenBackend) -> None:
        """What is appended during a check is neither looked at nor missed."""
        log = open_backend()
        log.append(batch("s", 0, 5_500))
        verified = verify(log, progress=lambda *_: append(log))
        assert (verified.events, verified.damages, verified.torn_bytes) == (5_500, (), 0)
        assert log.head() > verified.events
        log.close()


class NoWayOn(MemoryBackend):
    """A log that can't be read, and says so wherever the reading begins."""

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        """It can't."""
        del after, upto, stream
        raise LogDamaged("no way on", position=0)


def append(log: LogBackend) -> None:
    """Append one event of a stream of its own."""
    log.append([event(f"more-{log.head()}", 1)])


class TestLost:
    """Events that were never written, by what the log says itself."""

    @pytest.mark.parametrize("lost", [1, 3])
    def test_gap(self, open_backend: OpenBackend, lost: int) -> None:
        """A hole that the log told of with log.gap is no damage, and its events are counted; a
        hole that is larger is one."""
        log = open_backend()
        holding = BufferedLog(log, held_bytes=0)
        with LogStore(MemoryBackend()) as store:
            history = History(store)
            session = history.start("shop::a", "", {}, None)
            for _ in range(6):
                history.attempt(session, ATTEMPT)
            history.finish(session, True)
            events = without_positions(store.log.read())
        holding.append(events[:2])
        holding.backend = FullDisk()
        with pytest.warns(RuntimeWarning, match="wait in memory"):
            holding.append([events[2]])
        for one in events[3 : 3 + lost]:
            holding.append([one])
        holding.backend = log
        assert holding.write_held(now=True)
        holding.append(events[3 + lost :])
        verified = checked(log)
        assert (verified.damages, verified.lost, verified.unchecked) == ((), lost, 0)
        holding.close()

    @pytest.mark.parametrize(
        ("times", "excused"),
        [((5, 15), True), ((15, 16), True), ((20, 30), True), ((21, 30), False), ((5, 9), False)],
    )
    def test_gap_in_time(
        self, open_backend: OpenBackend, times: tuple[int, int], excused: bool
    ) -> None:
        """A gap excuses holes that fall into its time, and no more events than it counts."""
        log = open_backend()
        gap = msgspec.json.encode(LogGap(lost=3, first_time=10, last_time=20, reason="", salt=b""))
        log.append([event("gap", 1, gap, type_="log.gap")])
        log.append([event("a", 1, time=times[0]), event("a", 4, time=times[1])])
        assert places(checked(log)) == ([] if excused else [(log.head(), "a", 4)])
        log.append([event("b", 1, time=times[0]), event("b", 4, time=times[1])])
        assert (log.head(), "b", 4) in places(checked(log))
        log.close()

    def test_first_events(self, open_backend: OpenBackend) -> None:
        """Where the first event of a session was never written, the salt is lost, and its other
        events are counted as unchecked."""
        log = open_backend()
        holding = BufferedLog(log, held_bytes=0)
        holding.backend = FullDisk()
        with LogStore(MemoryBackend()) as store:
            echo(store)("first")
            (session,) = store.list_sessions()
            first, *others = without_positions(store.log.read(stream=session.session_id))
        with pytest.warns(RuntimeWarning, match="wait in memory"):
            holding.append([first])
        holding.append([others[0]])
        holding.backend = log
        assert holding.write_held(now=True)
        holding.append(others[1:])
        verified = checked(log)
        assert verified.damages == ()
        assert (verified.lost, verified.unchecked) == (1, len(others))
        holding.close()


class FullDisk(MemoryBackend):
    """A log that can't be written."""

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """It can't."""
        del events
        raise LogUnavailable("the disk is full")


# -- SQLite


@pytest.fixture(scope="module")
def made_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store in one file, which tests copy."""
    path = tmp_path_factory.mktemp("made") / "runs.db"
    write(SQLiteBackend(path))
    return path


@pytest.fixture
def db(made_db: Path, tmp_path: Path) -> Path:
    """A copy of it, in which rows can be changed."""
    path = tmp_path / "runs.db"
    shutil.copyfile(made_db, path)
    change(
        path,
        "DROP TRIGGER events_are_never_changed",
        "DROP TRIGGER events_are_never_deleted",
        "DROP TRIGGER events_are_never_replaced",
    )
    return path


def change(path: Path, *statements: str, parameters: Sequence[object] = ()) -> None:
    """Do to a database what lllm never does."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement, parameters)


def opened(path: Path) -> SQLiteBackend:
    """The log in a file."""
    return SQLiteBackend(path)


def events_in(path: Path) -> list[Recorded]:
    """What a whole log holds."""
    with closing(opened(path)) as log:
        return list(log.read())


def verified_at(path: Path) -> tuple[Verified, list[Recorded]]:
    """What a check finds in a file, and what can be read of it."""
    with closing(opened(path)) as log:
        return checked(log), salvaged(log)[0]


def the_middle(events: Sequence[Recorded]) -> list[Recorded]:
    """A session with others around it: its first event, one in the middle, its last."""
    mine = max(streams_of(events[8:]).values(), key=len)
    return [mine[0], mine[len(mine) // 2], mine[-1]]


FLIPPED: dict[str, Sequence[object]] = {
    "stream": (),
    "seq": [1 << bit for bit in (5, 17, 40, 62)],
    "time": [1 << bit for bit in (0, 1, 31, 61)],
    "type": (),
    "version": [1 << bit for bit in (1, 7, 33)],
    "digest": (),
    "data": (),
}


class TestFlippedBit:
    """One bit of a stored event is another."""

    @pytest.mark.parametrize("which", range(3), ids=["first", "middle", "last"])
    @pytest.mark.parametrize("field", FLIPPED)
    def test_in_a_row(self, db: Path, field: str, which: int) -> None:
        """In whatever field of a row a bit is flipped, its position and session are named, and
        every other event is read and checked."""
        events = events_in(db)
        hit = the_middle(events)[which]
        for value in flipped(hit, field):
            sql = f"UPDATE events SET {field} = ? WHERE position = {hit.position}"
            change(db, sql, parameters=(value,))
            verified, found = verified_at(db)
            assert [one for one in found if one in events] == [
                one for one in events if one.position != hit.position
            ]
            at = [one for one in verified.damages if one.position == hit.position]
            assert len(at) == 1
            assert field == "stream" or at[0].stream == hit.stream
            assert field in ("seq", "stream") or at[0].seq == hit.seq
            if field in ("time", "type", "version", "digest") or (field, which > 0) == (
                "data",
                True,
            ):
                assert places(verified) == [(hit.position, hit.stream, hit.seq)]
                assert verified.unchecked == 0
            else:
                assert {one.stream for one in verified.damages} <= {hit.stream, at[0].stream}
            change(db, sql, parameters=(original(hit, field),))
        assert verified_at(db)[0].damages == ()

    @pytest.mark.parametrize("field", FLIPPED)
    def test_of_another_kind(self, db: Path, field: str) -> None:
        """A field that holds a value of another kind, or a text that is none, is damage of that
        event."""
        events = events_in(db)
        hit = the_middle(events)[1]
        for value in ("x'ff41'", "CAST(x'ff41' AS TEXT)", "1.5", "'text'", "''"):
            change(db, f"UPDATE events SET {field} = {value} WHERE position = {hit.position}")
            verified, found = verified_at(db)
            assert [one for one in found if one in events] == [
                one for one in events if one.position != hit.position
            ]
            assert hit.position in {one.position for one in verified.damages}
            assert json.loads(msgspec.json.encode(verified))

    def test_in_the_position(self, db: Path) -> None:
        """A row that stands at another position is out of its stream's order, and its own position
        is missing."""
        events = events_in(db)
        hit = the_middle(events)[1]
        change(db, f"UPDATE events SET position = 1 << 40 WHERE position = {hit.position}")
        verified, found = verified_at(db)
        assert without_positions(found) == [
            *without_positions(one for one in events if one != hit),
            *without_positions([hit]),
        ]
        assert hit.position in {one.position for one in verified.damages}
        assert (1 << 40, hit.stream, hit.seq) in places(verified)

    def test_lists_are_still_there(self, db: Path) -> None:
        """A store with a damaged event still lists its sessions, and loads the others."""
        events = events_in(db)
        hit = the_middle(events)[1]
        change(db, "UPDATE events SET data = ? WHERE position = ?", parameters=("{}", hit.position))
        with LogStore(opened(db)) as store:
            ids = [one.session_id for one in store.list_sessions()]
            assert set(ids) == {one.stream for one in events if one.type == "session.started"}
            for session_id in ids:
                if session_id != hit.stream:
                    assert store.load_session(session_id).session_id == session_id
            with pytest.raises(LogDamaged, match="digest"):
                store.load_session(hit.stream)


def original(hit: Recorded, field: str) -> object:
    """The value of a field as the database keeps it."""
    value: object = getattr(hit, field)
    return value.decode() if field == "data" and isinstance(value, bytes) else value


def flipped(hit: Recorded, field: str) -> Iterator[object]:
    """The value of a field with one bit flipped, here and there."""
    value = getattr(hit, field)
    if isinstance(value, int):
        for mask in FLIPPED[field]:
            assert isinstance(mask, int)
            yield value ^ mask
        return
    text = isinstance(value, str) or field == "data"
    data = value.encode() if isinstance(value, str) else value
    for index in {0, 1, len(data) // 2, len(data) - 1}:
        damaged = bytearray(data)
        damaged[index] ^= 1 << index % 6
        yield damaged.decode() if text else bytes(damaged)


class TestMissing:
    """Rows that were taken out."""

    @pytest.mark.parametrize("which", range(3), ids=["first", "middle", "last"])
    def test_row(self, db: Path, which: int) -> None:
        """A missing row is named by its position, and its session by the event behind it."""
        events = events_in(db)
        hit = the_middle(events)[which]
        change(db, f"DELETE FROM events WHERE position = {hit.position}")
        verified, found = verified_at(db)
        assert found == [one for one in events if one != hit]
        expected = [(hit.position, "", 0)]
        if which < 2:
            following = streams_of(found)[hit.stream][hit.seq - 1]
            expected.append((following.position, hit.stream, following.seq))
        assert places(verified) == expected
        assert verified.unchecked == (len(streams_of(found)[hit.stream]) if which == 0 else 0)

    def test_many_rows(self, db: Path) -> None:
        """Rows that are missing one behind the other are one damage."""
        events = events_in(db)
        change(db, "DELETE FROM events WHERE position BETWEEN 5 AND 20")
        verified, found = verified_at(db)
        assert found == [one for one in events if not 5 <= one.position <= 20]
        assert places(verified)[0] == (20, "", 0)
        assert "positions 5 to 20 are missing" in verified.damages[0].what

    @pytest.mark.parametrize("count", [1, 7])
    def test_last_rows(self, db: Path, count: int) -> None:
        """The last rows of the log are missed by the number that SQLite gave last."""
        events = events_in(db)
        change(db, f"DELETE FROM events WHERE position > {len(events) - count}")
        verified, found = verified_at(db)
        assert found == events[:-count]
        assert places(verified) == [(len(events), "", 0)]

    def test_all_rows(self, db: Path) -> None:
        """So is a log that has lost every row."""
        head = len(events_in(db))
        change(db, "DELETE FROM events")
        verified, _ = verified_at(db)
        assert places(verified) == [(head, "", 0)]

    def test_swapped(self, db: Path) -> None:
        """Two rows in each other's place are named both."""
        events = events_in(db)
        first, second = the_middle(events)[0], the_middle(events)[1]
        change(
            db,
            f"UPDATE events SET position = -1 WHERE position = {first.position}",
            f"UPDATE events SET position = {first.position} WHERE position = {second.position}",
            f"UPDATE events SET position = {second.position} WHERE position = -1",
        )
        verified, found = verified_at(db)
        assert sorted(without_positions(found), key=str) == sorted(
            without_positions(events), key=str
        )
        assert (first.position, first.stream, second.seq) in places(verified)
        assert (second.position, first.stream, first.seq) in places(verified)


@pytest.fixture(scope="module")
def small_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log in pages of 512 bytes, so that a few events have trees of three levels and payloads
    that go over several pages."""
    path = tmp_path_factory.mktemp("small") / "runs.db"
    with closing(opened(path)) as log, LogStore(MemoryBackend()) as store:
        history = History(store)
        sessions = [history.start(f"shop::{n}", "", {}, None) for n in range(6)]
        for number in range(80):
            history.attempt(sessions[number % 6], ATTEMPT)
        for session in sessions[:3]:
            history.finish(session, True)
        log.append(without_positions(store.log.read()))
    change_pages(path)
    return path


def change_pages(path: Path) -> None:
    """Write a database anew in pages of 512 bytes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode=DELETE", "page_size=512"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode=WAL")


def without_pages(content: bytes, size: int, pages: Sequence[int]) -> bytes:
    """A file with some pages, counted from 1, zeroed."""
    zeroed = bytearray(content)
    for page in pages:
        zeroed[(page - 1) * size : page * size] = bytes(size)
    return bytes(zeroed)


def root_of(path: Path, table: str) -> int:
    """The page that a table's tree begins at."""
    with closing(sqlite3.connect(path)) as connection:
        sql = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        return int(connection.execute(sql, (table,)).fetchone()[0])


def undamaged(path: Path, events: Sequence[Recorded]) -> list[Recorded]:
    """The events that SQLite still finds at their positions, as they were."""
    sql = """SELECT position, stream, seq, time, type, version, CAST(data AS BLOB), digest
             FROM events WHERE position = ?"""
    found = []
    with closing(sqlite3.connect(path)) as connection:
        for one in events:
            try:
                row = connection.execute(sql, (one.position,)).fetchone()
            except sqlite3.DatabaseError:
                continue
            if row == msgspec.structs.astuple(one):
                found.append(one)
    return found


class TestPages:
    """Parts of an SQLite file that are lost."""

    @pytest.mark.slow
    def test_zeroed(self, small_pages: Path, tmp_path: Path) -> None:
        """Whichever page of a file is zeroed, what was lost is reported, and all events but those
        that stood on it are read, whether SQLite still finds them or not."""
        events = events_in(small_pages)
        content = small_pages.read_bytes()
        path = tmp_path / "runs.db"
        lost_counts = []
        told = set()
        for begin in range(0, len(content), 3 * 512):
            gone = content[begin : begin + 512]
            path.write_bytes(without_pages(content, 512, [begin // 512 + 1]))
            for beside in tmp_path.glob("runs.db-*al"):
                beside.unlink()
            with closing(opened(path)) as log:
                found, _ = salvaged(log)
                damages = verify(log).damages
            kept = [one for one in found if one in events]
            lost = [one for one in events if one not in kept]
            assert all(one.digest in gone or gone[4:24] in one.data for one in lost)
            told |= {one.what for one in damages if not lost}
            lost_counts.append(len(lost))
            if lost:
                assert damages
                assert len(damages) <= 2 + 3 * len({one.stream for one in lost})
                assert {one.stream for one in damages} - {""} <= {one.stream for one in lost}
        assert {0, 1, 2} <= set(lost_counts)
        assert "the index by session is not readable: database disk image is malformed" in told
        assert any("were read from their pages" in what for what in told)
        assert any("first page can't be read" in what for what in told)

    def test_index(self, small_pages: Path, tmp_path: Path) -> None:
        """A row that the index does not lead to is named: its session would be loaded without
        it."""
        path = tmp_path / "runs.db"
        hit = events_in(small_pages)[40]
        content = small_pages.read_bytes()
        entry = hit.stream.encode() + bytes([hit.seq, hit.position])
        assert content.count(entry) == 1
        path.write_bytes(content.replace(entry, entry[:-1] + b"\x01"))
        verified, found = verified_at(path)
        assert places(verified) == [(hit.position, hit.stream, hit.seq)]
        assert "index" in verified.damages[0].what
        assert len(found) == verified.events == len(events_in(small_pages))

    def test_names_in_the_index(self, small_pages: Path, tmp_path: Path) -> None:
        """Sessions whose rows can't be read are named by the index."""
        path = tmp_path / "runs.db"
        events = events_in(small_pages)
        content = small_pages.read_bytes()
        hit = events[40]
        path.write_bytes(without_pages(content, 512, [content.index(hit.digest) // 512 + 1]))
        kept = undamaged(path, events)
        lost = {one.stream for one in events if one not in kept}
        assert hit not in kept
        verified, _ = verified_at(path)
        told = verified.damages[0]
        assert all(stream == told.stream or stream in told.what for stream in lost)

    @pytest.mark.slow
    def test_a_large_part(self, tmp_path: Path) -> None:
        """A part that led to thousands of rows is one damage, and they are read from their pages;
        one that holds what is nowhere is another, found without looking at each position."""
        path = tmp_path / "runs.db"
        with closing(opened(path)) as log:
            log.append(batch("s", 0, 40_000))
        change(path, "UPDATE sqlite_sequence SET seq = 1 << 60")
        content = path.read_bytes()
        path.write_bytes(without_pages(content, 4096, [root_of(path, "events")]))
        with closing(opened(path)) as log:
            verified = verify(log)
        assert verified.events == 40_000
        missing, unreached = verified.damages
        assert f"positions 40001 to {1 << 60} are not readable" in missing.what
        assert f"40000 of the positions 1 to {1 << 60} can't be reached" in unreached.what

    def test_several_pages(self, small_pages: Path, tmp_path: Path) -> None:
        """What can be read between two parts that can't is read, and so is all where the end of the
        log can't be read, nor what SQLite remembers of it."""
        path = tmp_path / "runs.db"
        events = events_in(small_pages)
        content = small_pages.read_bytes()
        lost = [events[40], events[42], events[-1]]
        pages = [content.index(one.digest) // 512 + 1 for one in lost]
        pages.append(root_of(small_pages, "sqlite_sequence"))
        path.write_bytes(without_pages(content, 512, pages))
        verified, found = verified_at(path)
        assert found == undamaged(path, events)
        assert events[41] in found
        assert not any(one in found for one in lost)
        assert {one.position for one in lost} <= {one.position for one in verified.damages}

    def test_cut_short(self, small_pages: Path, tmp_path: Path) -> None:
        """A file that has lost its end, whichever part of it, is told of."""
        events = events_in(small_pages)
        content = small_pages.read_bytes()
        path = tmp_path / "runs.db"
        for size in range(512, len(content), 512 * 7):
            path.write_bytes(content[:size])
            for beside in tmp_path.glob("runs.db-*al"):
                beside.unlink()
            try:
                log = opened(path)
                verified = verify(log)
                found, _ = salvaged(log)
            except LogError:
                continue
            assert verified.damages
            kept = [one for one in found if one in events]
            assert set(map(repr, kept)) >= set(map(repr, undamaged(path, events)))
            log.close()

    @settings(max_examples=80, deadline=None)
    @given(data=st.data())
    def test_any_byte(self, small_pages: Path, data: st.DataObject) -> None:
        """Whichever byte of a file is another, the check comes to an end, and where it finds
        nothing, every event is read as it was written."""
        events = events_in(small_pages)
        content = bytearray(small_pages.read_bytes())
        index = data.draw(st.integers(0, len(content) - 1))
        content[index] ^= data.draw(st.integers(1, 255))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "runs.db")
            path.write_bytes(content)
            try:
                log = opened(path)
            except LogError:
                return
            try:
                verified = verify(log)
                found, _ = salvaged(log)
            except LogError:
                return
            finally:
                log.close()
        assert verified.damages or found == events

    def test_position_in_a_page(self, small_pages: Path, tmp_path: Path) -> None:
        """Where a page says another position of a row, which SQLite believes, the row is named,
        and nothing behind it is lost."""
        events = events_in(small_pages)
        path = tmp_path / "runs.db"
        hit = events[40]
        for said in (0, 39, 40, 42, 46, 90, 127):
            misplace(small_pages, path, hit, said)
            verified, found = verified_at(path)
            assert without_positions(found) == without_positions(events)
            assert (hit.position, hit.stream, hit.seq) in places(verified)


def misplace(whole: Path, path: Path, hit: Recorded, said: int) -> None:
    """Copy a database, and have a row say another position where it stands.

    A row is its position, a header (its length; 0 for the position; 65 for a text of 26 bytes; six
    fields more), and then the text: https://sqlite.org/fileformat2.html#record_format
    """
    content = whole.read_bytes()
    assert max(hit.position, said) < 128  # so that each is one byte
    head = re.escape(bytes([hit.position])) + rb".\x00\x41.{5,8}"
    (found,) = re.finditer(head + hit.stream.encode(), content, re.DOTALL)
    path.write_bytes(content[: found.start()] + bytes([said]) + content[found.start() + 1 :])
    for beside in path.parent.glob(f"{path.name}-*al"):
        beside.unlink()


# -- JSONL


Lines = list[bytes]


@pytest.fixture(scope="module")
def made_logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store in a folder with one file."""
    path = tmp_path_factory.mktemp("made") / "logs"
    write(LocalFileBackend(path))
    return path


@pytest.fixture
def logs(made_logs: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made_logs, tmp_path / "logs"))


def file_of(path: Path) -> Path:
    """The only file of a log."""
    (file,) = path.glob("*.jsonl")
    return file


def lines_of(path: Path) -> Lines:
    """Its lines."""
    return file_of(path).read_bytes().splitlines(keepends=True)


def line_of(path: Path, one: Recorded) -> int:
    """The number of an event's line."""
    return file_of(path).read_bytes()[: one.position].count(b"\n") - 1


def alone(path: Path, events: Sequence[Recorded]) -> list[Recorded]:
    """The events that are an append of their own."""
    whole = [line.endswith(b',"more":0}\n') for line in lines_of(path)]
    return [
        one for index, one in enumerate(events) if whole[index] and (index == 0 or whole[index - 1])
    ]


def appends_of(content: bytes) -> list[tuple[int, int]]:
    """Where each append of a file begins and ends."""
    ends = [0]
    end = 0
    for line in content.splitlines(keepends=True):
        end += len(line)
        if line.endswith(b',"more":0}\n'):
            ends.append(end)
    return list(pairwise(ends))


class TestFlippedBitInALine:
    """One bit of a JSONL file is another."""

    @pytest.mark.slow
    def test_each_byte(self, logs: Path) -> None:
        """Whichever byte of a line has a bit flipped, in an append of one event or of several, the
        position and session are named and every other append is read; unless all events are as they
        were written."""
        with closing(LocalFileBackend(logs)) as log:
            events = list(log.read())
            content = file_of(logs).read_bytes()
            for begin, end in appends_of(content)[5:8]:
                mine = [one for one in events if begin < one.position <= end]
                others = [one for one in events if one not in mine]
                names = {b"": ""} | {one.stream.encode(): one.stream for one in mine}
                unharmed = 0
                for index in range(begin, end):
                    flip_bit(file_of(logs), content, index, index % 8)
                    verified, (found, _) = checked(log), salvaged(log)
                    if not verified.damages:
                        assert without_positions(found) == without_positions(events)
                        unharmed += 1
                        continue
                    assert [one for one in others if one not in found] == [] or index == end - 1
                    at = verified.damages[0]
                    assert begin < at.position <= end or index == end - 1
                    assert at.stream in names.values() or in_name(content, index)
                assert unharmed <= 64 * 4 // 8
            file_of(logs).write_bytes(content)
            assert checked(log).damages == ()

    def test_digits_of_a_digest(self, logs: Path) -> None:
        """A change that leaves the event what it was, as from `a` to `A` in the hex digits of its
        digest, is damage too: an event is written in one way."""
        file = file_of(logs)
        content = file.read_bytes()
        at = content.index(b'"digest":"') + 10
        file.write_bytes(content[:at] + content[at : at + 64].upper() + content[at + 64 :])
        with closing(LocalFileBackend(logs)) as log:
            assert "not written as lllm writes one" in checked(log).damages[0].what

    @pytest.mark.slow
    @settings(max_examples=80, deadline=None)
    @given(
        appended=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), min_size=1, max_size=9),
        segment_bytes=st.sampled_from([300, 1_500, 1 << 20]),
        data=st.data(),
    )
    def test_any_byte(
        self, appended: list[tuple[int, int]], segment_bytes: int, data: st.DataObject
    ) -> None:
        """Whichever byte of whatever log is another, it is found, and all but its append and the
        one behind it can be read; unless all events are as they were written, or the end of the log
        now looks like a write that was cut short."""
        with tempfile.TemporaryDirectory() as folder:
            log = LocalFileBackend(folder, segment_bytes=segment_bytes)
            counts = [0, 0, 0]
            written: list[list[NewEvent]] = []
            for stream, size in appended:
                first = counts[stream] + 1
                counts[stream] += size
                salt = bytes([stream]) * 32
                written.append(
                    [
                        seal(salt, f"s{stream}", seq, seq, "t", 1, payload(salt, seq))
                        for seq in range(first, first + size)
                    ]
                )
                log.append(written[-1])
            ends = [0, *(log_ends(log, written))]
            index = data.draw(st.integers(0, log.head() - 1))
            segment = max(file for file in Path(folder).glob("*.jsonl") if int(file.stem) <= index)
            content = bytearray(segment.read_bytes())
            content[index - int(segment.stem)] ^= data.draw(st.integers(1, 255))
            segment.write_bytes(content)
            verified, found = verify(log), without_positions(salvaged(log)[0])
            log.close()
        hit = max(number for number in range(len(written)) if ends[number] <= index)
        if verified.damages:
            for number, events in enumerate(written):
                assert number in (hit, hit + 1) or all(one in found for one in events)
        elif verified.torn_bytes:
            assert hit >= len(written) - 2
            assert found == [one for events in written[:hit] for one in events]
        else:
            assert found == [one for events in written for one in events]


def payload(salt: bytes, seq: int) -> bytes:
    """A payload like those of sessions: the first has the salt."""
    return msgspec.json.encode({"text": "é", "salt": salt} if seq == 1 else {"text": "é" * seq})


def log_ends(log: LogBackend, written: list[list[NewEvent]]) -> list[int]:
    """Where each append of a log ends."""
    positions = [one.position for one in log.read()]
    ends = []
    for events in written:
        ends.append(positions[len(events) - 1])
        del positions[: len(events)]
    return ends


def flip_bit(file: Path, content: bytes, index: int, bit: int) -> None:
    """Write a content with one bit flipped."""
    damaged = bytearray(content)
    damaged[index] ^= 1 << bit
    file.write_bytes(damaged)


def in_name(content: bytes, index: int) -> bool:
    """Whether a byte is in the part of a line that says its stream."""
    begin = content.rfind(b"\n", 0, index) + 1
    return index < content.index(b'"seq":', begin) + 6


class TestLinesTakenOut:
    """Lines that are missing, twice there, or in another place."""

    @pytest.mark.parametrize("which", range(2), ids=["first", "middle"])
    def test_missing(self, logs: Path, which: int) -> None:
        """A line that is missing is told by the next event of its session."""
        with closing(LocalFileBackend(logs)) as log:
            events = list(log.read())
            mine = next(
                stream
                for stream in streams_of(events).values()
                if len(stream) > 3 and all(one in alone(logs, events) for one in stream[:3])
            )
            hit, following = mine[2 * which - which], mine[2 * which - which + 1]
            lines = lines_of(logs)
            gone = lines.pop(line_of(logs, hit))
            file_of(logs).write_bytes(b"".join(lines))
            verified, (found, _) = checked(log), salvaged(log)
        assert without_positions(found) == without_positions(one for one in events if one != hit)
        assert places(verified) == [(following.position - len(gone), hit.stream, following.seq)]
        assert verified.unchecked == (len(mine) - 1 if which == 0 else 0)

    def test_missing_last(self, tmp_path: Path) -> None:
        """The last line of a session is missed where its file is followed by another, and in the
        last file because the log ends before what was acknowledged."""
        for is_sealed in (True, False):
            log = LocalFileBackend(tmp_path / f"logs-{is_sealed}")
            for number in range(3):
                log.append([event("s", number + 1)])
            log.close()
            if is_sealed:
                log = LocalFileBackend(tmp_path / f"logs-{is_sealed}", segment_bytes=100)
                log.append([event("t", 1)])
            (file, *_) = sorted(log.path.glob("*.jsonl"))
            content = file.read_bytes()
            end = len(content)
            file.write_bytes(content[: content.rindex(b"{", 0, content.rindex(b'"stream"'))])
            file.write_bytes(b"".join(content.splitlines(keepends=True)[:-1]))
            log.close()
            with closing(LocalFileBackend(log.path)) as again:
                verified = checked(again)
            assert places(verified) == [(end, "", 0)]
            assert verified.events == 2 + is_sealed

    def test_missing_in_an_append(self, logs: Path) -> None:
        """An append that has lost one of its lines is damage of its session."""
        with closing(LocalFileBackend(logs)) as log:
            events = list(log.read())
            content = file_of(logs).read_bytes()
            begin = next(
                begin for begin, end in appends_of(content) if content[begin:end].count(b"\n") > 2
            )
            cut = content.index(b"\n", begin) + 1
            file_of(logs).write_bytes(content[:begin] + content[cut:])
            verified, (found, _) = checked(log), salvaged(log)
            stream = next(one.stream for one in events if begin < one.position)
        gone = [one for one in events if begin < one.position <= cut]
        assert without_positions(found) == without_positions(
            one for one in events if one not in gone
        )
        assert {one.stream for one in verified.damages} == {stream}

    def test_swapped(self, logs: Path) -> None:
        """Two lines of a session in each other's place are both named, and both read."""
        with closing(LocalFileBackend(logs)) as log:
            events = list(log.read())
            mine = next(
                stream
                for stream in streams_of(alone(logs, events)).values()
                if len(stream) > 2 and stream[1].seq == stream[0].seq + 1
            )
            one, other = line_of(logs, mine[0]), line_of(logs, mine[1])
            lines = lines_of(logs)
            lines[one], lines[other] = lines[other], lines[one]
            file_of(logs).write_bytes(b"".join(lines))
            verified, (found, _) = checked(log), salvaged(log)
        assert sorted(map(str, without_positions(found))) == sorted(
            map(str, without_positions(events))
        )
        named = {(where.stream, where.seq) for where in verified.damages}
        assert named == {(mine[0].stream, mine[0].seq), (mine[0].stream, mine[1].seq)}

    @pytest.mark.parametrize("apart", [0, 5])
    def test_doubled(self, logs: Path, apart: int) -> None:
        """A line that comes again, at once or later, is named where it comes again, whether its
        session goes on, has ended, or is a statement."""
        with closing(LocalFileBackend(logs)) as log:
            events = list(log.read())
            whole = file_of(logs).read_bytes()
            singles = alone(logs, events)
            assert {"session.tagged", "agent.defined", "error.recorded"} <= {
                one.type for one in singles
            }
            for hit in singles:
                lines = lines_of(logs)
                number = line_of(logs, hit)
                place = number + 1 + apart
                while place < len(lines) and not lines[place - 1].endswith(b',"more":0}\n'):
                    place += 1
                lines.insert(place, lines[number])
                file_of(logs).write_bytes(b"".join(lines))
                verified = checked(log)
                position = len(b"".join(lines[: place + 1])) if place < len(lines) else 0
                assert (position or log.head(), hit.stream, hit.seq) in places(verified)
                assert {where.stream for where in verified.damages} == {hit.stream}
                file_of(logs).write_bytes(whole)

    def test_segment(self, tmp_path: Path) -> None:
        """A file that is missing in the middle is named by where it ends, and all others are
        read."""
        log = LocalFileBackend(tmp_path / "logs", segment_bytes=1_500)
        write(log)
        log = LocalFileBackend(tmp_path / "logs")
        events = list(log.read())
        files = sorted(log.path.glob("*.jsonl"))
        assert len(files) > 4
        for missing, following in pairwise(files):
            begin, end = int(missing.stem), int(following.stem)
            missing.rename(tmp_path / "aside")
            verified, (found, _) = checked(log), salvaged(log)
            assert found == [one for one in events if not begin < one.position <= end]
            assert places(verified)[0] == (end, "", 0)
            gone = {one.stream for one in events if one not in found}
            assert {where.stream for where in verified.damages[1:]} <= gone
            (tmp_path / "aside").rename(missing)
        assert checked(log).damages == ()
        log.close()

    def test_lists_are_still_there(self, logs: Path) -> None:
        """A store with a damaged line still lists the sessions that it listed before."""
        with closing(LocalFileBackend(logs)) as log, LogStore(log) as store:
            before = {one.session_id for one in store.list_sessions()}
            events = list(log.read())
        hit = alone(logs, events)[3]
        content = file_of(logs).read_bytes()
        flip_bit(file_of(logs), content, hit.position - 30, 0)
        with LogStore(LocalFileBackend(logs)) as store:
            assert {one.session_id for one in store.list_sessions()} == before


class TestTail:
    """What stands behind the last whole append."""

    @pytest.mark.slow
    def test_torn(self, logs: Path) -> None:
        """Wherever the last write was cut short, its bytes are counted, and are no damage."""
        with closing(LocalFileBackend(logs)) as log:
            log.append(batch("s", 0))
            content = file_of(logs).read_bytes()
            begin, end = appends_of(content)[-1]
            for cut in range(begin + 1, end, 17):
                file_of(logs).write_bytes(content[:cut])
                verified = checked(log)
                assert (verified.damages, verified.torn_bytes) == ((), cut - begin)
                assert not verified.is_sound

    def test_zeros(self, logs: Path) -> None:
        """Zeros, which a loss of power may leave, are no damage either."""
        with closing(LocalFileBackend(logs)) as log:
            with file_of(logs).open("ab") as file:
                file.write(bytes(5_000))
            verified = checked(log)
        assert (verified.damages, verified.torn_bytes) == ((), 5_000)

    def test_whole_line(self, logs: Path) -> None:
        """A last line that has its end and is no event is damage, behind which nobody writes."""
        with closing(LocalFileBackend(logs)) as log:
            log.append([event("mine", 1)])
            content = file_of(logs).read_bytes()
            file_of(logs).write_bytes(content[:-10] + b"#" + content[-9:])
            verified = checked(log)
        assert places(verified) == [(len(content), "", 0)]
        assert str(file_of(logs)) in verified.damages[0].what


class TestReaders:
    """What everybody else who reads a damaged log is told: an error of ours, or all there is."""

    @pytest.mark.parametrize("field", ["seq", "time", "type", "version", "digest"])
    def test_field_of_another_kind(self, db: Path, field: str) -> None:
        """A row with a field of another kind, or with a text that is none, is LogDamaged for who
        loads its session."""
        hit = the_middle(events_in(db))[1]
        for value in ("x'ff41'", "CAST(x'ff41' AS TEXT)"):
            change(db, f"UPDATE events SET {field} = {value} WHERE position = {hit.position}")
            with LogStore(opened(db)) as store, pytest.raises(LogDamaged):
                store.load_session(hit.stream)

    @pytest.mark.parametrize("said", [0, 39, 40, 42, 46, 90, 127])
    def test_position_in_a_page(self, small_pages: Path, tmp_path: Path, said: int) -> None:
        """Where a row says another position, a reader is told, and loses nothing behind it in
        silence."""
        path = tmp_path / "runs.db"
        misplace(small_pages, path, events_in(small_pages)[40], said)
        with closing(opened(path)) as log, pytest.raises(LogDamaged):
            list(log.read())

    def test_position_at_the_end_of_a_page_of_rows(self, tmp_path: Path) -> None:
        """A row that leads a reader back does not make it read for ever."""
        path = tmp_path / "runs.db"
        with closing(opened(path)) as log:
            log.append([event(f"{number:026}", 1) for number in range(1_200)])
        content = path.read_bytes()
        head = rb"\x87\x68.\x00\x41.{5,8}" + b"%026d" % 999  # position 1,000
        (found,) = re.finditer(head, content, re.DOTALL)
        path.write_bytes(content[: found.start()] + b"\x83\x74" + content[found.start() + 2 :])
        with closing(opened(path)) as log:
            assert places(verify(log)) == [(1_000, f"{999:026}", 1)]
            with pytest.raises(LogDamaged):
                list(islice(log.read(), 10_000))

    def test_schema_that_is_no_text(self, small_pages: Path, tmp_path: Path) -> None:
        """A file whose schema is damaged is read from its pages, also where SQLite quotes what is
        no text."""
        path = tmp_path / "runs.db"
        content = small_pages.read_bytes()
        path.write_bytes(content.replace(b"NOT NULL", b"NOT NUL\xc2"))
        with closing(opened(path)) as log:
            verified, found = verify(log), salvaged(log)[0]
        assert str(path) in verified.damages[0].what
        assert found == events_in(small_pages)

    def test_deep_line(self, logs: Path) -> None:
        """A line of brackets deeper than any decoder follows is a damaged line."""
        with closing(LocalFileBackend(logs)) as log:
            events = list(log.read())
            content = file_of(logs).read_bytes()
            deep = b'{"stream":"deep","seq":1,"data":' + b"[" * 100_000 + b',"more":0}\n'
            file_of(logs).write_bytes(deep + content)
            verified, (found, _) = checked(log), salvaged(log)
            assert places(verified) == [(len(deep), "deep", 0)]
            assert without_positions(found) == without_positions(events)


class TestShown:
    """What the command line says of it."""

    def test_whole(self, logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Where all is well, a line says how much was checked, and two what can't be."""
        with closing(LocalFileBackend(logs)) as log:
            verified = verify(log)
        show(verified, as_json=False)
        line, order, not_shown = capsys.readouterr().out.splitlines()
        assert order == f"Order and completeness: {verified.not_covered}"
        assert not_shown == NOT_SHOWN
        assert line.startswith(
            f"Integrity: good. {verified.events} events in {verified.streams} streams"
        )
        assert line.endswith("every digest fits, nothing is missing.")

    def test_damage(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Each damage is one harmless line with its position, its session and what is wrong; many
        are cut, and that is said; the exit code is 1."""
        one = Damage(7, "01m845q0r4aaaaaaaaaaaaaaaa", 3, "bad \x1b[31m text")
        verified = Verified(100, 5, (one,) * 70, 2, 0, 0)
        with pytest.raises(Finding, match=r"70 places.*100 events can be read"):
            show(verified, as_json=False)
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "position 7, session 01m845q0r4aa, event 3: bad \\x1b[31m text"
        assert lines[50] == "... and 20 more (use --json for all)"
        assert lines[51] == "Integrity: wrong. 100 events can be read."
        assert "2 events could not be checked" in lines[52]

    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        """As JSON all of it is printed, and the exit code is the same."""
        one = Damage(7, "s", 3, "it")
        verified = Verified(100, 5, (one,) * 70, 2, 1, 9, ("x.torn",))
        with pytest.raises(Finding):
            show(verified, as_json=True)
        printed = capsys.readouterr().out
        assert msgspec.json.decode(printed, type=Verified) == verified
        show(Verified(0, 0, (), 0, 0, 0), as_json=True)
