"""The digest of each event, which proves that it was not changed.

The 0x00 at the start is the leaf prefix of RFC 6962 section 2.1
(https://www.rfc-editor.org/rfc/rfc6962), so the digests can be used as leaves of a Merkle tree. The
salt is 32 random bytes in the first payload of the stream; it is empty if that payload has none.
When the payloads are erased, the salt is gone too, so a guess at their content can't be checked
against the digests.

An erased payload is `{"$lllm":"erased","commitment":"<64 hex digits>"}` in every log, so its digest
can be checked without the payload.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from lllm.events.envelope import NewEvent, Recorded
from lllm.events.errors import LogDamaged

if TYPE_CHECKING:
    from hashlib import _Hash as HASH  # the standard library has no public name for this type

# a damaged row may hold a value of any kind in any field
_OTHER_KIND = (AttributeError, TypeError, UnicodeEncodeError, struct.error)

SALT_BYTES = 32
DIGEST_BYTES = 32
_BLOCK_BYTES = 64  # the block size of SHA-256
_KEPT = 256  # types of events, and versions of each, that are kept as they are hashed
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))

_length = struct.Struct(">I").pack
_two_numbers = struct.Struct(">IqIq").pack  # each a field of 8 bytes
_last_two = struct.Struct(">IqI").pack  # a number, and the length of the field after it


def leaf_digest(
    salt: bytes, stream: str, seq: int, time: int, type_: str, version: int, data: bytes
) -> bytes:
    """Compute the 32-byte digest of an event, by the formula in the module's docstring.

    Args:
        salt: The salt of the stream; see `ids.new_salt`.
        stream: The name of the stream.
        seq: The number of the event in its stream, from 1.
        time: Nanoseconds UTC.
        type_: The event type, as "llm.responded".
        version: The version of the payload's fields.
        data: The payload, as it is stored.

    Returns:
        The digest, 32 bytes.
    """
    return leaf_of_commitment(commitment(salt, data), stream, seq, time, type_, version)


def leaf_of_commitment(
    committed: bytes, stream: str, seq: int, time: int, type_: str, version: int
) -> bytes:
    """Compute the 32-byte digest of an event from the commitment to its payload.

    Args:
        committed: The commitment to the payload, 32 bytes; see `commitment`.
        stream: The name of the stream.
        seq: The number of the event in its stream, from 1.
        time: Nanoseconds UTC.
        type_: The event type, as "llm.responded".
        version: The version of the payload's fields.

    Returns:
        The digest, 32 bytes.
    """
    return sha256(
        b"".join((
            b"\x00", _text(stream), _two_numbers(8, seq, 8, time), _text(type_),
            _last_two(8, version, 32), committed,
        ))
    ).digest()  # fmt: skip


class StreamDigests:
    """Computes the digests of the events of one stream, faster than `leaf_digest`.

    Args:
        salt: The salt of the stream; see `ids.new_salt`.
        stream: The name of the stream.

    Raises:
        TypeError, AttributeError, UnicodeEncodeError: These are of the wrong kind.
    """

    __slots__ = ("_begin", "_inner", "_outer")

    def __init__(self, salt: bytes, stream: str) -> None:
        self._begin = b"\x00" + _text(stream)
        self._inner, self._outer = _keyed(salt)

    def leaf(self, event: Recorded, committed: bytes | None) -> bytes:
        """Compute the digest that an event of the stream should have.

        Args:
            event: The event as read from a log.
            committed: The commitment from an erased payload (see `commitment_of_erased`); None if
                the payload is not erased.

        Returns:
            The digest, 32 bytes.
        """
        if committed is None:
            inner, outer = self._inner.copy(), self._outer.copy()
            inner.update(event.data)
            outer.update(inner.digest())
            committed = outer.digest()
        version = event.version
        try:
            kind = _kinds[event.type][version]
        except KeyError:
            kind = b""
        if version.__class__ is not int or not kind:  # True is no version, though it equals 1
            kind = _kind(event.type, version)
        return sha256(
            self._begin + _two_numbers(8, event.seq, 8, event.time) + kind + committed
        ).digest()


_kinds: dict[str, dict[int, bytes]] = {}  # by type and version, as they are hashed


def _kind(type_: str, version: int) -> bytes:
    kind = _text(type_) + _last_two(8, version, 32)
    if len(_kinds) < _KEPT and version.__class__ is int and 0 <= version < _KEPT:
        _kinds.setdefault(type_, {})[version] = kind
    return kind


@lru_cache(maxsize=1024)  # the streams that are written or read just now, and the types
def _text(text: str) -> bytes:
    written = text.encode()
    return _length(len(written)) + written


def commitment(salt: bytes, data: bytes) -> bytes:
    """Compute the commitment to a payload, which reveals nothing about it without the salt.

    It is HMAC-SHA-256 (RFC 2104, https://www.rfc-editor.org/rfc/rfc2104) with the salt as key. The
    part that depends on the key alone is computed once for a stream. With hmac.digest, computing it
    for each event would be half the cost of sealing one.

    Args:
        salt: The salt of the stream.
        data: The payload, as it is stored.

    Returns:
        The commitment, 32 bytes.
    """
    inner, outer = _keyed(salt)
    inner, outer = inner.copy(), outer.copy()
    inner.update(data)
    outer.update(inner.digest())
    return outer.digest()


@lru_cache(maxsize=1024)
def _keyed(salt: bytes) -> tuple[HASH, HASH]:
    key = sha256(salt).digest() if len(salt) > _BLOCK_BYTES else salt
    key = key.ljust(_BLOCK_BYTES, b"\0")
    return sha256(key.translate(_INNER)), sha256(key.translate(_OUTER))


def seal(
    salt: bytes, stream: str, seq: int, time: int, type_: str, version: int, data: bytes
) -> NewEvent:
    """Make a NewEvent and compute its digest.

    Args:
        salt: The salt of the stream; see `ids.new_salt`.
        stream: The name of the stream.
        seq: The number of the event in its stream, from 1.
        time: Nanoseconds UTC.
        type_: The event type, as "llm.responded".
        version: The version of the payload's fields.
        data: The payload, as it will be stored.

    Returns:
        The event with its digest.
    """
    digest = leaf_digest(salt, stream, seq, time, type_, version, data)
    return NewEvent(stream, seq, time, type_, version, data, digest)


ERASED = b'{"$lllm":"e'
"""The beginning of each payload that takes the place of an erased one; others may have it, too."""

_ERASED = re.compile(rb'\{"\$lllm":"erased","commitment":"([0-9a-f]{64})"\}')


def erased_payload(committed: bytes) -> bytes:
    """Make the payload that takes the place of an erased one.

    Args:
        committed: The commitment to the payload, 32 bytes.

    Returns:
        The JSON, with the commitment in it.
    """
    return b'{"$lllm":"erased","commitment":"%b"}' % committed.hex().encode()


def commitment_of_erased(data: bytes) -> bytes | None:
    """Read the commitment from the payload that takes the place of an erased one.

    Args:
        data: A payload as read from a log.

    Returns:
        The commitment, 32 bytes; None if the payload is not erased.
    """
    found = _ERASED.fullmatch(data) if data.startswith(ERASED) else None
    return bytes.fromhex(found[1].decode()) if found else None


def erase(event: Recorded, salt: bytes) -> Recorded:
    """Make an event without its payload; its digest stays the same and still matches.

    Args:
        event: The event as read from a log; an event that is erased already is returned unchanged.
        salt: The salt of its stream.

    Returns:
        The erased event.
    """
    if commitment_of_erased(event.data) is not None:
        return event
    data = erased_payload(commitment(salt, event.data))
    return msgspec.structs.replace(event, data=data)


def digest_of(event: Recorded, salt: bytes) -> bytes:
    """Compute the digest that a recorded event should have, whether or not it is erased.

    Args:
        event: The event as read from a log.
        salt: The salt of its stream.

    Returns:
        The digest, 32 bytes.
    """
    committed = commitment_of_erased(event.data)
    if committed is None:
        committed = commitment(salt, event.data)
    return leaf_of_commitment(
        committed, event.stream, event.seq, event.time, event.type, event.version
    )


def check_digest(event: Recorded, salt: bytes) -> None:
    """Check that an event matches its digest.

    Args:
        event: The event as read from a log.
        salt: The salt of its stream.

    Raises:
        LogDamaged: The digest of the event does not match its content and the salt.
    """
    try:
        found = digest_of(event, salt)
    except _OTHER_KIND:
        found = b""
    if found != event.digest:
        raise _mismatch(event)


def check_stream(events: Sequence[Recorded], salt: bytes) -> None:
    """Check that the events of one stream match their digests, faster than one by one.

    Args:
        events: The events, at least one.
        salt: The salt of the stream.

    Raises:
        LogDamaged: The digest of an event does not match its content and the salt.
    """
    stream = events[0].stream
    try:
        leaf = StreamDigests(salt, stream).leaf
        for event in events:
            if (
                event.stream != stream
                or leaf(event, commitment_of_erased(event.data)) != event.digest
            ):
                raise _mismatch(event)
    except _OTHER_KIND:
        for event in events:
            check_digest(event, salt)
        raise


def _mismatch(event: Recorded) -> LogDamaged:
    return LogDamaged(
        f"Event {event.seq} of {event.stream!r} (position {event.position}) is not what was "
        "written: its digest does not fit its content. Compare it with a backup.",
        position=event.position,
        stream=event.stream,
    )
