"""Decodes escapes, percent-encoding and the like, so that secrets in them are found.

`Plain` is a text without percent-encoding (also repeated), escapes of JSON and Python, invisible
characters, full-width letters and the zeros of UTF-16; it knows the original place of each
character. `wrapped` finds runs that a terminal broke over lines. Text in base64 or hex is decoded
by `base64_and_hex`.
"""

from __future__ import annotations

import re
import string
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator

_HEX = "[0-9A-Fa-f]"
# Unicode's default ignorable code points, combining marks, hyphens that are no hyphen-minus,
# full-width and mathematical letters: https://www.unicode.org/reports/tr44/
_NOISE = re.compile(
    rf"%(?:25)*(?P<percent>{_HEX}{{2}})"
    rf"|(?<!\\)\\{{1,16}}(?:u(?P<u>{_HEX}{{4}})|x(?P<x>{_HEX}{{2}})|(?P<slash>/)|(?P<blank>[abefnrtv0]))"
    r"|(?P<none>[\0\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff"
    r"\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f\U000e0000-\U000e0fff])"
    r"|(?P<alike>[\u2010\u2011\u2212\ufe58\ufe63\uff01-\uff5e\U0001d400-\U0001d7ff])"
    r"|(?P<colour>\x1b\[[0-9;]*m)"
)
_HYPHENS = frozenset("\u2010\u2011\u2212\ufe58\ufe63")


def _without_disguise(match: re.Match[str]) -> str:
    """Decode one escape, or remove one invisible character."""
    kind, said = match.lastgroup, match[match.lastgroup or 0]
    if kind in ("percent", "x", "u"):
        character = chr(int(said, 16))
        return "" if _NOISE.fullmatch(character) and character not in _HYPHENS else character
    if kind == "alike":
        return "-" if said in _HYPHENS else unicodedata.normalize("NFKC", said)[:1]
    return {"slash": "/", "blank": " "}.get(str(kind), "")


class Plain:
    """A text without escapes and encodings, with the original place of each character.

    Args:
        text: The text as it was written, with its escapes.
    """

    def __init__(self, text: str) -> None:
        # For each place: the original place, and for a decoded piece also its original end.
        self._pieces: list[tuple[int, int, int | None]] = []
        parts: list[str] = []
        length = at = 0
        for match in _NOISE.finditer(text):
            for shown, start, end in (
                (text[at : match.start()], at, None),
                (_without_disguise(match), match.start(), match.end()),
            ):
                if shown:
                    self._pieces.append((length, start, end))
                    parts.append(shown)
                    length += len(shown)
            at = match.end()
        self._pieces.append((length, at, None))
        self.text = "".join((*parts, text[at:]))
        self._starts = [piece[0] for piece in self._pieces]

    def origin(self, at: int, *, end: bool = False) -> int:
        """Find the place in the original text where a character begins or ends.

        Args:
            at: The place of the character in the decoded text.
            end: True for the place where the character ends.

        Returns:
            The index in the original text.
        """
        start, original, behind = self._pieces[max(0, bisect_right(self._starts, at) - 1)]
        if behind is not None:
            return behind if end else original
        return original + at - start + end

    @staticmethod
    def differs(text: str) -> bool:
        """True if a text contains escapes or invisible characters to decode or remove.

        Args:
            text: The text as it was written, with its escapes.

        Returns:
            False if `Plain` would not change the text.
        """
        if text.isascii() and not any(byte in text for byte in "%\\\0\x1b"):
            return False
        return _NOISE.search(text) is not None


_KEY = r"[A-Za-z0-9_.~+/=:%-]"
NEXT_LINE = re.compile(rf"(?:\\?\r?\n|(?:\\+r)?\\+n)[ \t]*({_KEY}+)")
_BROKEN = tuple(re.compile(rf"{line_end}[ \t]*({_KEY}+)") for line_end in (r"\n", r"\\n"))
_ESCAPED_RETURN = re.compile(r"(?<!\\)\\{1,8}r\\{0,8}\Z")
_OF_KEYS = string.ascii_letters + string.digits + "_.~+/=:%-"
_LONGEST = 512  # so many characters at the end of a line can be a part of a key
_MOST = 12  # the most lines of one key


