"""Reads base64 strictly, so that one value has one text.

Python's decoder ignores unused bits of the last character. With it, two different texts could stand
for one value, and somebody could change a file without being noticed.
"""

from __future__ import annotations

import base64
import binascii


def encoded(value: bytes) -> str:
    """Write bytes as standard base64 (https://www.rfc-editor.org/rfc/rfc4648#section-4).

    Args:
        value: The bytes to write.
    """
    return base64.b64encode(value).decode("ascii")


def decoded(text: str) -> bytes | None:
    """Read standard base64.

    Args:
        text: The text to read.

    Returns:
        The bytes; None if `encoded` never writes this text.
    """
    try:
        value = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    return value if encoded(value) == text else None
