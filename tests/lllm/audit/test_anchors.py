"""Timestamps and witnesses: what they show, what they refuse, and what can go wrong with them."""

from __future__ import annotations

import json
import logging
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lllm import AuditError, LogStore, MissingExtra, SealRefused, SQLiteBackend
from lllm.audit import http_post, timestamp
from lllm.audit.anchoring import SealAnchors
from lllm.audit.base64_text import encoded
from lllm.audit.cosignature import WitnessKey, read_witness_keys
from lllm.audit.keys import PrivateKey, write_key_files
from lllm.audit.sealing import read_anchor
from lllm.audit.signed_note import Signature, parse_note
from lllm.audit.timestamp import check_timestamp, read_authorities, token_path
from lllm.cli import main
from tests.support.anchors import Answer, Authority, LoopbackWitness

KEY = PrivateKey("example.com/log", b"k" * 32)


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """An authority, which is made once as that takes long."""
    with Authority(tmp_path_factory.mktemp("tsa") / "ca") as one:
        yield one


@pytest.fixture
def authority(tsa: Authority) -> Authority:
    """An authority that behaves."""
    tsa.answer = lambda right: right
    return tsa


@pytest.fixture
def witness() -> Iterator[LoopbackWitness]:
    """A witness that knows the log."""
    with LoopbackWitness() as one:
        yield one.knows(KEY.public)


class Place:
    """A store, and a folder elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.here, self.there = folder / "here", folder / "there"
        self.here.mkdir()
        self.there.mkdir()
        self.path = self.here / "runs.db"
        write_key_files(self.there / "key", KEY)
        (self.there / "witness.key").write_text("# the witnesses\n\n")

    def open(self) -> LogStore:
        return LogStore(SQLiteBackend(self.path))

    def write(self, names: str) -> None:
        with self.open() as store:
            for name in names:
                with store.session(name):
                    pass

    def run(self, *arguments: object, code: int = 0) -> None:
        assert main([str(one) for one in (*arguments, "--store", self.path)]) == code


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A store with two sessions."""
    one = Place(tmp_path)
    one.write("ab")
    return one


# -- what they show


