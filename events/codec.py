"""Encodes payloads as bytes and decodes them, also payloads of other versions of lllm.

Payloads are JSON. A payload of an older version is converted by the upcasters below, one version at
a time. A newer version, or an unknown type, is decoded as `Unknown`: such an event is kept, counted
and shown, and no read fails because of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import TypeVar

import msgspec

from lllm.events import long_texts
from lllm.events.concurrency.decoders import decoder
from lllm.events.digest import commitment_of_erased
from lllm.events.envelope import Recorded
from lllm.events.model import EVENTS, Content, Erased, Event, Unknown

T = TypeVar("T")

# (type, version) -> a function that makes the payload of the next version. An entry is added when
# an event changes; a payload is converted step by step until it has the version of `model`.
UPCASTERS: dict[tuple[str, int], Callable[[dict[str, object]], dict[str, object]]] = {}


def _plainly(value: object) -> object:
    if isinstance(value, str):
        return str.__str__(value)  # a subclass, which msgspec refuses
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=_plainly)
_decoders: dict[tuple[str, int], msgspec.json.Decoder[Event]] = {
    (kind.type, kind.version): decoder(kind) for kind in EVENTS.values()
}


def encode(value: object) -> bytes:
    """Encode a payload, or any JSON value, as one line of bytes.

    A lone surrogate, which UTF-8 can't hold, is written as its JSON escape.

    Args:
        value: A Struct of `model`, or a value that consists of dicts, lists, strings, numbers,
            booleans and None.

    Returns:
        The JSON text as UTF-8, without line breaks.

    Raises:
        TypeError: A part of the value has no JSON form.
    """
    try:
        content = value if type(value) is Content else getattr(value, "content", None)
        if type(content) is Content and long_texts.is_long(content):
            assert isinstance(value, msgspec.Struct)
            return long_texts.encode(value, content, _encoder)
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode()


def pieces(content: Content) -> Iterable[bytes]:
    """Encode like `encode`, but in pieces if the content is long, to save memory.

    Args:
        content: The content of a message.

    Returns:
        The parts of the JSON text; joined, they are what `encode` returns.
    """
    if not long_texts.is_long(content):
        with suppress(UnicodeEncodeError):
            return (_encoder.encode(content),)
    elif all(is_utf8(part.text) for part in content.parts if part.text is not None):
        return long_texts.JSONPieces(content, content, _encoder)
    return (encode(content),)


def is_utf8(text: str) -> bool:
    """True if a text can be encoded as UTF-8, which lone surrogates can't.

    Args:
        text: The text, of any length.

    Returns:
        False if the text contains a lone surrogate.
    """
    if text.isascii():
        return True
    try:
        for at in range(0, len(text), long_texts.WINDOW):  # all at once would be a copy of it
            text[at : at + long_texts.WINDOW].encode()
    except UnicodeEncodeError:
        return False
    return True


def decode(event: Recorded) -> Event:
    """Decode a recorded event's payload as a Struct of `model`, or `Unknown` if that fails.

    A payload that was erased becomes `Erased`, whatever its type.

    Args:
        event: An event as read from a log, of any type and version.

    Returns:
        The payload as a Struct of `model`; `Unknown` for an unknown type, an unknown version or an
        invalid payload; `Erased` for an erased payload.
    """
    known = _decoders.get((event.type, event.version))
    if known is None:
        return _decode_other(event)
    try:
        return known.decode(event.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _erased(event) or _decode_slowly(event, EVENTS[event.type], lambda payload: payload)


def _erased(event: Recorded) -> Erased | None:
    """The event if its payload was erased; the rest lacks fields that the event must have."""
    found = commitment_of_erased(event.data)
    if found is None:
        return None
    return Erased(was=event.type, was_version=event.version, commitment=found.hex())


def _decode_other(event: Recorded) -> Event:
    erased = _erased(event)
    if erased is not None:
        return erased
    kind = EVENTS.get(event.type)
    if kind is None:
        return _unknown(event, "this version of lllm has no such event")
    upcast = _upcaster(event.type, event.version, kind.version)
    if upcast is None:
        return _unknown(event, f"this version of lllm knows it up to version {kind.version}")
    return _decode_slowly(event, kind, upcast)


@cache
def _upcaster(
    type_: str, version: int, known: int
) -> Callable[[dict[str, object]], dict[str, object]] | None:
    # a version from the file may be any number, longer than every list
    if not 1 <= version <= known:
        return None
    steps = [UPCASTERS.get((type_, step)) for step in range(version, known)]
    if None in steps:
        return None

    def lift(payload: dict[str, object]) -> dict[str, object]:
        for step in steps:
            assert step is not None
            payload = step(payload)
        return payload

    return lift


def _decode_slowly(
    event: Recorded, kind: type[Event], lift: Callable[[dict[str, object]], dict[str, object]]
) -> Event:
    """Decode with Python's json, which accepts lone surrogates that msgspec refuses."""
    try:
        return msgspec.convert(lift(json.loads(event.data)), kind)
    except Exception as error:  # an upcaster may raise anything for an odd payload
        return _unknown(event, f"its payload does not fit: {error}")


def _unknown(event: Recorded, reason: str) -> Unknown:
    return Unknown(was=event.type, was_version=event.version, raw=values(event.data), reason=reason)


def values(data: bytes) -> object:
    """Decode a payload as plain JSON values; None if it is not JSON.

    Args:
        data: The bytes of the payload.

    Returns:
        The decoded value: dicts, lists, strings, numbers, booleans or None.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def decode_part(data: bytes, part: msgspec.json.Decoder[T]) -> T:
    """Decode some members of a payload, also if a text in it has lone surrogates.

    Args:
        data: The bytes of the payload.
        part: Decodes the members; made by `decoder`.

    Returns:
        The members.

    Raises:
        msgspec.MsgspecError: The payload is not JSON, or lacks a member.
    """
    try:
        return part.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.convert(values(data), part.type)


class _Salted(msgspec.Struct):
    salt: bytes = b""


_salted = decoder(_Salted)


def salt_of(event: Recorded) -> bytes:
    """Read the salt from the first payload of a stream; empty if it has none.

    Args:
        event: The first event of a stream, of any type and version.

    Returns:
        The salt, or empty bytes.
    """
    try:
        return decode_part(event.data, _salted).salt
    except msgspec.MsgspecError:  # a payload that is not JSON has no salt
        return b""
