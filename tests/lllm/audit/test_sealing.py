"""A seal that is kept elsewhere finds what was altered, cut off or put in."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lllm import AuditError, LocalFileBackend, LogStore, SQLiteBackend
from lllm.audit.checkpoint import parse_checkpoint
from lllm.audit.keys import PrivateKey, write_key_files
from lllm.audit.outside_store import refuse_beside_store
from lllm.audit.signed_note import parse_note, verify_note
from lllm.cli import main
from lllm.events.backend import LogBackend
from lllm.events.digest import seal
from lllm.events.integrity.merkle import EMPTY_ROOT, root_of

KEY = PrivateKey("example.com/log", b"k" * 32)


def opened(kind: str, path: Path) -> LogBackend:
    """A log at a path."""
    return SQLiteBackend(path) if kind == "sqlite" else LocalFileBackend(path)


def write(store: LogStore, names: str) -> None:
    """A session for each letter."""
    for name in names:
        with store.session(name):
            pass


class Place:
    """A store, and a folder elsewhere for seals and keys."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        (folder / "here").mkdir()
        self.there = folder / "there"
        self.there.mkdir()
        self.store = folder / "here" / ("runs.db" if kind == "sqlite" else "logs")

    def open(self) -> LogStore:
        return LogStore(opened(self.kind, self.store))

    def run(self, *arguments: object, code: int = 0) -> None:
        assert main([str(one) for one in (*arguments, "--store", self.store)]) == code