def test_a_timestamp_and_a_cosignature(
    place: Place, authority: Authority, witness: LoopbackWitness, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are written and checked by the commands; openssl and no store are enough for the one."""
    seal, keys = place.there / "seal", place.there / "witness.key"
    keys.write_text(f"# the witnesses\n\n{witness.key}\n")
    asked = ("--timestamp", authority.url, "--witness", f"{witness.url}/")
    trust = ("--timestamp-ca", authority.root, "--witness-key", keys)
    place.run("seal", "--out", seal, "--key", place.there / "key", *asked, *trust)
    printed = capsys.readouterr().out
    assert "4 events, signed by example.com/log, with 1 cosignature, with a timestamp" in printed
    assert authority.checks(seal, token_path(seal))
    verify = ("verify", "--checkpoint", seal, "--key", place.there / "key.pub")
    place.run(*verify, *trust)
    printed = capsys.readouterr().out
    assert f"Anchor: good. Timestamp of {seal}: the seal, and so its log, existed at" in printed
    assert "saw the log just grow up to it" in printed
    assert printed.count("it doesn't say how much earlier") == 2
    place.run(*verify, code=3)  # nothing wrong, but who says so is not known
    printed = capsys.readouterr().out
    assert "no certificate of an authority that you trust was given" in printed
    assert "the key of this witness was not given" in printed
    place.run(*verify, *trust, "--json")
    [one] = json.loads(capsys.readouterr().out)["checkpoints"]
    assert [check["verdict"] for check in one["outside"]] == ["good", "good"]
    assert all(check["existed_by"].endswith("+00:00") for check in one["outside"])


def test_a_proof_of_a_cosigned_checkpoint(
    place: Place, authority: Authority, witness: LoopbackWitness, capsys: pytest.CaptureFixture[str]
) -> None:
    """It carries the cosignatures, which vouch for it; the timestamp is beside the seal."""
    seal, proof = place.there / "seal", place.there / "proof.json"
    with place.open() as store:
        made = store.seal(key=KEY, timestamp=authority.url, witnesses=[witness.url])
        made.write(seal)
        [one, _] = store.list_sessions()
        proof.write_text(store.prove(one.session_id, made).text())
    check = ["verify", "--proof", str(proof)]
    assert main([*check, "--witness-key", str(witness.key)]) == 0
    printed = capsys.readouterr().out
    assert "signature: good: The checkpoint is cosigned by witness.example/w1" in printed
    assert "cosignature: good: witness.example/w1 saw the log" in printed
    assert main([*check, "--key", str(place.there / "key.pub")]) == 3
    assert "cosignature: unknown" in capsys.readouterr().out
    other = WitnessKey("witness.example/w2", b"2" * 32)
    assert main([*check, "--witness-key", str(other)]) == 3
    stamped = ["--checkpoint", str(seal), "--timestamp-ca", str(authority.root)]
    assert main([*check, "--witness-key", str(witness.key), *stamped]) == 0
    assert "timestamp: good: the seal, and so its log, existed at" in capsys.readouterr().out
    assert main([*check, "--timestamp-ca", str(authority.root)]) == 2
    [*_, line] = parse_note(made.encode()).signatures
    forged = Signature(line.name, line.key_id, bytes(8) + line.signature[8:])
    proof.write_text(proof.read_text().replace(line.line().strip(), forged.line().strip()))
    assert main([*check, "--witness-key", str(witness.key), *stamped]) == 1
    assert "cosignature: wrong: the cosignature of witness.example/w1" in capsys.readouterr().out


def test_the_log_grows(place: Place, witness: LoopbackWitness) -> None:
    """Each time the witness says what it knows, and gets the proof that the log just grew."""
    sizes = []
    for names in ("", "c", "defghij"):
        place.write(names)
        with place.open() as store:
            made = store.seal(key=KEY, witnesses=[witness.url], witness_keys=[witness.key])
        sizes.append(int(made.split("\n")[1]))
    assert sizes == [4, 6, 20]
    assert [one.partition(b"\n")[0] for one in witness.requests] == [
        b"old 0", b"old 0", b"old 4", b"old 0", b"old 6",
    ]  # fmt: skip


def test_several_witnesses(place: Place, witness: LoopbackWitness) -> None:
    """All of them cosign the same; one that did not is not known, and nothing is wrong."""
    seal = place.there / "seal"
    third = WitnessKey("witness.example/w3", b"3" * 32)
    with LoopbackWitness("witness.example/w2") as second, place.open() as store:
        second.knows(KEY.public)
        store.seal(key=KEY, witnesses=[witness.url, second.url, witness.url]).write(seal)
    [anchor] = [read_anchor(seal, [KEY.public], witnesses=[witness.key, second.key, third])]
    assert [one.verdict for one in anchor.outside] == ["good", "good", "unknown"]
    assert anchor.verdict == "good"
    assert len(parse_note(seal.read_bytes()).signatures) == 3


# -- what is refused


def test_a_log_that_was_replaced(
    place: Place, witness: LoopbackWitness, capsys: pytest.CaptureFixture[str]
) -> None:
    """A seal that contradicts one that was cosigned is refused, also where anchors are optional."""
    arguments = ("seal", "--key", place.there / "key", "--witness", witness.url)
    place.run(*arguments, "--out", place.there / "first")
    for names, said in (
        ("cde", "has cosigned 4 events of this log, and they are not those"),
        ("cd", "has cosigned 4 events of this log, and they are not those"),
        ("c", "has cosigned 4 events of this log, and it has 2 now: its end is missing"),
    ):
        shutil.rmtree(place.here)
        place.here.mkdir()
        place.write(names)
        out = place.there / names
        place.run(*arguments, "--out", out, "--optional-anchors", code=2)
        assert said in capsys.readouterr().err
        assert not out.exists()
        with place.open() as store, pytest.raises(SealRefused, match="Nothing was cosigned"):
            store.seal(key=KEY, witnesses=[witness.url])


def test_a_witness_that_knows_another_root(place: Place, witness: LoopbackWitness) -> None:
    """Where it has as many events with another root, it may answer 409, too."""
    witness.answer = lambda _: (409, b"4\n")
    with place.open() as store, pytest.raises(SealRefused, match="they are not those"):
        store.seal(key=KEY, witnesses=[witness.url])


def test_others_seal_at_the_same_time(place: Place, witness: LoopbackWitness) -> None:
    """Where a later checkpoint of the same log was cosigned meanwhile, a new one is made."""
    before = witness.answer

    def meanwhile(_: Answer) -> Answer:
        witness.answer = before
        place.write("c")
        with place.open() as store:
            store.seal(key=KEY, witnesses=[witness.url])
        return 409, b"6\n"

    witness.answer = meanwhile
    with place.open() as store:
        made = store.seal(key=KEY, witnesses=[witness.url], witness_keys=[witness.key])
    assert made.split("\n")[1] == "6"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((403, b"no"), "knows another key for this log"),
        ((404, b"unknown log"), "its operator has to add the log's name and public key"),
        ((429, b""), "asked too often"),
        ((500, b"broken\n"), "HTTP status 500.*: broken"),
        ((302, b""), "HTTP status 302"),
        ((409, b"many\n"), "answers 409 without the size"),
        ((409, b"1\n"), "another size each time"),
        ((409, b"999\n"), "it has 4 now: its end is missing"),
        ((200, b"rubbish"), "answers with no cosignature: Each line of a signature"),
        ((200, b""), "answers with no cosignature"),
        ((200, b"\xff\n"), "answers with no cosignature"),
        ((200, "— w AAAAAAAA\n".encode()), "answers with no cosignature"),
        ((200, b"x" * 2_000_000), "more than 1,048,576 bytes"),
        ((422, b""), "HTTP status 422"),
    ],
)
def test_a_witness_that_misbehaves(
    place: Place, witness: LoopbackWitness, answer: Answer, said: str
) -> None:
    """One clear error, and no seal."""
    witness.answer = lambda _: answer
    with place.open() as store, pytest.raises(AuditError, match=said):
        store.seal(key=KEY, witnesses=[witness.url])


def test_cosignatures_that_do_not_fit(place: Place, witness: LoopbackWitness) -> None:
    """A wrong one is refused where the key is known, and one in the name of the log always."""
    other = WitnessKey("witness.example/w2", b"2" * 32)
    lines = {
        "does not match": Signature(witness.key.name, witness.key.key_id, bytes(72)).line(),
        "no cosignature of a witness whose": Signature(other.name, other.key_id, bytes(72)).line(),
    }
    with place.open() as store:
        for said, line in lines.items():
            witness.answer = lambda _, line=line: (200, line.encode())  # type: ignore[misc]
            with pytest.raises(AuditError, match=said):
                store.seal(key=KEY, witnesses=[witness.url], witness_keys=[witness.key])
        poison = Signature(KEY.public.name, KEY.public.key_id, bytes(72)).line()
        witness.answer = lambda right: (
            (200, right[1] + poison.encode()) if right[0] == 200 else right
        )
        made = store.seal(key=KEY, witnesses=[witness.url], witness_keys=[witness.key])
        assert poison not in made
        assert poison not in store.seal(key=KEY, witnesses=[witness.url])
        with pytest.raises(AuditError, match="give a key, too"):
            store.seal(witnesses=[witness.url])


def test_an_authority_that_misbehaves(place: Place, authority: Authority) -> None:
    """Wrong nonce, wrong imprint, no timestamp, untrusted: one clear error each, and no seal."""
    with place.open() as store:
        old = store.seal(timestamp=authority.url).timestamp
        assert old is not None
        for answer, said in (
            ((200, old), "the nonce differs"),
            ((200, b"rubbish"), "did not answer with an RFC 3161 timestamp"),
            ((200, b""), "did not answer with an RFC 3161 timestamp"),
            ((503, b""), "HTTP status 503"),
        ):
            authority.answer = lambda _, answer=answer: answer  # type: ignore[misc]
            with pytest.raises(AuditError, match=said):
                store.seal(timestamp=authority.url)
        authority.answer = lambda _: (200, authority.right("", b"no request")[1])
        with pytest.raises(AuditError, match="gives no timestamp: Bad request"):
            store.seal(timestamp=authority.url)

        def of_another(_: Answer) -> Answer:
            request = authority.requests[-1]
            imprint = request.index(b"\x04\x20") + 2
            return authority.right("", request[:imprint] + bytes(32) + request[imprint + 32 :])

        authority.answer = of_another
        with pytest.raises(AuditError, match="it is the timestamp of another file"):
            store.seal(timestamp=authority.url)


def test_an_authority_that_nobody_trusts(
    place: Place, authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused when the seal is made, and found when it is verified."""
    other = Authority(tmp_path / "other")
    other.__enter__()
    other.__exit__(None, None, None)
    seal = place.there / "seal"
    arguments = ("seal", "--out", seal, "--timestamp", authority.url)
    place.run(*arguments, "--timestamp-ca", other.root, code=2)
    assert "no given certificate vouches for it: unable to get" in capsys.readouterr().err
    assert not seal.exists()
    assert not token_path(seal).exists()
    place.run(*arguments)
    place.run("verify", "--checkpoint", seal, "--timestamp-ca", other.root, code=1)
    assert "Anchor: wrong. Timestamp of" in capsys.readouterr().out
    both = ("--timestamp-ca", other.root, "--timestamp-ca", authority.root)
    place.run("verify", "--checkpoint", seal, *both, "--timestamp-ca", other.root)
    (place.there / "pem").write_text("no certificate")
    place.run("verify", "--checkpoint", seal, "--timestamp-ca", place.there / "pem", code=2)
    assert "this is not a certificate in PEM" in capsys.readouterr().err


def test_a_timestamp_that_was_changed(place: Place, authority: Authority) -> None:
    """What is changed in it shows no other time, and the timestamp of another seal does not fit."""
    seal = place.there / "seal"
    with place.open() as store:
        store.seal(timestamp=authority.url).write(seal)
    trusted = read_authorities([authority.root])
    token = token_path(seal).read_bytes()

    def verdict() -> list[str]:
        return [one.verdict for one in read_anchor(seal, [], authorities=trusted).outside]

    [good] = read_anchor(seal, [], authorities=trusted).outside
    assert good.verdict == "good"
    wrong = 0
    for place_of_byte in range(0, len(token), 13):
        changed = bytearray(token)
        changed[place_of_byte] ^= 4
        found = check_timestamp(bytes(changed), seal.read_bytes(), trusted)
        wrong += found.verdict == "wrong"
        assert found.verdict == "wrong" or found == good, place_of_byte
    assert wrong > len(token) // 13 - 5  # a few bytes are signed by nobody
    token_path(seal).write_bytes(token[:-1])
    assert verdict() == ["wrong"]
    token_path(seal).unlink()
    assert verdict() == ["unknown"]
    assert read_anchor(seal, []).outside == ()
    token_path(seal).write_bytes(token)
    seal.write_text(seal.read_text().replace("lllm/", "lllm/a"))
    assert verdict() == ["wrong"]
    assert [one.verdict for one in read_anchor(seal, []).outside] == ["wrong"]


# -- what can't be had


def test_nobody_answers(
    place: Place, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down, slow, hanging or no HTTP: an error that names the address, and nothing secret of it."""
    monkeypatch.setattr(http_post.post, "__kwdefaults__", {"seconds": 0.3})
    with socket.socket() as taken, place.open() as store:
        taken.bind(("127.0.0.1", 0))
        down = f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}/tsa?token=secret"
        for anchors in ({"timestamp": down}, {"key": KEY, "witnesses": [down]}):
            with pytest.raises(AuditError, match=r"http://127\.0\.0\.1:\d+/tsa") as error:
                store.seal(**anchors)  # type: ignore[arg-type]
            assert "secret" not in str(error.value)
        taken.listen()  # and nobody accepts
        with pytest.raises(AuditError, match=r"no whole answer in 0\.3 seconds"):
            store.seal(timestamp=down)
        authority.slow.clear()
        with pytest.raises(AuditError, match=r"no whole answer in 0\.3 seconds"):
            store.seal(timestamp=authority.url)
        authority.slow.set()
        for wrong in ("file:///etc/passwd", "tsa.example", "http://127.0.0.1:99999999/"):
            with pytest.raises(AuditError):
                store.seal(timestamp=wrong)


def test_anchors_that_are_optional(
    place: Place, authority: Authority, witness: LoopbackWitness, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the option nothing is written; with it, the seal with the anchors that there are."""
    seal = place.there / "seal"
    authority.answer = lambda _: (503, b"")
    asked = ("--timestamp", authority.url, "--witness", witness.url)
    arguments = ("seal", "--out", seal, "--key", place.there / "key", *asked)
    place.run(*arguments, code=2)
    assert list(place.there.glob("seal*")) == []
    capsys.readouterr()
    place.run(*arguments, "--optional-anchors")
    printed = capsys.readouterr()
    assert f"the seal is made without {authority.url}" in printed.err
    assert "with 1 cosignature." in printed.out
    assert list(place.there.glob("seal*")) == [seal]
    asked_before = len(witness.requests)
    place.run(*arguments, code=2)  # it is there already: nobody is asked for anything
    assert len(witness.requests) == asked_before
    token_path(place.there / "new").write_bytes(b"of something else")
    place.run("seal", "--out", place.there / "new", "--timestamp", authority.url, code=2)
    assert not (place.there / "new").exists()
    place.run("seal", "--out", place.there / "new", "--witness", witness.url, code=2)


# -- a service


def test_a_service(
    place: Place,
    authority: Authority,
    witness: LoopbackWitness,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its seals have anchors, asked for once each; where one can't be had, that is logged."""
    folder = place.there / "seals"
    anchors = SealAnchors(
        authority.url, [witness.url], [authority.root], witness_keys=[witness.key]
    )

    def run(name: str, anchors: SealAnchors) -> None:
        with LogStore(
            SQLiteBackend(place.path), seal_every="1h", seal_to=folder,
            seal_key=place.there / "key", seal_anchors=anchors,
        ) as store, store.session(name):  # fmt: skip
            pass

    run("c", anchors)
    [seal, token] = sorted(folder.iterdir())
    assert token == token_path(seal)
    trusted = read_authorities([authority.root])
    found = read_anchor(seal, [KEY.public], authorities=trusted, witnesses=[witness.key])
    assert [one.verdict for one in found.outside] == ["good", "good"]
    asked = len(authority.requests)
    with LogStore(
        SQLiteBackend(place.path), seal_every="1h", seal_to=folder,
        seal_key=place.there / "key", seal_anchors=anchors,
    ):  # fmt: skip
        pass  # nothing new
    assert len(authority.requests) == asked
    authority.answer = lambda _: (503, b"")
    with caplog.at_level(logging.WARNING, "lllm.store"):
        run("d", anchors)
        assert "the log could not be sealed" in caplog.text
        assert len(list(folder.iterdir())) == 2
        run("e", SealAnchors(authority.url, [witness.url], optional=True))
        assert "the seal is made without" in caplog.text
    assert len(list(folder.iterdir())) == 3


def test_options(place: Place) -> None:
    """What can't work is said when the store is opened, or at once."""
    with pytest.raises(AuditError, match="a list of URLs"):
        SealAnchors(witnesses="https://witness.example")
    for options in (
        {"seal_anchors": SealAnchors()},
        {"seal_every": 60, "seal_to": place.there, "seal_anchors": SealAnchors(witnesses=["x"])},
    ):
        with pytest.raises(ValueError, match="seal"):
            LogStore(SQLiteBackend(place.path), **options)  # type: ignore[arg-type]
    lost = SealAnchors("https://tsa.example", authorities=[place.there / "lost.pem"])
    with pytest.raises(AuditError, match=r"lost\.pem can't be read: No such file"):
        LogStore(SQLiteBackend(place.path), seal_every=60, seal_to=place.there, seal_anchors=lost)
    place.run("verify", "--witness-key", "w", code=2)


def test_without_the_library(
    place: Place, authority: Authority, witness: LoopbackWitness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra is named before anybody is asked for an anchor; a token can't be checked then."""
    seal = place.there / "seal"
    with place.open() as store:
        store.seal(timestamp=authority.url).write(seal)
        monkeypatch.setattr(timestamp, "_is_installed", lambda: False)
        with pytest.raises(MissingExtra, match=r"lllm\[audit\]"):
            store.seal(key=KEY, timestamp=authority.url, witnesses=[witness.url])
    assert witness.requests == []
    [check] = read_anchor(seal, []).outside
    assert check.verdict == "unknown"
    place.run("verify", "--checkpoint", seal, code=3)
    place.run("verify", "--checkpoint", seal, "--timestamp-ca", authority.root, code=2)


# -- keys of witnesses


def test_keys_of_witnesses(place: Place, witness: LoopbackWitness) -> None:
    """They are those that the other implementation publishes; what is none is said."""
    [key] = read_witness_keys(str(witness.key))
    assert str(key) == str(witness.key)
    assert key != KEY.public
    keys = place.there / "witness.key"
    with pytest.raises(AuditError, match="the file has no key"):
        read_witness_keys(str(keys))
    keys.write_text(f"{witness.key}\n{KEY.public}\n")
    with pytest.raises(AuditError, match="of the type 1, and one of the type 4"):
        read_witness_keys(str(keys))
    with pytest.raises(AuditError, match="neither an existing file nor a key"):
        read_witness_keys(f"a+00000000+{encoded(b'4')}")
