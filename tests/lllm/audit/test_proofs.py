"""`lllm prove` shows one session of a log, and `lllm verify --proof` needs nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from lllm import (
    AuditError,
    LocalFileBackend,
    LogStore,
    SessionNotFound,
    SQLiteBackend,
    StoreError,
)
from lllm.audit.check_proof import CheckedProof, check_proof
from lllm.audit.checkpoint import parse_checkpoint
from lllm.audit.keys import PrivateKey, write_key_files
from lllm.audit.log_tree import LogTree
from lllm.audit.proof import Proof, parse_proof
from lllm.audit.prove import make_proof
from lllm.cli import main
from lllm.events import codec
from lllm.events.backend import LogBackend
from lllm.events.backends.memory import MemoryBackend
from lllm.events.digest import seal
from lllm.events.integrity.merkle import read_root, root_of
from lllm.events.model import DialogOpened, SessionStarted
from lllm.projections.queries.merkle import StoredTree
from tests.support.echo import echo

KEY = PrivateKey("example.com/log", b"k" * 32)
OTHER = PrivateKey("example.com/log", b"o" * 32)
DIALOG = DialogOpened(dialog=1, agent="a", alias="main")


def write(store: LogStore, sessions: int = 4, rounds: int = 3) -> list[str]:
    """Sessions whose events stand between each other, each with a sub-tactic's below it."""
    scopes = [store.session(f"s{number}", task=f"task {number}") for number in range(sessions)]
    recorders = []
    for scope in scopes:
        recorders.append(scope.__enter__())
        echo(store)("below")
    for _ in range(rounds):
        for recorder in recorders:
            recorder.stage(DIALOG)
            recorder.commit()
    for scope in reversed(scopes):
        scope.__exit__(None, None, None)
    return [recorder.session_id for recorder in recorders]


def good(proof: Proof, sealed: str) -> CheckedProof:
    """A proof, written and read again, that is good for somebody who has the checkpoint."""
    again = parse_proof(proof.text().encode())
    assert again == proof
    checked = check_proof(again, trusted=[parse_checkpoint(sealed)])
    assert (checked.verdict, checked.signature) == ("good", "good"), checked
    return checked


