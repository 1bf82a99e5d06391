"""`lllm repair` of an SQLite file: a whole one of what the pages hold, and the old one kept."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from lllm import LogStore, LogUnavailable, SQLiteBackend
from lllm.cli import main
from lllm.events.backends.sqlite.repair import repair_database
from lllm.events.integrity.verify import verify
from tests.events.backends.sqlite.test_damaged_pages import (
    SCHEMA,
    SESSIONS,
    Page,
    Whole,
    read_on,
    spoiled,
)
from tests.events.backends.sqlite.test_damaged_pages import whole as whole
from tests.support.echo import echo

_USERS = """import sys
from lllm import LogStore, SQLiteBackend
store = LogStore(SQLiteBackend(sys.argv[1]))
list(store.list_sessions())
print("open", flush=True)
sys.stdin.read()
"""

# The log, its index, what says where they are, and one of each kind of rows.
_TRIED = {"events", "sqlite_autoindex_events_1", "sqlite_sequence", SCHEMA, "checkpoints",
          "sessions"}  # fmt: skip


def damaged(whole: Whole, folder: Path, *pages: Page) -> Path:
    """A copy of the store in which some pages are zeros."""
    data = whole
    for number, page in enumerate(pages):
        place = spoiled(data, page, folder / f"{page.number}-{number}")
        data = whole._replace(data=place.read_bytes())
    place.with_name("runs.db-lllm").mkdir()
    return place


def kept(place: Path) -> list[Path]:
    """The copies beside a store."""
    return sorted(one for one in place.parent.iterdir() if one.suffix == ".damaged")


@pytest.mark.slow
def test_each_kind_of_page(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever page is damaged: every event that stands on another is in the new file under its
    position, and can be verified, loaded and listed; positions that are lost are named, and are
    not given again; the old file is kept as it was."""
    for (table, kind), pages in sorted(whole.pages.items()):
        page = pages[len(pages) // 2]
        if table not in _TRIED:
            continue
        folder = tmp_path / f"{table}-{kind}"
        folder.mkdir()
        place = damaged(whole, folder, page)
        before = place.read_bytes()
        os.chmod(place, 0o640)
        code = main(["repair", "--store", str(place)])
        said = capsys.readouterr()
        zeros_taken_for_content = (table, kind) == (
            "events",
            "overflow",
        ) and "not mended" in said.out
        if zeros_taken_for_content:
            assert code == 1
            continue
        assert code == (1 if page.lost else 0), (page, said)
        assert place.stat().st_mode & 0o777 == 0o640
        (copy,) = kept(place)
        assert copy.read_bytes() == before
        assert copy.name in said.out
        named = {
            one
            for first, last in re.findall(r"lost: positions? (\d+)(?: to (\d+))?", said.out)
            for one in range(int(first), int(last or first) + 1)
        }
        assert named == page.lost
        with LogStore(SQLiteBackend(place)) as store:
            assert read_on(store.log)[0] == [one for one in whole.events if one not in page.lost]
            assert store._rows.database.path == place
            intact = [one for one, at in whole.sessions.items() if at.isdisjoint(page.lost)]
            listed = {one.session_id for one in store.list_sessions(limit=1000)}
            assert listed >= set(intact)
            for session in intact:
                assert store.load_session(session).state == "success"
            verified = verify(store.backend)
            assert verified.events == len(whole.events) - len(page.lost)
            assert bool(verified.damages) == bool(page.lost)
            echo(store)("later")
            assert min(set(dict.fromkeys(e.position for e in store.log.read(after=whole.events[-1]))
                           )) == whole.events[-1] + 1  # fmt: skip
        with closing(sqlite3.connect(place)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert sorted(os.listdir(place.parent)) == sorted([place.name, "runs.db-lllm", copy.name])


def test_a_second_repair_finds_nothing_to_do(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was made whole stays as it is; events that are lost can't be made."""
    place = damaged(whole, tmp_path, whole.pages["events", "internal"][0])
    assert main(["repair", "--store", str(place)]) == 0
    assert main(["verify", "--store", str(place)]) == 0
    once = place.read_bytes()
    capsys.readouterr()
    assert main(["repair", "--store", str(place)]) == 0
    assert "nothing to repair" in capsys.readouterr().out
    assert place.read_bytes() == once
    assert len(kept(place)) == 1
    lossy = (
        damaged(whole, tmp_path / "lossy", whole.pages["events", "leaf"][2])
        if ((tmp_path / "lossy").mkdir() is None)
        else place
    )
    assert main(["repair", "--store", str(lossy)]) == 1
    assert main(["repair", "--store", str(lossy)]) == 1
    assert "events are missing or were changed" in capsys.readouterr().err
    assert len(kept(lossy)) == 1


def test_what_waits_in_the_write_ahead_log(whole: Whole, tmp_path: Path) -> None:
    """Events that were committed and not copied into the file yet are read and repaired, too; a
    transaction that was not committed is not."""
    place = tmp_path / "runs.db"
    place.write_bytes(whole.data)
    writer = (
        "import os, sys\nfrom lllm import LogStore, SQLiteBackend\n"
        "from tests.support.echo import echo\n"
        "store = LogStore(SQLiteBackend(sys.argv[1]))\n"
        "for n in range(3): echo(store)(f'task {n}')\n"
        "print(store.log.head(), flush=True)\n"
        "with store.backend.database.write() as c:\n"
        "    c.execute('PRAGMA cache_size=1')\n"
        "    c.execute('CREATE TABLE never (x)')\n"
        '    c.execute("INSERT INTO events (stream, seq, time, type, version, data, digest) "\n'
        "              \"SELECT stream || 'x', seq, time, type, version, data, digest \"\n"
        '              "FROM events")\n'
        "    os._exit(9)\n"
    )
    ran = subprocess.run([sys.executable, "-c", writer, str(place)], capture_output=True, text=True,
                         check=False)  # fmt: skip
    assert ran.returncode == 9, ran.stderr
    head = int(ran.stdout)
    wal = Path(f"{place}-wal")
    assert wal.stat().st_size > 0
    with place.open("r+b") as file:  # the root of the log, and the first page
        for page in (whole.pages["events", "internal"][0], Page(1, SCHEMA, "", frozenset())):
            file.seek((page.number - 1) * 4096)
            file.write(bytes(4096))
    data, waiting = place.read_bytes(), wal.read_bytes()
    with closing(SQLiteBackend(place, read_only=True)) as log:
        assert [one.position for one in log.read()] == list(range(1, head + 1))
    assert (place.read_bytes(), wal.read_bytes()) == (data, waiting)
    (repaired,) = repair_database(place).mended
    assert (repaired.events, repaired.lost_positions) == (head, ())
    assert repaired.copy.read_bytes() == data
    assert Path(f"{repaired.copy}-wal").read_bytes() == waiting
    with LogStore(SQLiteBackend(place)) as store:
        assert verify(store.backend).is_sound
        assert len(store.list_sessions(limit=1000)) == SESSIONS + 3


def test_tables_of_the_users_own(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are copied with their indexes, views and triggers; what of them can't be read is
    said."""
    source = tmp_path / "runs.db"
    source.write_bytes(whole.data)
    with closing(sqlite3.connect(source)) as connection:
        connection.executescript(
            "CREATE TABLE grades (id INTEGER PRIMARY KEY, g TEXT);"
            "CREATE INDEX by_g ON grades (g);"
            "CREATE VIEW good AS SELECT * FROM grades WHERE g = 'A';"
            "CREATE TRIGGER t AFTER INSERT ON grades BEGIN SELECT 1; END;"
            "INSERT INTO grades (g) VALUES ('A'), ('B');"
            "CREATE TABLE other (x); INSERT INTO other VALUES (1);"
        )
        sql = "SELECT rootpage FROM sqlite_master WHERE name = 'other'"
        (root,) = connection.execute(sql).fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    mine = whole._replace(data=source.read_bytes())
    place = damaged(mine, tmp_path, whole.pages["events", "internal"][0],
                    Page(root, "other", "leaf", frozenset()))  # fmt: skip
    assert main(["repair", "--store", str(place)]) == 1
    assert "not copied: the table 'other'" in capsys.readouterr().out
    with closing(sqlite3.connect(place)) as connection:
        assert connection.execute("SELECT g FROM good").fetchall() == [("A",)]
        assert connection.execute("SELECT count(*) FROM grades").fetchone() == (2,)
        names = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        assert {"by_g", "t"} <= names
    with LogStore(SQLiteBackend(place)) as store:
        assert verify(store.backend).is_sound


@pytest.mark.parametrize("where", ["here", "another process"])
def test_a_store_in_use_is_left_alone(whole: Whole, tmp_path: Path, where: str) -> None:
    """Nothing is done while somebody has it open: what they write would go to the old file."""
    place = damaged(whole, tmp_path, whole.pages["events", "leaf"][2])
    if where == "here":
        with LogStore(SQLiteBackend(place)) as store:
            store.list_sessions()
            with pytest.raises(LogUnavailable, match="in use"):
                repair_database(place)
            assert not kept(place)
            store.save_error(ValueError("later"))
            assert not store.log.held
    else:
        command = [sys.executable, "-c", _USERS, str(place)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
            assert user.stdout is not None
            assert user.stdin is not None
            user.stdout.readline()
            inode = place.stat().st_ino
            with pytest.raises(LogUnavailable, match="in use"):
                repair_database(place)
            assert main(["repair", "--store", str(place)]) == 2
            assert place.stat().st_ino == inode
            assert not kept(place)
            user.stdin.close()
    assert main(["repair", "--store", str(place)]) == 1
    assert len(kept(place)) == 1


def test_a_file_of_something_else(tmp_path: Path) -> None:
    """What is no log is left as it is."""
    for content in (b"hello", bytes(8192), b"x" * 4096):
        place = tmp_path / f"{len(content)}.db"
        place.write_bytes(content)
        assert main(["repair", "--store", str(place)]) == 2
        assert place.read_bytes() == content
        assert not kept(place)