def wrapped(text: str) -> Iterator[list[tuple[int, int]]]:
    """Find runs of key characters that are split over lines.

    Args:
        text: The text to search.

    Yields:
        The start and end of each part of one run.
    """
    for broken in _BROKEN:
        parts: list[tuple[int, int]] = []
        for match in broken.finditer(text):
            before = _part_before(text, match.start())
            if before is None:
                if len(parts) > 1:
                    yield parts
                parts = []
                continue
            if not parts or parts[-1][1] != before[1]:
                if len(parts) > 1:
                    yield parts
                parts = [before]
            if len(parts) < _MOST and match.end(1) - match.start(1) <= _LONGEST:
                parts.append(match.span(1))
        if len(parts) > 1:
            yield parts


def _part_before(text: str, at: int) -> tuple[int, int] | None:
    """Find the run of key characters at the end of a line."""
    line = text[max(0, at - _LONGEST) : at]
    escaped = _ESCAPED_RETURN.search(line[-18:])
    line = line[: len(line) - len(escaped[0])] if escaped else line.rstrip("\r\\")
    run = len(line) - len(line.rstrip(_OF_KEYS))
    end = max(0, at - _LONGEST) + len(line)
    return (end - run, end) if run else None


# -- The same for bytes, for the fast check of `secret_prefilter`

_PERCENT = re.compile(rb"%(?:25)*([0-9A-Fa-f]{2})")
_ESCAPED = re.compile(
    rb"\\(?:u00([0-9a-fA-F]{2})(?:\[[0-9;]*m)?|u[0-9a-fA-F]{4}|x([0-9a-fA-F]{2})|/)"
)
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff"
    "\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f\U000e0000-\U000e0fff"
    "\u2010\u2011\u2212\ufe58\ufe63\uff0b\uff0d-\uff1a\uff1d\uff20-\uff3a\uff3f\uff41-\uff5a"
    "\U0001d400-\U0001d7ff]"
)


def _byte(match: re.Match[bytes]) -> bytes:
    said = match[1] or match[2]
    if said is None:
        code = match[0][2:]
        return chr(int(code, 16)).encode("utf-8", "surrogatepass") if code else b"/"
    number = int(said, 16)
    return b"" if number in (0, 0x1B) else chr(number).encode()


def _percent(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))


def unescaped(data: bytes) -> bytes:
    """Remove JSON escapes, such as those of line breaks, from a run of text.

    Args:
        data: The bytes of the run.

    Returns:
        The bytes without escapes.
    """
    while b"\\\\" in data:
        data = data.replace(b"\\\\", b"\\")
    for blank in (b"\\n", b"\\r", b"\\t"):
        data = data.replace(blank, b"")
    return _ESCAPED.sub(_byte, data) if b"\\" in data else data


_ASCII = bytes(range(128))


def shown(data: bytes) -> bytes:
    """Decode percent-encoding, zeros of UTF-16, and invisible or wide characters.

    The result is on one line, as in JSON.

    Args:
        data: The text in UTF-8.

    Returns:
        The decoded text.
    """
    if b"%" in data:
        data = _PERCENT.sub(_percent, data)
    if b"\n" in data:
        data = data.replace(b"\n", b"\\n")
    if b"\0" in data:
        data = data.replace(b"\0", b"")
    if not data.isascii():
        strange = data.translate(None, _ASCII).decode("utf-8", "replace")
        if _INVISIBLE.search(strange) is not None:
            text = data.decode("utf-8", "replace")
            return _INVISIBLE.sub(lambda match: _shown_alike(match[0]), text).encode()
    return data


def _shown_alike(character: str) -> str:
    if character in _HYPHENS:
        return "-"
    alike = character >= "\U0001d400" or "\uff0b" <= character <= "\uff5a"
    return unicodedata.normalize("NFKC", character)[:1] if alike else ""
