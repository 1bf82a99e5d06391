"""Finds secrets in base64 and hex, by decoding what turns into readable text.

A run is an unbroken sequence of characters that base64 or hex can consist of.
"""

from __future__ import annotations

import base64
import binascii
import re
import string
from collections.abc import Callable, Iterator, Sequence

BASE64_RUN = re.compile(
    r"[A-Za-z0-9+/_-]{60,}(?:(?:\r?\n|(?:\\+r)?\\+n)[ \t]*[A-Za-z0-9+/_-]{4,})+={0,2}"
    r"|[A-Za-z0-9+/_-]{27,}={0,2}"
)
_BREAKS = re.compile(r"\s+|\\+[rnt]")
_HEX_RUN = re.compile(r"[0-9a-f]{40,}|[0-9A-F]{40,}")
_LONG = 8_192  # a run of at least so many characters is taken to begin where its base64 begins
_PRINTABLE = bytes(97 if 32 <= c < 127 or c in (0, 9, 10, 13) else 32 for c in range(256))
_READABLE = 16 * b"a"


def cut_encoded(text: str, cut: Callable[[str], str]) -> str:
    """Replace secrets inside base64 and hex by marks.

    Args:
        text: The text to search.
        cut: A function that replaces the secrets in a decoded text by marks.

    Returns:
        The text; parts that contained a secret are encoded again.
    """
    parts: list[str] = []
    at = 0
    for match in BASE64_RUN.finditer(text):
        new = _cut_base64(match[0], cut)
        if new != match[0]:
            parts += (text[at : match.start()], new)
            at = match.end()
    text = "".join((*parts, text[at:]))
    for start, end, data in reversed(list(hex_runs(text))):
        inside = data.decode("latin-1")
        new = cut(inside)
        if new != inside:
            text = text[:start] + new.encode("latin-1", "replace").hex() + text[end:]
    return text


def _cut_base64(run: str, cut: Callable[[str], str]) -> str:
    for at, data in decodings(run):
        text, encoding = readable(data)
        new = cut(text)
        if new != text:
            return encoded_again(run, at, new.encode(encoding, "surrogatepass"))
    return run


