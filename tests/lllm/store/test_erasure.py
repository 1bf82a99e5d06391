"""An erased session leaves no byte of its texts, and everything else as it was."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from lllm import (
    ErasureRefused,
    ImportRefused,
    LogReadOnly,
    LogStore,
    PostgresBackend,
    Runtime,
    SessionNotFound,
    SessionWasErased,
    StoreError,
    Tactic,
)
from lllm.audit.check_proof import check_proof
from lllm.audit.proof import parse_proof
from lllm.cli import main
from lllm.events.backend import LogBackend
from lllm.events.backends.memory import MemoryBackend
from lllm.events.digest import commitment_of_erased, leaf_of_commitment
from lllm.events.integrity.verify import verify
from lllm.events.log import open_rows
from lllm.events.model import Origin, SessionStarted, SessionSucceeded
from lllm.events.recorder import Recorder
from lllm.invokers.scripted import ScriptedInvoker
from lllm.logging import local_store, sqlite_store
from lllm.store.log_store import session_host
from tests.support import ROOT
from tests.support.postgres import new_schema, server
from tests.support.random_histories import write

TEXT = "Zoë's s3cret ünïque \U0001f511 wörds"
MAKERS: dict[str, Callable[[Path], LogStore]] = {
    "memory": lambda _: LogStore(MemoryBackend(), runtime=Runtime()),
    "sqlite": lambda folder: sqlite_store(folder / "runs.db"),
    "jsonl": lambda folder: local_store(folder / "logs"),
    "postgres": lambda _: LogStore.open(server().url(new_schema())),
}
KINDS = [
    pytest.param(kind, marks=pytest.mark.slow if kind == "postgres" else ()) for kind in MAKERS
]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStore]:
    """An empty store of each kind."""
    with MAKERS[request.param](tmp_path) as opened:
        yield opened


def forms(text: str) -> list[bytes]:
    """What the bytes of a text may look like in a file: UTF-8, escaped JSON, and base64 in each of
    its three alignments, without the characters that depend on what stands beside it."""
    raw = text.encode()
    aligned = [base64.b64encode(b"x" * skip + raw)[4:-4] for skip in range(3)]
    return [raw, json.dumps(text).encode()[1:-1], raw.decode().encode("utf-16-le"), *aligned]


def found_in(folder: Path, *texts: str) -> list[str]:
    """The files that have any of the texts in any form."""
    found = []
    for file in folder.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            found += [file.name for text in texts for form in forms(text) if form in data]
    return found


def record(store: LogStore, text: str, *, tags: dict[str, str] | None = None) -> str:
    """A session with the text everywhere, and one below it."""
    encoded = base64.b64encode(text.encode()).decode()
    with store.session(
        "p::desk", task={"ask": text, "escaped": json.dumps(text)}, tags=tags
    ) as own:
        with store.session("p::below", task=text, metadata=encoded) as below:
            below.deliver(text)
        own.deliver([text, encoded])
    return own.session_id


def fail(store: LogStore, text: str) -> str:
    """A session that raises the text."""
    with pytest.raises(ValueError), store.session("p::fails") as own:  # noqa: PT011 # it is ours
        raise ValueError(text)
    return own.session_id


def is_sound(store: LogStore) -> bool:
    """Whether the log is whole, and the rows are what it says."""
    checked = verify(store.backend)
    assert checked.damages == ()
    assert store.rebuild(check=True).difference is None
    return checked.is_sound


def test_nothing_is_left(store: LogStore, tmp_path: Path) -> None:
    """Texts, tags, statements, errors and salts are gone; digests, times, rows and sums stay."""
    others = [record(store, f"other {number}") for number in range(3)]
    gone, failed = record(store, TEXT, tags={"user": TEXT, "env": "prod"}), fail(store, TEXT)
    store.tag(gone, {"note": TEXT}, by=TEXT)
    store.tag(gone, {"note": "another"})
    record(store, "later", tags={"env": "prod"})
    before = list(store.backend.read())
    listed = {one.session_id: one for one in store.list_sessions()}

    report = store.erase_session(gone, reason="asked to", by="ada")
    store.erase_session(failed, reason="asked to", by="ada")
    assert report.sessions[0] == gone
    assert len(report.sessions) == 2
    if isinstance(store.backend, PostgresBackend):
        assert report.pending
        assert store.vacuum()
    else:
        assert not report.pending
    assert any("backups" in one for one in report.out_of_reach)

    after = list(store.backend.read())
    assert [event.digest for event in after[: len(before)]] == [one.digest for one in before]
    erased = [one for one in after if commitment_of_erased(one.data) is not None]
    assert len(erased) == report.events + 2
    assert {(one.position, one.type, one.time) for one in erased} <= {
        (one.position, one.type, one.time) for one in before
    }
    assert is_sound(store)
    row = next(one for one in store.list_sessions() if one.session_id == gone)
    was = listed[gone]
    assert (row.tactic_path, row.state, row.timestamp, row.elapsed, row.total_cost) == (
        was.tactic_path, was.state, was.timestamp, was.elapsed, was.total_cost
    )  # fmt: skip
    assert (row.task, row.tags) == (None, {})
    assert row.erased is not None
    assert "by ada because: asked to" in row.erased
    assert len(store.list_sessions(tags={"env": "prod"})) == 1
    assert store.load_session(others[0]).task is not None
    store.close()
    assert found_in(tmp_path, TEXT) == []


def test_every_reader_says_so(store: LogStore, tmp_path: Path) -> None:
    """One error says when, by whom and why; the events are still listed, without payloads."""
    gone = record(store, TEXT)
    file = tmp_path / "kept.jsonl"
    file.write_text(store.export_session(gone, "jsonl"), encoding="utf-8")
    store.erase_session(gone, reason="asked to", by="ada")
    for read in (
        lambda: store.load_session(gone),
        lambda: store.load_session_record(gone),
        lambda: store.export_session(gone),
        lambda: store.replay(gone).__enter__(),
        lambda: store.diff(gone, gone),
        lambda: store.tag(gone, {"a": "b"}),
        lambda: store.hold(gone, reason="a case"),
    ):
        with pytest.raises(SessionWasErased, match=r"erased on .* by ada because: asked to"):
            read()
    assert [event.type for event in store.events(gone)][-1] == "session.erased"
    with pytest.raises(ImportRefused, match="erased on"):
        store.import_sessions(file)
    assert found_in(tmp_path / "logs", TEXT) == []


def test_who_is_refused(store: LogStore) -> None:
    """A session that never was, one that runs, a part of another, and one that is held."""
    with pytest.raises(SessionNotFound):
        store.erase_session("01jd4rz9k2m8q4w6x0v3c5b7n9", reason="x")
    with pytest.raises(ValueError, match="reason"):
        store.erase_session("01jd4rz9k2m8q4w6x0v3c5b7n9", reason=" ")
    with store.session("p::runs") as own, pytest.raises(ErasureRefused, match="still running"):
        store.erase_session(own.session_id, reason="x")
    held = record(store, TEXT)
    [below] = [
        one for ones in store.load_session(held).sub_tactic_sessions.values() for one in ones
    ]
    with pytest.raises(ErasureRefused, match=f"child of session {held}"):
        store.erase_session(below.session_id, reason="x")
    first = store.hold(below.session_id, reason="case 7", by="the court")
    second = store.hold(held, reason="case 8")
    assert [one.reason for one in store.holds(held)] == ["case 8"]
    with pytest.raises(ErasureRefused, match="legal hold"):
        store.delete_session(held, reason="x")
    assert store.erase(before="2100-01-01", reason="x").held == [held]
    assert store.retain(days=1).held == []
    assert store.release(held, reason="over", hold=second) == 1
    with pytest.raises(ErasureRefused, match=r"the court placed a legal hold on it \(case 7\)"):
        store.erase_session(held, reason="x")
    assert is_sound(store)
    store.release(below.session_id, reason="over")
    with pytest.raises(StoreError, match="has no legal hold"):
        store.release(below.session_id, reason="over", hold=first)
    assert store.erase_session(held, reason="x").sessions[0] == held
    assert is_sound(store)


def test_it_is_idempotent(store: LogStore) -> None:
    """A second time erases nothing, and says that it was erased before."""
    gone = record(store, TEXT)
    head = [store.erase_session(gone, reason="x"), store.backend.head()][1]
    again = store.erase_session(gone, reason="another", by="bob")
    assert (again.sessions, again.already, again.events) == ([], [gone], 0)
    assert store.backend.head() == head


def test_several(store: LogStore, tmp_path: Path) -> None:
    """By tag and by age; what a filter does not select stays."""
    mine = [record(store, TEXT, tags={"user": TEXT}) for _ in range(3)]
    other = record(store, "other")
    with pytest.raises(ValueError, match="which sessions"):
        store.erase(reason="x")
    assert store.erase(tags={"user": TEXT}, before="2000-01-01", reason="x").sessions == []
    report = store.erase(tags={"user": TEXT}, reason="x")
    assert len(report.sessions) == 6
    assert set(mine) <= set(report.sessions)
    assert store.load_session(other).task is not None
    assert is_sound(store)
    store.close()
    assert found_in(tmp_path, TEXT) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_rows_after_any_history(kind: str, seed: int, tmp_path: Path) -> None:
    """Rows that lived through erasures equal those that the log gives now, costs included."""
    chance = random.Random(seed)
    with MAKERS[kind](tmp_path) as store:
        for _ in range(3):
            write(store, chance)
            ended = [one for one in store.list_sessions() if one.erased is None]
            before = store.export_cost_summary(group_by=["tactic", "model", "agent", "day"])
            for one in ended:
                if chance.random() < 0.5:
                    with contextlib.suppress(ErasureRefused):  # it, or one below it, still runs
                        store.erase_session(one.session_id, reason="x", defer_vacuum=True)
            assert store.rebuild(check=True).difference is None
            assert store.export_cost_summary(group_by=["tactic", "model", "agent", "day"]) == before
        store.rebuild()
        assert store.export_cost_summary(group_by=["tactic", "model", "agent", "day"]) == before
        assert is_sound(store)


# -- to the byte


@pytest.mark.slow
def test_split_pages_and_foreign_deletes(tmp_path: Path) -> None:
    """Shuffled, grown and split pages, and rows that another program deleted without
    secure_delete: copies stay until the VACUUM, and none stays behind it."""
    path = tmp_path / "runs.db"
    chance = random.Random(7)
    texts = [f"{number:04} {TEXT} {number:04}" for number in range(24)]
    with sqlite_store(path) as store:
        ids = []
        for text in texts:
            long = text + "x" * chance.choice([10, 900, 5_000])
            ids.append(record(store, long, tags={"user": text}))
            store.tag(chance.choice(ids), {"user": text, "grown": "y" * chance.randrange(2_000)})
        ids.append(record(store, TEXT + "z" * 5_000_000))  # a BLOB
    foreign = sqlite3.connect(path)
    foreign.execute("PRAGMA secure_delete=OFF")
    foreign.execute("CREATE TABLE mine (text TEXT)")
    foreign.executemany("INSERT INTO mine VALUES (?)", [(text,) for text in texts])
    foreign.execute("DELETE FROM mine")
    foreign.commit()
    foreign.close()
    with sqlite_store(path) as store:
        chance.shuffle(ids)
        for one in ids[:-1]:
            assert store.erase_session(one, reason="x", defer_vacuum=True).pending
        store.erase_session(ids[-1], reason="x", defer_vacuum=True)
        assert store.vacuum()
        assert found_in(tmp_path, TEXT) == []
        assert is_sound(store)
    assert found_in(tmp_path, TEXT) == []


class Elsewhere(MemoryBackend):
    """A log whose rows lie in a file of their own."""

    rows_in_log = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def rows_database(self) -> object:
        """See KeepsRows."""
        return open_rows(self, self.path)


def test_rows_elsewhere(tmp_path: Path) -> None:
    """Rows in a separate file lose the texts, too."""
    with LogStore(Elsewhere(tmp_path / "rows.sqlite"), runtime=Runtime()) as store:
        gone = record(store, TEXT, tags={"user": TEXT})
        store.list_sessions()
        assert found_in(tmp_path, TEXT)
        store.erase_session(gone, reason="x")
        assert found_in(tmp_path, TEXT) == []


class Bare:
    """A log with the four methods alone."""

    def __init__(self) -> None:
        log = MemoryBackend()
        self.append, self.read, self.head, self.close = log.append, log.read, log.head, log.close


def test_a_backend_that_can_not() -> None:
    """One clear error, and nothing is written."""
    log = Bare()
    assert isinstance(log, LogBackend)
    with LogStore(log, runtime=Runtime()) as store:
        gone = record(store, TEXT)
        head = log.head()
        with pytest.raises(ErasureRefused, match="can't erase payloads"):
            store.erase_session(gone, reason="x")
        assert log.head() == head


def test_read_only(tmp_path: Path) -> None:
    """A store that is opened to be read erases nothing."""
    with sqlite_store(tmp_path / "runs.db") as store:
        gone = record(store, TEXT)
    with (
        LogStore.open(tmp_path / "runs.db", read_only=True) as store,
        pytest.raises(LogReadOnly),
    ):
        store.erase_session(gone, reason="x")


# -- whatever crashes

STEPS = {
    "sqlite": ["noted", "said", "rows", "payloads", "views", "done", "vacuum"],
    "jsonl": ["noted", "said", "rows", "line", "payloads", "views", "done", "vacuum"],
    "postgres": ["noted", "said", "rows", "payloads", "views", "done"],
}
OFTEN = {("sqlite", "said"), ("sqlite", "payloads"), ("jsonl", "rows"), ("jsonl", "line")}
CHILD = """
import os, signal, sys
import lllm.store.erasure as erasure
from lllm.events.backends.jsonl import erasing
from lllm import LogStore

