"""The format of a proof file: events, and the hashes that show that a log contains them.

docs/proofs.md is the specification; from it, anybody can write a program that checks such files.
Change both together, and give the format another name then.
"""

from __future__ import annotations

import json
import re
from typing import Literal

import msgspec

from lllm.audit.base64_text import decoded, encoded
from lllm.events.errors import AuditError
from lllm.events.integrity.merkle import HASH_BYTES

FORMAT: Literal["lllm-proof/1"] = "lllm-proof/1"
LARGEST = 2**53 - 1  # a number that every reader of JSON reads exactly

HOW = (
    "This proves that events stand in a log of lllm, to whoever trusts the checkpoint. To check "
    "it: lllm verify --proof FILE --key KEY.pub, with a key from somewhere else. By hand "
    "(docs/proofs.md of lllm says it in full): a leaf is SHA-256(0x00, stream, seq, time, type, "
    "version, commitment), each with its length before it; a commitment is HMAC-SHA-256(salt, "
    "data); the last event of a session has the count and the RFC 6962 root of the leaves before "
    "it; the leaves of events with a leaf index and the path give the root in line 3 of the "
    "checkpoint."
)

_DECIMAL = re.compile(r"0|-?[1-9][0-9]{0,18}")
_PAGE = re.compile(rb'<script type="application/json" id="proof">(.*?)</script>', re.DOTALL)

Count = msgspec.Meta(ge=0, le=LARGEST)


class ProofEvent(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An event in a proof.

    Attributes:
        seq: The number of the event in its stream.
        time: The time in nanoseconds UTC, as a decimal text, because many JSON readers would round
            the number.
        type: The type of the event, for example "llm.responded".
        version: The version of the payload's fields.
        leaf: The index of the event's leaf in the tree, from 0; None if the end of the session
            proves the event.
        data: The payload as text, byte for byte.
        base64: The payload in base64, if it is not UTF-8.
        commitment: The commitment to a payload that is not shown, in base64.
    """

    seq: int
    time: str
    type: str
    version: int
    leaf: int | None = None
    data: str | None = None
    base64: str | None = None
    commitment: str | None = None


class ProofStream(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The events of one stream in a proof, in order.

    Attributes:
        stream: The name of the stream; for a session, its id.
        salt: The salt of the stream, in base64; None if no payload is shown.
        events: All events of the stream, or some of them.
    """

    stream: str
    events: tuple[ProofEvent, ...]
    salt: str | None = None


class Proof(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The content of a proof file.

    Attributes:
        format: The name and version of the file format.
        how: A sentence that says how to check the file.
        checkpoint: The whole content of the checkpoint's file.
        streams: The sessions and statements that are proven.
        path: The hashes that lead from the leaves to the root (see `common_proof`), in base64.
        key: The public key that signed the checkpoint, according to whoever made the file; None if
            there is none.
    """

    format: Literal["lllm-proof/1"]
    how: str
    checkpoint: str
    streams: tuple[ProofStream, ...]
    path: tuple[str, ...]
    key: str | None = None

    def text(self) -> str:
        """Write the proof as the content of a file: JSON, with each event on a line of its own."""
        members = [("format", self.format), ("how", self.how), ("checkpoint", self.checkpoint)]
        members += [] if self.key is None else [("key", self.key)]
        lines = [f"{_json(name)}: {_json(value)}" for name, value in members]
        streams = ",\n".join(map(_stream_text, self.streams))
        path = ",\n".join(map(_json, self.path))
        lines += [f'"streams": [\n{streams}\n]', f'"path": [\n{path}\n]']
        return "{\n" + ",\n".join(lines) + "\n}\n"


def _stream_text(stream: ProofStream) -> str:
    head = f'{{"stream": {_json(stream.stream)}, '
    salt = "" if stream.salt is None else f'"salt": {_json(stream.salt)}, '
    events = ",\n".join(map(_json, stream.events))
    return f'{head}{salt}"events": [\n{events}\n]}}'


def _json(value: object) -> str:
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False, separators=(",", ":"))


def parse_proof(content: bytes) -> Proof:
    """Read a proof and check only its format; `check_proof` checks what it proves.

    Args:
        content: The content of the file: JSON, or a page that contains the proof.

    Raises:
        AuditError: The content is not a proof; the message says what is wrong.
    """
    page = _PAGE.search(content) if content.lstrip()[:1] == b"<" else None
    try:
        proof = msgspec.json.decode(content if page is None else page[1], type=Proof)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AuditError(f"This is not a proof from `lllm prove` ({FORMAT}): {error}") from error
    for stream in proof.streams:
        for event in stream.events:
            _check_form(stream, event)
    return proof


def _check_form(stream: ProofStream, event: ProofEvent) -> None:
    numbers = (event.seq, event.version, 0 if event.leaf is None else event.leaf)
    if not all(0 <= number <= LARGEST for number in numbers):
        raise _malformed(stream, event, "a number of it is negative, or too large")
    if _DECIMAL.fullmatch(event.time) is None or not -(2**63) <= int(event.time) < 2**63:
        raise _malformed(stream, event, "its time is not a number of nanoseconds")
    shown = [one for one in (event.data, event.base64, event.commitment) if one is not None]
    if len(shown) != 1:
        raise _malformed(stream, event, "it must have exactly one of data, base64 and commitment")
    if event.commitment is None and stream.salt is None:
        raise _malformed(stream, event, "its stream has no salt, which its payload needs")


def _malformed(stream: ProofStream, event: ProofEvent, what: str) -> AuditError:
    return AuditError(f"Event {event.seq} of {stream.stream!r} is no event of a proof: {what}.")


def hash_of(text: str, what: str) -> bytes:
    """Read a hash from the text of a proof.

    Args:
        text: The hash, in base64.
        what: The subject of the error's sentence, for example "The root".

    Returns:
        The hash, 32 bytes.

    Raises:
        AuditError: The text is not the base64 of 32 bytes.
    """
    value = decoded(text)
    if value is None or len(value) != HASH_BYTES:
        raise AuditError(f"{what} is not a hash of {HASH_BYTES} bytes in base64: {text[:80]!r}.")
    return value


def payload_of(event: ProofEvent) -> bytes | None:
    """Read the payload of an event in a proof.

    Args:
        event: The event in the proof.

    Returns:
        The payload's bytes; None if only a commitment is shown.

    Raises:
        AuditError: The payload is not valid base64, or not valid UTF-8.
    """
    if event.base64 is not None:
        value = decoded(event.base64)
        if value is None:
            raise AuditError(f"The payload of event {event.seq} is not base64.")
        return value
    try:
        return None if event.data is None else event.data.encode()
    except UnicodeEncodeError as error:
        raise AuditError(f"The payload of event {event.seq} is not UTF-8 text.") from error


def shown(event: ProofEvent, data: bytes) -> ProofEvent:
    """Return a copy of an event in a proof that shows its payload.

    Args:
        event: The event in the proof.
        data: The payload's bytes.
    """
    try:
        return msgspec.structs.replace(event, data=data.decode())
    except UnicodeDecodeError:
        return msgspec.structs.replace(event, base64=encoded(data))
