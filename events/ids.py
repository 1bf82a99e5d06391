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
    milliseconds = (time.time_ns() if now is None else now) // 1_000_000
    number = milliseconds << 80 | secrets.randbits(80)
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -5, -5))


def new_salt() -> bytes:
    """Make the random salt for the commitments of a stream; see `envelope`.

    Returns:
        32 random bytes.
    """
    return secrets.token_bytes(SALT_BYTES)