location, session, step = sys.argv[1:]

def die(name):
    if name == step:
        os.kill(os.getpid(), signal.SIGKILL)

erasure.step = die
if step == "line":
    def half(file, data):
        file.write(bytes(data)[: len(data) // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    whole, erasing._write_all = erasing._write_all, None
    written = []
    def write_all(file, data):
        written.append(1)
        (half if len(written) == 3 else whole)(file, data)
    erasing._write_all = write_all
with LogStore.open(location) as store:
    store.erase_session(session, reason="asked", by="ada")
"""


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        pytest.param(kind, step, marks=[] if (kind, step) in OFTEN else [pytest.mark.slow])
        for kind, steps in STEPS.items()
        for step in steps
    ],
)
def test_killed_at_every_step(kind: str, step: str, tmp_path: Path) -> None:
    """A process that is killed leaves what the next open finishes; meanwhile readers read what
    was, or that it was erased, and no report calls the log broken."""
    with MAKERS[kind](tmp_path) as store:
        gone, other = record(store, TEXT, tags={"user": TEXT}), record(store, "other")
        location = store.backend.path
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(location), gone, step], cwd=ROOT, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.returncode == -signal.SIGKILL
    with LogStore.open(location, read_only=True) as reading:
        assert verify(reading.backend).damages == ()
        assert reading.load_session(other).task is not None
    with LogStore.open(location) as store:
        if step == "noted":
            store.erase_session(gone, reason="asked", by="ada")
        with pytest.raises(SessionWasErased, match="by ada because: asked"):
            store.load_session(gone)
        assert store.vacuum()
        assert is_sound(store)
        assert not session_host(store).log.held
    assert found_in(tmp_path, TEXT) == []


# -- definitions of agents


def ask(store: LogStore, prompt: str) -> str:
    """A session in which an agent of this prompt answers."""
    invoker = ScriptedInvoker(["Hello."])
    Tactic.quick(
        "task", model="gpt-4o-mini", system_prompt=prompt, invoker=invoker, log_store=store
    )
    return max(store.list_sessions(limit=1), key=lambda one: one.timestamp).session_id


def definitions(store: LogStore) -> list[str]:
    """The streams of the definitions in the log, and whether each is erased."""
    return [
        f"{event.stream} {commitment_of_erased(event.data) is not None}"
        for event in store.backend.read()
        if event.type == "agent.defined"
    ]


def test_a_definition_goes_with_its_last_session(store: LogStore, tmp_path: Path) -> None:
    """Not before; whoever uses it again writes it again, under another name; and no name is the
    digest of what it names."""
    first, second = ask(store, TEXT), ask(store, TEXT)
    [name] = definitions(store)
    assert name.endswith("False")
    store.erase_session(first, reason="x")
    assert definitions(store) == [name]
    assert store.replay(second) is not None
    store.erase_session(second, reason="x")
    assert definitions(store) == [name.replace("False", "True")]
    assert is_sound(store)
    store.close()
    assert found_in(tmp_path, TEXT) == []


def test_a_definition_is_written_again(store: LogStore) -> None:
    """After its erasure, in the same process and in others."""
    store.erase_session(ask(store, TEXT), reason="x")
    again = ask(store, TEXT)
    names = definitions(store)
    assert [name.split()[1] for name in names] == ["True", "False"]
    assert len({name.split()[0] for name in names}) == 2
    assert is_sound(store)
    assert store.load_session(again).delivery == "Hello."


def test_an_erased_session_that_was_changed(tmp_path: Path) -> None:
    """Whoever changes the type of an erased event, its digest along with it, is found: the
    session.erased holds the root over all of them."""
    with sqlite_store(tmp_path / "runs.db") as store:
        gone = record(store, TEXT)
        store.erase_session(gone, reason="x")
        for other in store.backend.read(stream=gone):
            if other.seq == 2:
                break
        committed = commitment_of_erased(other.data)
        assert committed is not None
        forged = leaf_of_commitment(committed, gone, 2, other.time + 1, other.type, other.version)
        with store.backend.database.write() as connection:
            assert connection is not None
            connection.execute("DROP TRIGGER events_are_never_changed")
            connection.execute(
                "UPDATE events SET time = time + 1, digest = ? WHERE position = ?",
                (forged, other.position),
            )
        [damage] = verify(store.backend).damages
        assert f"the events of {gone} are not those that were erased" in damage.what


def test_what_is_made_of_a_held_session_stays(store: LogStore) -> None:
    """By a filter: a hold keeps a session, and then nothing that was made of it goes."""
    held = record(store, "held", tags={"case": "7"})
    fork = copy_of(store, held, "fork")
    shared = [ask(store, TEXT) for _ in range(2)]
    store.hold(held, reason="case 7")
    report = store.erase(tags={"case": "7"}, reason="x")
    assert (report.held, report.sessions) == ([held], [])
    assert store.load_session(fork).task == TEXT
    report = store.erase(before="2100-01-01", reason="x")
    assert set(report.sessions) == {fork, *shared}
    assert [name.split()[1] for name in definitions(store)] == ["True"]
    assert is_sound(store)


# -- what was made of a session, and what was made of the log before


def copy_of(store: LogStore, of: str, mode: Literal["replay", "fork"]) -> str:
    """A replay or a fork of a session, with the text in it."""
    recorder = Recorder(store.backend, "p::desk")
    recorder.stage(
        SessionStarted(
            tactic_path="p::desk", name="desk", task=TEXT, origin=Origin(of, mode),
            salt=recorder.salt,
        )
    )  # fmt: skip
    recorder.end(SessionSucceeded(delivery=TEXT, elapsed=1))
    recorder.commit()
    return recorder.session_id


def test_replays_and_forks(store: LogStore, tmp_path: Path) -> None:
    """They go with the session, those of forks, too; or they are kept, and listed."""
    kept = record(store, "kept")
    fork = copy_of(store, kept, "fork")
    assert store.erase_session(kept, reason="x", keep_derived=True).kept == [fork]
    assert store.load_session(fork).task == TEXT
    gone = record(store, TEXT)
    below = next(iter(store.load_session(gone).sub_tactic_sessions.values()))[0].session_id
    made = [copy_of(store, gone, "replay"), copy_of(store, below, "fork")]
    made.append(copy_of(store, made[1], "fork"))
    held = copy_of(store, gone, "fork")
    store.hold(held, reason="case 7")
    with pytest.raises(ErasureRefused, match="case 7"):
        store.erase_session(gone, reason="x")
    assert store.load_session(gone).task is not None
    store.release(held, reason="over")
    report = store.erase_session(gone, reason="x")
    assert {gone, below, *made, held} == set(report.sessions)
    store.erase_session(fork, reason="x")
    assert is_sound(store)
    store.close()
    assert found_in(tmp_path, TEXT) == []


def test_old_checkpoints_and_proofs(store: LogStore, tmp_path: Path) -> None:
    """A checkpoint from before still holds for the log, and what is left of the session can still
    be proven event by event, without a payload."""
    gone = record(store, TEXT)
    checkpoint = store.seal()
    store.erase_session(gone, reason="x")
    for redacted in (True, False):
        proof = store.prove(gone, checkpoint, redacted=redacted).text()
        assert TEXT not in proof
        checked = check_proof(parse_proof(proof.encode()))
        assert (checked.verdict, len(checked.streams)) == ("good", 1)
    file = tmp_path / "seals" / "checkpoint"
    file.parent.mkdir()
    file.write_text(checkpoint, encoding="utf-8")
    path = getattr(store.backend, "path", None)
    if path is not None:
        store.close()
        assert main(["verify", "--store", str(path), "--checkpoint", str(file)]) == 0


def test_what_was_erased_elsewhere(store: LogStore, tmp_path: Path) -> None:
    """A session that was erased in the other store is not imported; all others are."""
    with sqlite_store(tmp_path / "other.db") as other:
        gone, whole = record(other, "other text"), record(other, "whole")
        other.erase_session(gone, reason="x")
    with pytest.raises(ImportRefused, match="was erased there"):
        store.import_sessions(tmp_path / "other.db")
    assert [one.session_id for one in store.list_sessions()] == [whole]
    assert is_sound(store)
