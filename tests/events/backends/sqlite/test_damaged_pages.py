"""An SQLite store with a page that can't be read: the rest is there, and the gap has a name.

Each kind of page that a file has is spoiled in turn, on a copy. What is lost with it is worked out
from the file itself (https://sqlite.org/fileformat.html), not by the code that is tested.
"""

from __future__ import annotations

import random
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from lllm import LogDamaged, LogStore, LogUnavailable, SQLiteBackend
from lllm.cli import main
from lllm.doctor.examine import examine
from lllm.events.backends.sqlite.readable_rows import ReadableRows
from lllm.events.integrity.verify import verify
from lllm.events.log import LogBackend
from lllm.projections.views.sessions import SessionsView
from tests.support.echo import echo

PAGE = 4096
SESSIONS = 40
SCHEMA = "sqlite_schema"


class Page(NamedTuple):
    """A page of a file: its number, whose it is, and the positions of the log lost with it."""

    number: int
    table: str
    kind: str
    lost: frozenset[int]


class Whole(NamedTuple):
    """A store without damage: its bytes, its pages by kind, and its sessions by id with the
    positions of their events."""

    data: bytes
    pages: dict[tuple[str, str], list[Page]]
    events: list[int]
    sessions: dict[str, frozenset[int]]


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a byte, and where it ends."""
    value = 0
    for count in range(9):
        byte = data[at + count]
        value = value << 7 | byte & 127
        if byte < 128:
            return value, at + count + 1
    return value, at + 9


def rowids(data: bytes, page: int) -> list[int]:
    """Those of the cells of a leaf page of a table."""
    begin = (page - 1) * PAGE
    count = int.from_bytes(data[begin + 3 : begin + 5], "big")
    pointers = (begin + 8 + 2 * number for number in range(count))
    cells = (begin + int.from_bytes(data[at : at + 2], "big") for at in pointers)
    return [varint(data, varint(data, cell)[1])[0] for cell in cells]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A store with several hundred events, some of them large, and free pages."""
    path = tmp_path_factory.mktemp("whole") / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        for number in range(SESSIONS):
            long = 20_000 if number % 20 == 7 else 50
            echo(store)(f"task {number} {'x' * long}", tags={"n": str(number)})
        store.rebuild()
        events = [event.position for event in store.log.read()]
        sessions = {
            one.session_id: frozenset(event.position for event in store.events(one.session_id))
            for one in store.list_sessions()
        }
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        try:
            found = connection.execute("SELECT name, path, pageno, pagetype FROM dbstat").fetchall()
        except sqlite3.OperationalError:
            pytest.fail("this test asks an SQLite with ENABLE_DBSTAT_VTAB where pages are")
    data = path.read_bytes()
    leaves = {
        way: number for name, way, number, kind in found if (name, kind) == ("events", "leaf")
    }
    pages: dict[tuple[str, str], list[Page]] = defaultdict(list)
    for name, way, number, kind in found:
        lost: frozenset[int] = frozenset()
        if (name, kind) == ("events", "leaf"):
            lost = frozenset(rowids(data, number))
        elif (name, kind) == ("events", "overflow"):
            leaf, _, cell = way.partition("+")[0].rpartition("/")
            lost = frozenset([rowids(data, leaves[f"{leaf}/"])[int(cell, 16)]])
        table = re.sub(r"_v\d+", "", name)
        pages[table, kind].append(Page(number, table, kind, lost))
    used = {number for _, _, number, _ in found}
    for number in range(1, len(data) // PAGE + 1):
        if number not in used:
            pages["free", ""].append(Page(number, "free", "", frozenset()))
    return Whole(data, dict(pages), events, sessions)


def spoiled(whole: Whole, page: Page, folder: Path, how: str = "zeros") -> Path:
    """A copy of the store in which a page is overwritten."""
    begin = (page.number - 1) * PAGE
    filled = bytes(PAGE) if how == "zeros" else random.Random(page.number).randbytes(PAGE)
    folder.mkdir()
    file = folder / "runs.db"
    file.write_bytes(whole.data[:begin] + filled + whole.data[begin + PAGE :])
    return file


def sampled(whole: Whole) -> Iterator[Page]:
    """Of each kind of page the first, one in the middle and the last."""
    for (table, _), pages in sorted(whole.pages.items()):
        if table != SCHEMA:
            for number in sorted({0, len(pages) - 1}):
                yield pages[number]


def first_trunk(data: bytes) -> int:
    """The page that begins the list of free pages: https://www.sqlite.org/fileformat2.html#freelist."""
    return int.from_bytes(data[32:36], "big")


def needed_to_append(whole: Whole) -> set[int]:
    """The pages without which SQLite can't append; what comes then waits in memory."""
    roots = [("events", "internal"), ("sqlite_autoindex_events_1", "internal"),
             ("sqlite_sequence", "leaf")]  # fmt: skip
    pages = [page for kind in roots for page in whole.pages[kind]]
    # The end of the log, and of the index: "error-..." comes behind the ids of sessions.
    pages += [whole.pages[table, "leaf"][-1] for table in ("events", "sqlite_autoindex_events_1")]
    return {page.number for page in pages}


def read_on(log: LogBackend) -> tuple[list[int], list[LogDamaged]]:
    """Every position that can be read, and what is said of the others, as the errors advise."""
    found: list[int] = []
    damages: list[LogDamaged] = []
    after = 0
    while True:
        try:
            for event in log.read(after=after):
                found.append(event.position)
            return found, damages
        except LogDamaged as damage:
            if damage.position <= after:
                raise
            after = damage.position
            damages.append(damage)


def named(damages: list[LogDamaged]) -> set[int]:
    """The positions that are said to be lost."""
    found: set[int] = set()
    for damage in damages:
        match = re.search(r"positions? (\d+)(?: to (\d+))? (?:is|are) not readable", str(damage))
        assert match is not None, damage
        last = int(match[2] or match[1])
        assert damage.position == last
        found.update(range(int(match[1]), last + 1))
    return found


def test_what_is_not_lost_is_read(whole: Whole, tmp_path: Path) -> None:
    """In any page: every other event is read in order, and those that are lost are named, no more
    and no fewer."""
    kinds = set()
    for page in sampled(whole):
        kinds.add((page.table, page.kind))
        place = spoiled(whole, page, tmp_path / str(page.number))
        with closing(SQLiteBackend(place, read_only=page.number % 2 == 0)) as log:
            found, damages = read_on(log)
            if page.kind == "overflow" and not damages:  # SQLite takes the zeros for content
                assert [one.position for one in verify(log).damages][:1] == [*page.lost]
                continue
            assert found == [one for one in whole.events if one not in page.lost], page
            assert named(damages) == page.lost, page
            for session, positions in whole.sessions.items():
                if positions.isdisjoint(page.lost):
                    assert {one.position for one in log.read(stream=session)} == positions
                else:
                    with pytest.raises(LogDamaged) as met:
                        list(log.read(stream=session))
                    assert met.value.stream == session
            started = log.read_types(["session.started"], after=max(page.lost, default=0))
            assert all(one.type == "session.started" for one in started)
    assert {("events", "leaf"), ("events", "overflow"), ("events", "internal"), ("free", ""),
            ("sqlite_autoindex_events_1", "leaf"), ("sqlite_sequence", "leaf"),
            ("checkpoints", "leaf"), ("sessions", "leaf"),
            ("sessions_by_id", "leaf")} <= kinds  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("read_only", [True, False])
def test_a_store_with_a_lost_page(whole: Whole, tmp_path: Path, read_only: bool) -> None:
    """It opens, lists, loads what is whole, is looked at, built anew and backed up; what is
    appended is kept."""
    for page in sampled(whole):
        place = spoiled(whole, page, tmp_path / str(page.number))
        intact = {one for one, at in whole.sessions.items() if at.isdisjoint(page.lost)}
        with LogStore(SQLiteBackend(place, read_only=read_only)) as store:
            listed = {one.session_id for one in store.list_sessions()}
            assert listed == set(whole.sessions), page
            assert store.export_cost_summary()["session_count"] == SESSIONS
            for session in whole.sessions:
                if session in intact:
                    assert store.load_session(session).state == "success"
                else:
                    with pytest.raises(LogDamaged):
                        store.load_session(session)
            examine(store)
            assert verify(store.backend).damages or not page.lost
            assert store.backup(tmp_path / f"{page.number}.copy").position == whole.events[-1]
            if read_only:
                continue
            if page.number not in needed_to_append(whole):
                assert list(store.events(store.save_error(ValueError("later"))))
            assert not store.log.held
            if page.number == first_trunk(whole.data):
                with pytest.raises(LogDamaged):  # without the list of free pages, none is taken
                    store.rebuild()
                continue
            assert store.rebuild().position == store.log.head()
            assert {one.session_id for one in store.list_sessions()} >= intact, page
            with LogStore(SQLiteBackend(place)) as again:  # in the file, for others too
                assert {one.session_id for one in again.list_sessions()} >= intact
                assert again._rows.database.path == place


@pytest.mark.slow
@pytest.mark.parametrize("read_only", [True, False])
def test_after_an_upgrade(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    """Rows of an older version are built anew as the store opens, from what can be read."""
    monkeypatch.setattr(SessionsView, "version", SessionsView.version + 1)
    for page in sampled(whole):
        place = spoiled(whole, page, tmp_path / str(page.number))
        intact = {one for one, at in whole.sessions.items() if at.isdisjoint(page.lost)}
        with LogStore(SQLiteBackend(place, read_only=read_only)) as store:
            assert {one.session_id for one in store.list_sessions()} >= intact, page


@pytest.mark.slow
def test_a_page_of_anything(whole: Whole, tmp_path: Path) -> None:
    """SQLite may believe a page that holds other bytes; what stands elsewhere is read all the
    same, and nothing but our own errors comes of it."""
    for page in sampled(whole):
        place = spoiled(whole, page, tmp_path / str(page.number), "random")
        for read_only in (True, False):
            with LogStore(SQLiteBackend(place, read_only=read_only)) as store:
                found, _ = read_on(store.log)
                assert set(found) >= set(whole.events) - page.lost, page
                assert len(store.list_sessions()) == SESSIONS
                verify(store.backend)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["zeros", "random"])
def test_pages_that_lead_to_others(whole: Whole, tmp_path: Path, how: str) -> None:
    """Where a page of the schema can't be read, or one between the root of the log and its leaves,
    every event is read from its own page, listed and exported, and verify says what is wrong."""
    pages = [page for (table, kind), pages in whole.pages.items() for page in pages
             if table == SCHEMA or (table, kind) == ("events", "internal")]  # fmt: skip
    assert {page.number for page in pages} >= {1, 2}
    for page in pages:
        place = spoiled(whole, page, tmp_path / str(page.number), how)
        place.with_name("runs.db-lllm").mkdir()
        for read_only in (True, False):
            with LogStore(SQLiteBackend(place, read_only=read_only)) as store:
                assert read_on(store.log) == (whole.events, []), page
                for event in store.log.read(after=20, upto=30):
                    assert 20 < event.position <= 30
                for session, positions in whole.sessions.items():
                    assert {one.position for one in store.events(session)} == positions
                    assert store.load_session(session).state == "success"
                assert {one.session_id for one in store.list_sessions()} == set(whole.sessions)
                verified = verify(store.backend)
                assert verified.events == len(whole.events)
                assert "lllm repair" in str(verified.damages)
                examine(store)
        assert place.read_bytes().count(b"SQLite format 3") <= 1


def test_a_page_that_leads_and_one_that_is_led_to(whole: Whole, tmp_path: Path) -> None:
    """What is lost is named, no more and no fewer, also where SQLite reaches nothing."""
    leaves = whole.pages["events", "leaf"]
    for root in (whole.pages["events", "internal"][0], whole.pages[SCHEMA, "internal"][0]):
        for leaf in (leaves[0], leaves[4], leaves[-1]):
            first = spoiled(whole, leaf, tmp_path / f"{root.number}-{leaf.number}-leaf")
            half = whole._replace(data=first.read_bytes())
            place = spoiled(half, root, tmp_path / f"{root.number}-{leaf.number}")
            place.with_name("runs.db-lllm").mkdir()
            with closing(SQLiteBackend(place, read_only=True)) as log:
                found, damages = read_on(log)
                assert found == [one for one in whole.events if one not in leaf.lost]
                if root.table == "events":
                    assert named(damages) == leaf.lost
                assert verify(log).events == len(found)


def test_writing_waits_for_a_repair(whole: Whole, tmp_path: Path) -> None:
    """A store that SQLite can't open keeps its program's events, and writes them once the file is
    whole again."""
    page = whole.pages[SCHEMA, "internal"][0]
    place = spoiled(whole, page, tmp_path / "damaged")
    place.with_name("runs.db-lllm").mkdir()
    with LogStore(SQLiteBackend(place)) as store:
        with pytest.warns(RuntimeWarning, match="lllm repair"):
            echo(store)("while it is damaged")
        assert store.log.held
        assert len(store.list_sessions(limit=1000)) >= SESSIONS
        other = tmp_path / "whole.db"
        other.write_bytes(whole.data)
        other.rename(place)
        store.log.write_held(now=True)
        assert not store.log.held
    with LogStore(SQLiteBackend(place)) as store:
        assert len(store.list_sessions(limit=1000)) == SESSIONS + 1
        assert verify(store.backend).is_sound


def test_commands(whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there is shown, and exit codes say whether the log is whole."""
    page = whole.pages["events", "leaf"][3]
    place = str(spoiled(whole, page, tmp_path / "log"))
    assert main(["ls", "--store", place, "--limit", "0", "--json"]) == 0
    assert capsys.readouterr().out.count('"session_id"') == SESSIONS
    assert main(["verify", "--store", place]) == 1
    assert f"positions {min(page.lost)} to {max(page.lost)} are not readable" in (
        capsys.readouterr().out
    )
    assert main(["doctor", "--store", place]) == 1
    broken, *_ = [one for one, at in whole.sessions.items() if not at.isdisjoint(page.lost)]
    assert main(["show", "--store", place, broken]) == 2
    assert "is damaged: position" in capsys.readouterr().err
    assert main(["rebuild", "--store", place]) == 0
    assert main(["ls", "--store", place]) == 0
    rows = str(spoiled(whole, whole.pages["sessions", "leaf"][0], tmp_path / "rows"))
    assert main(["ls", "--store", rows, "--limit", "0", "--json"]) == 0
    said = capsys.readouterr()
    assert said.out.count('"session_id"') == SESSIONS
    assert "rebuilt in memory" in said.err
    assert main(["verify", "--store", rows]) == 0
    assert main(["rebuild", "--store", rows]) == 0
    capsys.readouterr()
    assert main(["ls", "--store", rows]) == 0
    assert capsys.readouterr().err.count("memory") == 0


def test_an_error_of_the_whole_file_is_no_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be read for now, no event is taken for damaged."""
    with closing(SQLiteBackend(tmp_path / "runs.db")) as log:
        found = ReadableRows(log)

        def gone(*_: object) -> None:
            raise LogUnavailable("The disk is gone.")

        monkeypatch.setattr(log.database, "query", gone)
        with pytest.raises(LogUnavailable, match="disk is gone"):
            found._is_bad(1)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_whose_events_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Of several sessions the first three are named, and how many more there are."""
    with closing(SQLiteBackend(tmp_path / "runs.db")) as log:
        found = ReadableRows(log)
        names = [(f"s{number}", 1) for number in range(count)]
        monkeypatch.setattr(found, "_names", lambda *_: names)
        said = found._unreadable(1, count, LogDamaged("x", position=0))
    named = ", ".join(repr(name) for name, _ in names[:3])
    assert said.stream == ("s0" if count == 1 else "")
    assert (f"lost are events of {named}" in said.what) == (count > 1)
    assert (f" and {count - 3} more" in said.what) == (count > 3)


def test_a_row_that_is_no_event_is_named(tmp_path: Path) -> None:
    """By its position, behind which reading goes on."""
    with closing(SQLiteBackend(tmp_path / "runs.db")) as log:
        fine = (6, "s", 1, 1, "t", 1, b"{}", b"")
        with pytest.raises(LogDamaged) as caught:
            list(log._recorded([fine, (7, b"no text", 2, 1, "t", 1, b"{}", b"")]))
    assert caught.value.position == 7