@pytest.fixture(params=["sqlite", "jsonl", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> LogStore:
    """A store on each kind of log."""
    backends: dict[str, LogBackend] = {
        "sqlite": SQLiteBackend(tmp_path / "runs.db"),
        "jsonl": LocalFileBackend(tmp_path / "logs"),
        "memory": MemoryBackend(),
    }
    return LogStore(backends[request.param])


def test_a_session_is_proven_whole(store: LogStore) -> None:
    """By one leaf, however scattered it is; nothing of other sessions is in the file."""
    with store:
        ids = write(store)
        sealed = store.seal()
        write(store, 2)
        for number, session_id in enumerate(ids):
            proof = store.prove(session_id, sealed)
            [stream] = good(proof, sealed).streams
            assert (stream.stream, stream.complete) == (session_id, True)
            assert stream.events == stream.shown == 5
            assert [one.leaf is None for one in proof.streams[0].events] == [True] * 4 + [False]
            text = proof.text()
            assert [f"task {other}" in text for other in range(4)] == [
                other == number for other in range(4)
            ]
            stored = [one for one in store.events(session_id) if one.stream == session_id]
            assert [one.data for one in proof.streams[0].events] == [
                one.data.decode() for one in stored
            ]


def test_what_is_shown(store: LogStore) -> None:
    """Children, later statements and definitions where they are asked for; no content and no salt
    where it is held back; one event alone."""
    with store:
        session_id, _ = write(store, 2)
        store.tag(session_id, {"late": "yes"})
        with store.session("talks") as talks:
            echo(store)("hello")
        sealed = store.seal()

        def types(proof: Proof) -> list[list[str]]:
            good(proof, sealed)
            return [[event.type for event in stream.events] for stream in proof.streams]

        assert len(types(store.prove(talks.session_id, sealed))) == 1
        below = types(store.prove(talks.session_id, sealed, children=True))
        assert [one[0] for one in below] == ["session.started", "session.started"]
        related = types(store.prove(session_id, sealed, related=True))
        assert related[1:] == [["session.tagged"]]
        whole = types(store.prove(talks.session_id, sealed, children=True, related=True))
        assert ["agent.defined"] in whole

        redacted = store.prove(session_id, sealed, redacted=True, related=True)
        checked = good(redacted, sealed)
        assert [(one.shown, one.complete) for one in checked.streams] == [(0, True), (0, True)]
        salts = [codec.salt_of(one) for one in store.events(session_id) if one.seq == 1]
        for salt in salts:
            assert salt.hex() not in redacted.text()
            assert msgspec.json.encode(salt).decode() not in redacted.text()
        assert "task 0" not in redacted.text()

        one = store.prove(session_id, sealed, event=2)
        [stream] = good(one, sealed).streams
        assert (stream.events, stream.complete) == (1, False)
        assert one.streams[0].salt is not None
        assert "task 0" not in one.text()
        with pytest.raises(AuditError, match="has no event 99"):
            store.prove(session_id, sealed, event=99)
        with pytest.raises(SessionNotFound):
            store.prove("none", sealed)


def test_sessions_without_an_end(store: LogStore) -> None:
    """Each event is proven, as far as the checkpoint goes; that there are no more is not."""
    with store:
        scope = store.session("running")
        recorder = scope.__enter__()
        sealed = store.seal()
        recorder.stage(DIALOG)
        recorder.commit()
        later = store.seal()
        [stream] = good(store.prove(recorder.session_id, sealed), sealed).streams
        assert (stream.events, stream.complete) == (1, False)
        [stream] = good(store.prove(recorder.session_id, later), later).streams
        assert (stream.events, stream.complete) == (2, False)
        scope.__exit__(None, None, None)
        with pytest.raises(AuditError, match=r"before event 3 of .*`lllm seal`"):
            store.prove(recorder.session_id, later)
        with store.session("new") as new:
            pass
        with pytest.raises(AuditError, match=r"before event 2 of .*`lllm seal`"):
            store.prove(new.session_id, later)


def test_ends_of_an_earlier_lllm(store: LogStore) -> None:
    """They carry no root, so each event has a leaf; that it is complete is proven all the same."""
    salt = bytes(32)
    started = codec.encode(SessionStarted(tactic_path="t", name="t", salt=salt))
    odd = b'{"delivery":"\xff","elapsed":5}'
    with store:
        store.backend.append([
            seal(salt, "old", 1, 1, "session.started", 1, started),
            seal(salt, "old", 2, 2, "odd", 1, odd),
            seal(salt, "old", 3, -5, "session.succeeded", 1, b'{"elapsed":5}'),
        ])  # fmt: skip
        sealed = store.seal()
        proof = store.prove("old", sealed)
        [stream] = good(proof, sealed).streams
    assert (stream.complete, stream.last_time) == (True, -5)
    assert [one.leaf for one in proof.streams[0].events] == [0, 1, 2]
    assert proof.streams[0].events[1].base64 is not None


def test_a_session_that_is_erased(store: LogStore) -> None:
    """Proofs from before stay good; a later one shows that it was there, and when."""
    with store:
        session_id, _ = write(store, 2)
        sealed = store.seal()
        before = store.prove(session_id, sealed)
        store.erase_session(session_id, reason="asked for", by="dpo")
        assert good(before, sealed).streams[0].shown == 5
        for checkpoint in (sealed, store.seal()):
            after = store.prove(session_id, checkpoint)
            [stream] = good(after, checkpoint).streams
            assert (stream.events, stream.shown, stream.complete) == (5, 0, True)
            assert after.streams[0].salt is None


def test_a_checkpoint_of_another_log(store: LogStore) -> None:
    """It is refused: shorter, longer, or changed."""
    with store, LogStore(MemoryBackend()) as other:
        [session_id] = write(store, 1)
        write(other, 1)
        same_size = other.seal()
        write(other, 9)
        with pytest.raises(AuditError, match="are not those of the checkpoint"):
            store.prove(session_id, same_size)
        with pytest.raises(AuditError, match="or the end of this log is missing"):
            store.prove(session_id, other.seal())
        with pytest.raises(AuditError, match="three lines"):
            store.prove(session_id, "none\n")
        signed = store.seal(key=KEY)
        with pytest.raises(AuditError, match="None of the given keys"):
            store.prove(session_id, signed, key=OTHER.public)


def test_a_long_log(tmp_path: Path) -> None:
    """Proofs read the stored nodes, and where there are no rows, the log."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        store.backend.append([
            seal(b"", f"s{number}", 1, number, "new.kind", 1, b"{}") for number in range(1_500)
        ])  # fmt: skip
        [session_id] = write(store, 1)
        sealed = store.seal()
        write(store, 3)
        for redacted in (False, True):
            good(store.prove(session_id, sealed, redacted=redacted), sealed)
        digests = [one.digest for one in store.log.read()]

        def no_rows(_: object) -> StoredTree:
            raise StoreError("There are none.")

        for tree in (LogTree(store.log, store._rows.ask), LogTree(store.log, no_rows)):
            assert tree.size == len(digests)
            for size in (1, 255, 256, 257, 1_024, 1_501, len(digests)):
                assert read_root(size, tree.read) == root_of(digests[:size])
            for position in (1, 256, 257, 1_501, len(digests)):
                assert tree.leaf(position) == (position - 1, digests[position - 1])
            assert tree.leaf(len(digests) + 1) is None


class Place:
    """A sealed store with sessions in it, and a folder elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "here" / "runs.db"
        self.there = folder / "there"
        for one in (self.store.parent, self.there):
            one.mkdir()
        with LogStore(SQLiteBackend(self.store)) as store:
            self.session_id = write(store)[1]
        write_key_files(self.there / "key", KEY)
        self.key, self.seal, self.proof = (
            self.there / name for name in ("key.pub", "seal", "proof.json")
        )
        self.run("seal", "--out", self.seal, "--key", self.there / "key", "--store", self.store)

    def run(self, *arguments: object, code: int = 0) -> None:
        assert main([str(one) for one in arguments]) == code

    def prove(self, *options: object, code: int = 0) -> None:
        self.run(
            "prove", self.session_id[:20], "--checkpoint", self.seal, "--out", self.proof,
            "--store", self.store, *options, code=code,
        )  # fmt: skip

    def verify(self, *options: object, code: int = 0) -> None:
        self.run("verify", "--proof", self.proof, *options, code=code)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A sealed store."""
    return Place(tmp_path)


def test_commands(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """A proof is checked where the store is not; who vouches for it is said apart."""
    place.prove()
    assert capsys.readouterr().out.endswith("proof.json: 5 events of 1 stream.\n")
    shutil.rmtree(place.store.parent)
    place.verify("--key", place.key)
    out = capsys.readouterr().out
    assert "events: good" in out
    assert f"{place.session_id}: 5 events" in out
    assert "nothing of it is missing" in out
    assert "signature: good: The checkpoint is signed by example.com/log." in out
    place.verify("--checkpoint", place.seal)
    place.verify("--checkpoint", place.seal, "--key", place.key, "--json")
    capsys.readouterr()
    place.verify(code=3)
    assert "Nothing from outside of the file vouches" in capsys.readouterr().out
    (place.there / "other.pub").write_text(str(OTHER.public))
    place.verify("--key", place.there / "other.pub", code=1)
    (place.there / "seal2").write_text(f"x\n2\n{'A' * 43}=\n")
    place.verify("--checkpoint", place.there / "seal2", code=1)
    place.verify("--store", "x", code=2)
    place.run("verify", "--proof", place.seal, code=2)
    assert "This is not a proof" in capsys.readouterr().err


def test_the_only_key_is_inside(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """That is warned of, and is no pass; a key inside that did not sign is wrong."""
    place.prove("--key", place.key)
    capsys.readouterr()
    place.verify("--json", code=3)
    said = json.loads(capsys.readouterr().out)
    assert said["signature"] == "unknown"
    assert "which is inside of the file" in said["signature_says"]
    text = place.proof.read_text()
    place.proof.write_text(text.replace(str(KEY.public), str(OTHER.public)))
    place.verify(code=1)
    place.verify("--key", place.key)  # which is worth more than what is inside


@pytest.mark.parametrize("options", [(), ("--html",)])
def test_what_was_tampered_with(place: Place, options: tuple[str, ...]) -> None:
    """It is found with the right key, too."""
    place.prove(*options)
    text = place.proof.read_text()
    place.verify("--key", place.key)
    place.proof.write_text(text.replace("task 1", "task 2"))
    place.verify("--key", place.key, code=1)


def test_options(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """What goes together and what does not; a store that is only read."""
    place.prove("--event", 2)
    place.prove("--event", 2, "--redacted", code=2)
    place.prove("--event", 99, code=2)
    place.prove("--redacted", "--children", "--related")
    assert "without their content" in capsys.readouterr().out
    place.store.chmod(0o400)
    place.prove()
    place.verify("--key", place.key)


def test_hostile_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What stands in a proof is no terminal code."""
    with LogStore(MemoryBackend()) as store:
        store.backend.append([seal(b"", "\x1b[31mred", 1, 1, "\x1b]0;x\x07", 1, b"{}")])
        streams = [list(store.log.read())]
        proof = make_proof(streams, LogTree(store.log, store._rows.ask), store.seal())
    (tmp_path / "proof.json").write_text(proof.text())
    assert main(["verify", "--proof", str(tmp_path / "proof.json")]) == 3
    assert "\x1b" not in capsys.readouterr().out
