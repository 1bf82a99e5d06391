"""Makes the ids of sessions and other streams, and the salts for their commitments."""

from __future__ import annotations

import secrets
import time

from lllm.events.digest import SALT_BYTES

# Crockford's base 32, the alphabet of ULIDs: https://www.crockford.com/base32.html
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(now: int | None = None) -> str:
    """Make an id that sorts by time and is safe in URLs and file names.

    The id is a ULID (https://github.com/ulid/spec) in lower case: 48 bits of milliseconds and 80
    random bits.

    Args:
        now: The time of the id, nanoseconds UTC; None for the current time.

    Returns:
        The id, 26 characters.
    """
    return id_of(time.time_ns() if now is None else now, secrets.randbits(80))


def id_of(time: int, bits: int) -> str:
    """Make the id that consists of a time and 80 bits.

    Args:
        time: The time, nanoseconds UTC.
        bits: The lower 80 bits of the id.

    Returns:
        The id, 26 characters.
    """
    number = time // 1_000_000 << 80 | bits
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -5, -5))


def new_salt() -> bytes:
    """Make the random salt for the commitments of a stream; see `envelope`.

    Returns:
        32 random bytes.
    """
    return secrets.token_bytes(SALT_BYTES)
