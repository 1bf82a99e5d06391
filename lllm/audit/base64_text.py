"""Reads base64 strictly, so that one value has one text.

Python's decoder passes over bits behind the last byte: two different texts can have one value, and
a file could be changed without anybody noticing.
"""

from __future__ import annotations

import base64
import binascii


def encoded(value: bytes) -> str:
    """Write bytes as standard base64 (https://www.rfc-editor.org/rfc/rfc4648#section-4).

    Args:
        value: The bytes.
    """
    return base64.b64encode(value).decode("ascii")


def decoded(text: str) -> bytes | None:
    """Read standard base64.

    Args:
        text: What should be base64.

    Returns:
        The bytes; None if the text is not what `encoded` writes for any.
    """
    try:
        value = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    return value if encoded(value) == text else None