@pytest.fixture(params=["sqlite", "jsonl"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A store with three sessions."""
    one = Place(request.param, tmp_path)
    with one.open() as store:
        write(store, "abc")
    return one


def test_a_seal_is_the_tree_of_the_log(place: Place) -> None:
    """Its size and root are those of the digests, signed or not, rows or none, written or read."""
    with place.open() as store:
        digests = [event.digest for event in store.log.read()]
        plain = parse_checkpoint(store.seal())
        assert (plain.size, plain.root) == (len(digests), root_of(digests))
        assert plain.origin == f"lllm/{digests[0][:16].hex()}"
        note = parse_note(store.seal(key=KEY).encode())
        assert verify_note(note, [KEY.public]) == (KEY.public,)
        signed = parse_checkpoint(note.text)
        assert (signed.origin, signed.size) == (KEY.public.name, plain.size)
        assert signed.root == plain.root


def test_a_store_that_is_only_read(place: Place) -> None:
    """Its rows are behind, and the seal has what they have not."""
    more = seal(b"s" * 32, "stream", 1, 1_000, "new.kind", 1, b"{}")
    with closing(opened(place.kind, place.store)) as log:
        log.append([more])
        digests = [event.digest for event in log.read()]
    with LogStore.open(place.store, read_only=True) as store:
        assert store.lag > 0
        made = parse_checkpoint(store.seal())
    assert (made.size, made.root) == (7, root_of(digests))


def test_an_empty_log_is_sealed(tmp_path: Path) -> None:
    """Its root is that of nothing."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        made = parse_checkpoint(store.seal())
    assert (made.origin, made.size, made.root) == ("lllm/empty", 0, EMPTY_ROOT)


def test_commands(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """A key, a signed seal, more sessions, another seal: all fit."""
    first, second, key = (place.there / name for name in ("first", "second", "key"))
    place.run("keygen", key, "--name", "example.com/log")
    place.run("seal", "--out", first, "--key", key)
    with place.open() as store:
        write(store, "de")
    place.run("seal", "--out", second)
    capsys.readouterr()
    place.run("verify", "--checkpoint", first, "--key", f"{key}.pub")
    printed = capsys.readouterr().out
    assert "the log begins with its 6 events, in order" in printed
    assert f"Anchor: good. {first}: it is signed by example.com/log." in printed
    place.run("verify", "--checkpoint", first, "--checkpoint", second, code=3)
    place.run("verify", "--checkpoint", second)
    place.run("verify", "--checkpoint", second, "--key", f"{key}.pub", code=1)
    place.run("verify", "--key", f"{key}.pub", code=2)
    capsys.readouterr()
    place.run("verify", "--checkpoint", first, "--json", code=3)
    [one] = json.loads(capsys.readouterr().out)["checkpoints"]
    assert (one["size"], one["order"], one["signature"]) == (6, "good", "unknown")


def test_no_seal_is_replaced(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """An earlier one is evidence of its own."""
    kept = sealed(place)
    before = kept.read_bytes()
    with place.open() as store:
        write(store, "d")
    place.run("seal", "--out", kept, code=2)
    assert "an earlier seal proves" in capsys.readouterr().err
    assert kept.read_bytes() == before


def test_a_key_in_a_variable(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It signs as one in a file does."""
    monkeypatch.setenv("SEAL_KEY", KEY.secret_text())
    (place.there / "key.pub").write_text(str(KEY.public))
    place.run("seal", "--out", place.there / "seal", "--key-env", "SEAL_KEY")
    place.run("verify", "--checkpoint", place.there / "seal", "--key", place.there / "key.pub")
    other = PrivateKey("example.com/log", b"o" * 32)
    (place.there / "key.pub").write_text(str(other.public))
    place.run(
        "verify", "--checkpoint", place.there / "seal", "--key", place.there / "key.pub", code=1
    )
    place.run("seal", "--out", place.there / "x", "--key-env", "SEAL_KEY", "--key", "k", code=2)
    place.run("seal", "--out", place.there / "x", "--key-env", "NO_SUCH_KEY", code=2)
    assert not (place.there / "x").exists()


def sealed(place: Place) -> Path:
    """A seal of the store as it is."""
    place.run("seal", "--out", place.there / "seal")
    return place.there / "seal"


def test_an_end_that_was_cut_off(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """An older copy is whole in itself; the seal tells how many events are missing."""
    older = place.there / "older"
    with place.open() as store:
        store.backup(older)
        write(store, "de")
    kept = sealed(place)
    shutil.rmtree(place.store) if place.store.is_dir() else place.store.unlink()
    shutil.move(older, place.store)
    place.run("verify")
    capsys.readouterr()
    place.run("verify", "--checkpoint", kept, code=1)
    assert "4 events are missing: the log had 10, and has 6" in capsys.readouterr().out


def test_another_log(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole log in its place, consistent in itself and longer, is another one."""
    kept = sealed(place)
    shutil.rmtree(place.store) if place.store.is_dir() else place.store.unlink()
    with place.open() as store:
        write(store, "abcdef")
    place.run("verify")
    capsys.readouterr()
    place.run("verify", "--checkpoint", kept, code=1)
    assert "the first 6 events of the log are others" in capsys.readouterr().out


def altered(path: Path, *statements: str) -> None:
    """Change a store as somebody would who drops its triggers first."""
    with closing(sqlite3.connect(path)) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_appends_that_changed_places(tmp_path: Path) -> None:
    """Sessions in another order are all whole; only the seal tells."""
    place = Place("sqlite", tmp_path)
    with place.open() as store:
        write(store, "abc")
    kept = sealed(place)
    altered(
        place.store,
        "UPDATE events SET position = position + 100 WHERE position <= 4",
        "UPDATE events SET position = position - 102 WHERE position > 102",
        "UPDATE events SET position = position - 98 WHERE position > 100",
    )
    place.run("verify")
    place.run("verify", "--checkpoint", kept, code=1)


def test_rows_of_the_tree_do_not_matter_to_verify(tmp_path: Path) -> None:
    """It reads the log alone, whatever somebody wrote into the rows."""
    place = Place("sqlite", tmp_path)
    with place.open() as store:
        write(store, "abc")
    kept = sealed(place)
    altered(place.store, "UPDATE merkle_edge_v1 SET size = 2, hashes = zeroblob(32)")
    place.run("verify", "--checkpoint", kept)


def test_what_is_no_seal(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """It is a usage error that names the file."""
    kept = place.there / "seal"
    kept.write_text("log\n1\n")
    place.run("verify", "--checkpoint", kept, code=2)
    assert f"{kept}: A checkpoint has three lines" in capsys.readouterr().err
    place.run("verify", "--checkpoint", place.there / "none", code=2)


@pytest.mark.parametrize("inside", ["seal", "logs/seal", "logs/more/seal", "link/seal"])
def test_places_beside_the_store(tmp_path: Path, inside: str) -> None:
    """Nothing is put where whoever changes the store can change it, through a link neither."""
    place = Place("jsonl", tmp_path)
    with place.open() as store:
        write(store, "a")
    (place.store / "more").mkdir()
    (tmp_path / "here" / "link").symlink_to(place.store)
    out = tmp_path / "here" / inside
    place.run("seal", "--out", out, code=2)
    place.run("keygen", out, code=2)
    assert not out.exists()
    write_key_files(out, KEY)
    place.run("seal", "--out", place.there / "seal", "--key", out, code=2)
    assert not (place.there / "seal").exists()
    with pytest.raises(AuditError, match="does not belong beside the store"):
        refuse_beside_store(out, place.store, "The seal")


def test_a_log_with_an_event_that_can_not_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is sealed with a mark in its place, which is said, and goes on to fit that seal."""
    place = Place("sqlite", tmp_path)
    with place.open() as store:
        write(store, "abc")
    altered(place.store, "DELETE FROM events WHERE position = 3", "DROP VIEW merkle_edge")
    kept = sealed(place)
    assert "1 event of the log can't be read" in capsys.readouterr().err
    place.run("verify", "--checkpoint", kept, code=1)


def test_a_log_that_lost_its_end_is_sealed_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows know of more, and are not believed."""
    place = Place("sqlite", tmp_path)
    with place.open() as store:
        write(store, "abc")
        monkeypatch.setattr(store.log, "head", lambda: 4)
        made = parse_checkpoint(store.seal())
        assert (made.size, made.root) == (
            4,
            root_of([one.digest for one in store.log.read(upto=4)]),
        )
