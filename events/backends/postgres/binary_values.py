"""Encodes and decodes values in PostgreSQL's binary form.

An array is: dimensions, a flag for NULLs, the type of its elements, the number of elements, the
first index; then each element with its length. All are integers of 4 bytes, big-endian
(`array_send` in https://github.com/postgres/postgres, src/backend/utils/adt/arrayfuncs.c).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct

# The numbers of types in the system catalog pg_type.
BOOLEAN, BYTEA, BIGINT, TEXT = 16, 17, 20, 25
BYTEA_ARRAY, TEXT_ARRAY, BIGINT_ARRAY = 1001, 1009, 1016

_HEADER = Struct("!iiIii")
_LENGTH = Struct("!i")
_BIGINT = Struct("!q")
_BIGINT_ELEMENT = Struct("!iq")


def encode_bigint(value: int) -> bytes:
    """Encode an integer of 64 bits.

    Args:
        value: The integer.

    Returns:
        A parameter of the type BIGINT.
    """
    return _BIGINT.pack(value)


def encode_bigints(values: Sequence[int]) -> bytes:
    """Encode integers of 64 bits.

    Args:
        values: The integers; at least one.

    Returns:
        A parameter of the type BIGINT_ARRAY.
    """
    parts = [_HEADER.pack(1, 0, BIGINT, len(values), 1)]
    parts += [_BIGINT_ELEMENT.pack(8, value) for value in values]
    return b"".join(parts)


def encode_texts(values: Sequence[str]) -> bytes:
    """Encode texts.

    Args:
        values: The texts; at least one.

    Returns:
        A parameter of the type TEXT_ARRAY.

    Raises:
        UnicodeEncodeError: A text has a lone surrogate.
    """
    return _encode([value.encode() for value in values], TEXT)


def encode_byte_strings(values: Sequence[bytes]) -> bytes:
    """Encode byte strings.

    Args:
        values: The byte strings; at least one.

    Returns:
        A parameter of the type BYTEA_ARRAY.
    """
    return _encode(values, BYTEA)


def _encode(values: Sequence[bytes], of_type: int) -> bytes:
    parts = [_HEADER.pack(1, 0, of_type, len(values), 1)]
    for value in values:
        parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)


def decode_bigint(value: bytes) -> int:
    """Decode an integer of 64 bits.

    Args:
        value: A value of a result.

    Returns:
        The integer.
    """
    return int.from_bytes(value, "big", signed=True)


def decode_bigints(value: bytes) -> list[int]:
    """Decode an array of integers of 64 bits, without NULLs.

    Args:
        value: A value of a result.

    Returns:
        The integers.
    """
    elements: Iterable[tuple[int, int]] = _BIGINT_ELEMENT.iter_unpack(value[_HEADER.size :])
    return [number for _, number in elements]