def readable(data: bytes) -> tuple[str, str]:
    """Decode bytes as text.

    Args:
        data: The bytes, which may be UTF-8 or UTF-16 text or something else.

    Returns:
        The text, and the name of the encoding that turns it back into the same bytes.
    """
    try:
        return data.decode("utf-8", "surrogatepass"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"


def decodings(run: str) -> Iterator[tuple[int, bytes]]:
    """Decode a run of base64 from every place where it may begin, if a result is readable.

    Args:
        run: The characters of the run, without padding.

    Yields:
        The place where the base64 begins, and the decoded bytes.
    """
    plain = _BREAKS.sub("", run).rstrip("=").replace("-", "+").replace("_", "/")
    for at in range(4 if len(plain) <= _LONG else 1):
        data = decoded(plain[at:])
        if _READABLE in data.translate(_PRINTABLE):
            yield at, data


def decoded(text: str) -> bytes:
    """Decode base64 without padding; a surplus last character is ignored.

    Args:
        text: The characters of the run.

    Returns:
        The decoded bytes.
    """
    text = text[: len(text) - (len(text) % 4 == 1)]
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""


def encoded_again(run: str, at: int, data: bytes) -> str:
    """Encode a run of base64 again after its bytes were changed.

    Args:
        run: The original characters of the run.
        at: The place from which it was decoded.
        data: The bytes after secrets in them were replaced.

    Returns:
        The new characters of the run.
    """
    said = base64.b64encode(data).decode()
    if "-" in run or "_" in run:
        said = said.replace("+", "-").replace("/", "_")
    return _BREAKS.sub("", run)[:at] + (said if run.endswith("=") else said.rstrip("="))


def hex_runs(text: str) -> Iterator[tuple[int, int, bytes]]:
    """Decode long runs of hex digits whose bytes are readable text.

    Args:
        text: The text to search.

    Yields:
        The start and the end of a run, and its bytes.
    """
    if _LONG_HEX not in text.encode("ascii", "replace").translate(_HEX_DIGITS):
        return
    for match in _HEX_RUN.finditer(text):
        data = bytes.fromhex(match[0][: len(match[0]) // 2 * 2])
        if _READABLE in data.translate(_PRINTABLE):
            yield match.start(), match.start() + 2 * len(data), data


_HEX_DIGITS = bytes(97 if chr(c) in "0123456789abcdefABCDEF" else 32 for c in range(256))
_LONG_HEX = 40 * b"a"
_STANDARD = bytes.maketrans(b"-_", b"+/")
_NO_BASE64 = bytes(c for c in range(256) if chr(c) not in string.ascii_letters + "0123456789+/")
_HEX_BYTES = re.compile(rb"[0-9a-fA-F]{40,}")
_HEX_AND_DASHES = b"0123456789abcdefABCDEF-"
# An encoded key has this many letters and digits in one run: readable characters are never encoded
# as a sign, except for `>`, `?` and `~`.
_LONG_RUN = 27 * b"a"
_ALPHANUMERIC = bytes(97 if chr(c).isalnum() and c < 128 else 32 for c in range(256))
# The possible first characters of four that encode three readable bytes in base64.
_FIRST_OF_READABLE = b"ACDIJKLMNOPQRSTUVWXYZabcdef"  # from bytes 0, 9 to 13 and 32 to 127
_FIRST = bytes(97 if c in _FIRST_OF_READABLE else 32 for c in range(256))
# The possible second characters; their last four bits are the first four of the second byte.
_ALPHABET = (string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/").encode()
_SECOND = bytes(
    97 if c in _ALPHABET and _ALPHABET.index(c) % 16 in (0, 2, 3, 4, 5, 6, 7) else 32
    for c in range(256)
)


def readable_inside(run: bytes, places: Sequence[int]) -> bytes:
    """Decode the readable parts of a base64 or hex run, for the fast check.

    It works like `decodings` and `hex_runs`, but returns only the readable parts, separated by
    blanks.

    Args:
        run: The characters of the run.
        places: The places where base64 may begin in a long run; in a shorter run it may begin
            anywhere.

    Returns:
        The readable parts.
    """
    if len(run) <= _LONG and run.translate(_ALPHANUMERIC).find(_LONG_RUN) < 0:
        return b""
    said: list[bytes] = []
    if len(run) <= _LONG and len(run) >= len(_LONG_HEX) and _LONG_HEX in run.translate(_HEX_DIGITS):
        said += _strings_in_hex(run)
        if not run.translate(None, _HEX_AND_DASHES):
            return b" ".join(said).replace(b"\0", b"")
    plain = run.translate(_STANDARD) if b"-" in run or b"_" in run else run
    if len(plain) <= _LONG or b"~" in plain:
        plain = plain.translate(None, _NO_BASE64)
    for at in range(4) if len(plain) <= _LONG else places:
        firsts = plain[at::4].translate(_FIRST)
        if _FIRSTS in firsts:
            said += _strings_in_base64(plain, at, firsts)
    return b" ".join(said).replace(b"\0", b"")


def readable_in_hex(run: bytes) -> bytes:
    """Decode a run that consists of hex digits, or nearly so, and is not base64.

    Args:
        run: The characters of the run.

    Returns:
        The readable parts, separated by blanks.
    """
    firsts = run.translate(_FIRST_DIGITS)
    if firsts[::2].find(_READABLE) < 0 and firsts[1::2].find(_READABLE) < 0:
        return b""
    return b" ".join(_strings_in_hex(run)).replace(b"\0", b"")


def _strings_in_hex(run: bytes) -> Iterator[bytes]:
    for digits in _HEX_BYTES.findall(run):
        data = binascii.a2b_hex(digits[: len(digits) & ~1])
        if _READABLE in data.translate(_PRINTABLE):
            yield from _STRING.findall(data)


# The possible first hex digits of a readable byte; 0 is that of line breaks and of zeros.
_FIRST_DIGITS = bytes(97 if chr(c) in "0234567" else 32 for c in range(256))


def _strings_in_base64(plain: bytes, at: int, firsts: bytes) -> Iterator[bytes]:
    """Decode base64 from a place on, and return the readable parts.

    Only the parts near places that can begin a readable text are decoded.
    """
    found = firsts.find(_FIRSTS)
    while found >= 0:
        begin = at + 4 * found
        if plain[begin + 1 : begin + 48 : 4].translate(_SECOND).find(_SECONDS) < 0:
            found = firsts.find(_FIRSTS, found + 1)
            continue
        if _READABLE in _decoded(plain[begin : begin + 48]).translate(_PRINTABLE):
            begin = max(at, begin - 4)
            yield from _STRING.findall(_decoded(plain[begin : begin + _READ_AT_ONCE]))
            found += (_READ_AT_ONCE - _READ_TWICE) // 4
        found = firsts.find(_FIRSTS, found + 1)


def _decoded(part: bytes) -> bytes:
    part = part.translate(None, _NO_BASE64)
    part = part[: len(part) - (len(part) & 3 == 1)]
    return binascii.a2b_base64(part + b"==="[: -len(part) & 3])


_READ_AT_ONCE, _READ_TWICE = 8_192, 2_048  # characters of base64
_FIRSTS = 6 * b"a"  # the base64 of 20 readable characters, the length of the shortest key
_SECONDS = 4 * b"a"  # a run of `_READABLE`, at any of the three offsets
_STRING = re.compile(rb"[\t\n\r -~\x00]{16,}")
