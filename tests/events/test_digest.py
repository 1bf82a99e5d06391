"""The digest of an event: golden vectors, and the formula spelled out a second time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm.events.digest import check_digest, check_stream, erase, leaf_digest, seal
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged
from tests.support import ROOT

GOLDEN = ROOT / "tests" / "golden" / "digests.json"


class Vector(msgspec.Struct):
    """An event, byte for byte, and its digest."""

    about: str
    salt: str  # hex
    stream: str
    seq: int
    time: int
    type: str
    version: int
    data: str  # base64
    digest: str  # hex

    def arguments(self) -> tuple[bytes, str, int, int, str, int, bytes]:
        data = base64.b64decode(self.data)
        salt = bytes.fromhex(self.salt)
        return salt, self.stream, self.seq, self.time, self.type, self.version, data


VECTORS = msgspec.json.decode(GOLDEN.read_bytes(), type=list[Vector])


def by_the_book(
    salt: bytes, stream: str, seq: int, time: int, type_: str, version: int, data: bytes
) -> bytes:
    """The formula of record.py's docstring, with the standard library's HMAC."""

    def field(content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + content

    def number(value: int) -> bytes:
        return field(value.to_bytes(8, "big", signed=True))

    commitment = hmac.digest(salt, data, "sha256")
    leaf = b"\x00" + field(stream.encode()) + number(seq) + number(time)
    leaf += field(type_.encode()) + number(version) + field(commitment)
    return hashlib.sha256(leaf).digest()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.about)
def test_golden(vector: Vector) -> None:
    """The digest of an event never changes."""
    assert leaf_digest(*vector.arguments()).hex() == vector.digest


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.about)
def test_golden_by_the_book(vector: Vector) -> None:
    """The golden digests are what the formula says, computed without the library."""
    assert by_the_book(*vector.arguments()).hex() == vector.digest


@given(
    st.binary(max_size=100),
    st.text(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.text(),
    st.integers(0, 2**31),
    st.binary(),
)
def test_by_the_book(
    salt: bytes, stream: str, seq: int, time: int, type_: str, version: int, data: bytes
) -> None:
    """The digest is what the formula says, whatever is in the event."""
    arguments = (salt, stream, seq, time, type_, version, data)
    assert leaf_digest(*arguments) == by_the_book(*arguments)


def test_seal() -> None:
    """A sealed event is what was given, with its digest."""
    arguments = VECTORS[0].arguments()
    event = seal(*arguments)
    rest = list(arguments[1:])
    assert [event.stream, event.seq, event.time, event.type, event.version, event.data] == rest
    assert event.digest == leaf_digest(*arguments)


def recorded() -> Recorded:
    rest = VECTORS[0].arguments()[1:]
    digest = bytes.fromhex(VECTORS[0].digest)
    return Recorded(77, *rest, digest)


def test_check_digest() -> None:
    """An event that is what was written passes the check."""
    check_digest(recorded(), bytes.fromhex(VECTORS[0].salt))


@pytest.mark.parametrize(
    "change",
    [
        {"stream": "another"},
        {"seq": 2},
        {"time": 1},
        {"type": "another"},
        {"version": 2},
        {"data": b"{}"},
        {"digest": bytes(32)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_check_digest_of_a_change(change: dict[str, object]) -> None:
    """An event of which any field was changed fails the check, which names stream and position."""
    changed = msgspec.structs.replace(recorded(), **change)
    with pytest.raises(LogDamaged, match=r"position 77.* not what was written") as damage:
        check_digest(changed, bytes.fromhex(VECTORS[0].salt))
    assert (damage.value.position, damage.value.stream) == (77, changed.stream)


def test_check_digest_with_another_salt() -> None:
    """An event does not pass the check under another session's salt."""
    with pytest.raises(LogDamaged):
        check_digest(recorded(), bytes(32))


def test_check_stream() -> None:
    """A stream passes if every event does; an event that was changed, or is another's, does not."""
    salt = bytes(32)
    events = [seal(salt, "s", seq, seq, "a.b", 1, b"{}").at(seq) for seq in (1, 2, 3)]
    check_stream(events, salt)
    check_stream([erase(event, salt) for event in events], salt)
    for change in ({"data": b"[]"}, {"stream": "t"}, {"seq": 9}, {"time": "text"}, {"type": 1}):
        changed = msgspec.structs.replace(events[1], **change)
        with pytest.raises(LogDamaged, match=r"position 2.* not what was written"):
            check_stream([events[0], changed, events[2]], salt)


def test_position_is_not_sealed() -> None:
    """The same event has the same digest wherever it stands in a log."""
    moved = msgspec.structs.replace(recorded(), position=1)
    check_digest(moved, bytes.fromhex(VECTORS[0].salt))


def test_golden_file_is_readable() -> None:
    """The vectors are plain JSON, for implementations in other languages."""
    assert {tuple(entry) for entry in json.loads(GOLDEN.read_text())} == {Vector.__struct_fields__}
