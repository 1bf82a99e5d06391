"""The form of a proof file: events, and what shows that they stand in a log.

docs/proofs.md is the specification, from which a stranger can write a program that checks such
files. Change both together, and give the form another name.
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
        seq: Its number in the stream.
        time: Nanoseconds UTC, decimal, as text: many readers of JSON would round the number.
        type: As "llm.responded".
        version: Of the payload's fields.
        leaf: The index of its leaf in the tree, from 0; None where the end of its session proves
            it.
        data: The payload, to the byte.
        base64: The payload in base64, where it is no UTF-8 text.
        commitment: The commitment to a payload that is not shown, base64.
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
        stream: Its name; a session's id.
        salt: Of the stream, base64; None where no payload is shown.
        events: Some or all of its events.
    """

    stream: str
    events: tuple[ProofEvent, ...]
    salt: str | None = None


class Proof(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The content of a proof file.

    Attributes:
        format: The name and version of this form.
        how: How to check it, in words.
        checkpoint: The whole content of the checkpoint's file.
        streams: What is proven.
        path: The hashes with which the leaves give the root (see `common_proof`), base64.
        key: The public key that signed the checkpoint, by whoever made the file; None for none.
    """

    format: Literal["lllm-proof/1"]
    how: str
    checkpoint: str
    streams: tuple[ProofStream, ...]
    path: tuple[str, ...]
    key: str | None = None

    def text(self) -> str:
        """Write the proof as the content of its file: JSON, each event on a line of its own."""
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
    """Read a proof; nothing of it is checked by this but its form.

    Args:
        content: The content of the file, which may be a page that has the proof in it.

    Raises:
        AuditError: It is none; the message says what is wrong.
    """
    page = _PAGE.search(content) if content.lstrip()[:1] == b"<" else None
    try:
        proof = msgspec.json.decode(content if page is None else page[1], type=Proof)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AuditError(
            f"This is no proof as `lllm prove` writes it ({FORMAT}): {error}"
        ) from error
    for stream in proof.streams:
        for event in stream.events:
            _check_form(stream, event)
    return proof


def _check_form(stream: ProofStream, event: ProofEvent) -> None:
    numbers = (event.seq, event.version, 0 if event.leaf is None else event.leaf)
    if not all(0 <= number <= LARGEST for number in numbers):
        raise _malformed(stream, event, "a number of it is negative, or too large")
    if _DECIMAL.fullmatch(event.time) is None or not -(2**63) <= int(event.time) < 2**63:
        raise _malformed(stream, event, "its time is no number of nanoseconds")
    shown = [one for one in (event.data, event.base64, event.commitment) if one is not None]
    if len(shown) != 1:
        raise _malformed(stream, event, "it has one of data, base64 and commitment")
    if event.commitment is None and stream.salt is None:
        raise _malformed(stream, event, "its stream has no salt, which its payload needs")


def _malformed(stream: ProofStream, event: ProofEvent, what: str) -> AuditError:
    return AuditError(f"Event {event.seq} of {stream.stream!r} is no event of a proof: {what}.")


def hash_of(text: str, what: str) -> bytes:
    """Read a hash of a proof.

    Args:
        text: The hash in base64.
        what: What it is, as a sentence begins with it.

    Returns:
        32 bytes.

    Raises:
        AuditError: It is none.
    """
    value = decoded(text)
    if value is None or len(value) != HASH_BYTES:
        raise AuditError(f"{what} is no hash of {HASH_BYTES} bytes in base64: {text[:80]!r}.")
    return value


def payload_of(event: ProofEvent) -> bytes | None:
    """Read the payload of an event in a proof.

    Args:
        event: The event.

    Returns:
        The bytes; None where only a commitment is shown.

    Raises:
        AuditError: It is no UTF-8, or no base64.
    """
    if event.base64 is not None:
        value = decoded(event.base64)
        if value is None:
            raise AuditError(f"The payload of event {event.seq} is no base64.")
        return value
    try:
        return None if event.data is None else event.data.encode()
    except UnicodeEncodeError as error:
        raise AuditError(f"The payload of event {event.seq} is no UTF-8 text.") from error


def shown(event: ProofEvent, data: bytes) -> ProofEvent:
    """Show the payload of an event.

    Args:
        event: The event.
        data: Its payload.
    """
    try:
        return msgspec.structs.replace(event, data=data.decode())
    except UnicodeDecodeError:
        return msgspec.structs.replace(event, base64=encoded(data))
