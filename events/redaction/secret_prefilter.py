"""Checks fast if a payload may contain a known secret.

The check runs for every event, so it uses operations that are fast in Python. A `translate` marks
runs that are long enough for a key or for encoded text, `find` goes through them, and only these
are examined closely. Secrets that are known by their names have a check of their own
(`credential_prefilter`).

A secret may be hidden by escapes, percent-encoding, invisible or wide characters, UTF-16, line
breaks with or without indentation, base64 and hex. For each of these, one byte shows if a text has
any; they are then decoded in the whole text or in the runs alone.

The check may return True for a text without a secret, but never False for a text with one. Long
payloads are not copied: they are checked in windows, which overlap by more than the longest key.

A run is an unbroken sequence of characters that keys, base64 or hex can consist of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lllm.events.redaction.api_key_prefilter import may_begin
from lllm.events.redaction.base64_and_hex import readable_in_hex, readable_inside
from lllm.events.redaction.credential_prefilter import may_hold_credential, may_hold_long_credential
from lllm.events.redaction.escapes import shown, unescaped

_DEEPEST = 3  # the greatest depth of encodings in encodings
_WINDOW, _OVERLAP = 1 << 18, 8_192  # bytes
_LEAST = 18 * b"a"  # every key has a run of so many characters, before or after a line break
_ENCODED, _HEX_ENCODED = 27, 40  # a secret has at least so many characters in base64 and hex
# in a run of so many characters a prefix is searched only at its beginning
_BLOB, _HEAD = 4_096, 512
_LEFT, _RIGHT = 48, 100  # bytes of a prefix with a dot, or of a key in several parts
_AT_ONCE, _ANYWHERE = (0,), (0, 1, 2, 3)  # the offsets at which base64 may begin in a long run
_LINES = 320  # bytes to look at before and after an indented line break


def _classes(odd: str) -> bytes:
    """Make the table that classifies bytes for the search.

    "a" is a byte of a key; the backslash too, because an escaped line break does not end a run. "!"
    is a byte that shows that something has to be decoded.
    """
    return "".join(
        "a" if (byte < 128 and chr(byte).isalnum()) or chr(byte) in "_-+/~\\" else
        odd if byte >= 128 or chr(byte) in "%\n\0" else " "
        for byte in range(256)
    ).encode()  # fmt: skip


_CLASSES, _SHOWN_CLASSES = _classes("!"), _classes(" ")
_WORDS = b"abcdefghijklmnopqrstuvwxyz_-/~\\"
_INDENTED = re.compile(rb"\\n +")
_JOINS = b".:= "  # before a run, of which it may be a part
_HEX = b"0123456789abcdefABCDEF-"
_ODD, _BACKSLASH = b"!\\"  # as numbers: searching one byte is fast
_INDENTS = b" n"  # before a blank, where it may end an indented line
_OF_SIGNED = b"gGeE"
_DIGEST_BYTES = b"0123456789abcdef-_"
_FEW = 10  # different bytes: the base64 of a secret has more, since no key is shorter than 20
_OUR_DIGEST, _DIGEST = b"definition-", 75  # the characters of a definition's id


def may_hold_secret(data: bytes) -> bool:
    """True if a text may contain a known secret.

    It may return True for a text without a secret, but never False for a text with one. It is
    called for every event.

    Args:
        data: The text in UTF-8, or its JSON.

    Returns:
        False if the text contains no known secret.
    """
    if len(data) <= _WINDOW:
        return _may_hold(data, 0)
    unended: int | None = None  # the start of a run that the end of the previous window cut off
    for at in range(0, len(data), _WINDOW):
        start = max(0, at - _OVERLAP)
        places = _ANYWHERE if unended is None else ((unended - start) % 4,)
        cut_off: list[int] = []
        if _may_hold(data[start : at + _WINDOW], 0, places if at else _AT_ONCE, cut_off):
            return True
        if not cut_off:
            unended = None
        elif cut_off[0] or not start:
            unended = start + cut_off[0]
    return False


def _may_hold(
    data: bytes, depth: int, places: Sequence[int] = _AT_ONCE, cut_off: list[int] | None = None
) -> bool:
    """True if a text inside `depth` encodings may contain a known secret.

    places: where base64 may begin in a long run at the start of the text. cut_off: a list to which
    the start of a run is appended that the end of the text cuts off.
    """
    classes = data.translate(_CLASSES)
    is_odd = _ODD in classes
    if is_odd:
        data = shown(data)
        classes = data.translate(_SHOWN_CLASSES)
    at = classes.find(_LEAST)
    if at >= 0:
        runs = _Runs(data, depth, places)
        if runs.may_hold(classes, at):
            return True
        if cut_off is not None and runs.cut_off is not None and not is_odd:
            cut_off.append(runs.cut_off)
        data = runs.without_blobs()
    return may_hold_credential(data)


class _Runs:
    """The runs of a text that are long enough for a key, or for an encoded one.

    depth, places: as for `_may_hold`.
    """

    def __init__(self, data: bytes, depth: int, places: Sequence[int]) -> None:
        self._data = data
        self._depth = depth
        self._places = places
        self.cut_off: int | None = None  # the start of a run that the end of the text cuts off
        self._begun: list[bytes] = []  # the bytes that are searched for prefixes
        # the places of blobs, which are too long for names and their values
        self._edges: list[int] = []

    def may_hold(self, classes: bytes, at: int) -> bool:
        """True if one of the runs may contain a secret; the first begins at `at`."""
        data = self._data
        if _is_uuid(data, at, classes.find(b" ", at)):
            classes = _without_uuids(data)
            at = classes.find(_LEAST)
        find = classes.find
        while at >= 0:
            end = find(b" ", at)
            if end < 0:
                end, self.cut_off = len(data), at
            run, length = data[at:end], end - at
            if _BACKSLASH in run or data[at - 1] in _JOINS or data[end : end + 1] == b".":
                if self._is_joined_with_secret(run, at, end):
                    return True
            elif length > _BLOB:
                if self._is_blob_with_secret(run, at, end):
                    return True
            elif run not in _HARMLESS and self._is_alone_with_secret(run, at, length):
                return True
            at = find(_LEAST, end)
        return bool(self._begun) and self._is_one_begun()

    def _is_alone_with_secret(self, run: bytes, at: int, length: int) -> bool:
        """True if a run that stands alone may contain a secret."""
        if _is_hex(run):
            return length >= _HEX_ENCODED and self._is_hex_encoded(run)
        if not run.translate(None, _WORDS):
            return False  # every key has a digit or a capital letter
        if length >= _HEX_ENCODED and len(run.translate(None, _DIGEST_BYTES)) <= _FEW:
            if self._is_hex_encoded(run):
                return True
            if length == _DIGEST and run.startswith(_OUR_DIGEST):
                return False
        elif length >= _ENCODED and self._is_encoded(run, self._places if not at else _AT_ONCE):
            return True
        self._begun.append(run)
        return False

    def _is_joined_with_secret(self, run: bytes, at: int, end: int) -> bool:
        """True if a run may contain a secret together with the text around it."""
        if end - at > _BLOB and b"\\" not in run:
            return self._is_blob_with_secret(run, at, end)
        if not run.translate(None, _WORDS):
            return False
        if end - at < _HEX_ENCODED and _is_hex(run):
            is_indented = self._data[at - 1 : at] == b" " and self._data[at - 2] in _INDENTS
            return is_indented and self._is_run_with_secret(run, at, end)
        return self._is_run_with_secret(run, at, end)

    def _is_blob_with_secret(self, run: bytes, at: int, end: int) -> bool:
        self._edges += (at, end)
        self._begun.append(run[:_HEAD])
        return self._is_encoded(run, self._places if not at else _AT_ONCE)

    def _is_run_with_secret(self, run: bytes, at: int, end: int) -> bool:
        data, before = self._data, self._data[at - 1 : at]
        if (before == b" " and data[at - 2] in _INDENTS) or run.endswith(b"\\n"):
            self._begun += _lines_around(data, at, end)
        if b"\\" in run:
            if (b"\\u" in run or b"\\x" in run) and self._depth < _DEEPEST:
                return _may_hold(unescaped(data), self._depth + 1, _ANYWHERE)
            run = unescaped(run)
        if end - at >= _ENCODED and self._is_encoded(run, self._places if not at else _AT_ONCE):
            return True
        if before == b"." or before == b":" or data[end : end + 1] == b".":
            self._begun.append(_parts_around(data, at, end))
        elif _is_hex(run):
            return False
        self._begun.append(run)
        return before == b"=" and data[at - 2] in _OF_SIGNED and _is_signed(data, at)

    def _is_encoded(self, run: bytes, places: Sequence[int]) -> bool:
        inside = readable_inside(run, places) if self._depth < _DEEPEST else b""
        return bool(inside) and _may_hold(inside, self._depth + 1)

    def _is_hex_encoded(self, run: bytes) -> bool:
        inside = readable_in_hex(run) if self._depth < _DEEPEST else b""
        return bool(inside) and _may_hold(inside, self._depth + 1)

    def _is_one_begun(self) -> bool:
        together = b"\n".join(self._begun)
        if may_begin(together) or may_hold_long_credential(self._data, together):
            return True
        if not self._depth:
            _remember(self._begun)
        return False

    def without_blobs(self) -> bytes:
        """The text without blobs."""
        if not self._edges:
            return self._data
        edges = [0, *self._edges, len(self._data)]
        around = zip(edges[::2], edges[1::2], strict=True)
        return b" ".join([self._data[start:end] for start, end in around])


# Ids and names occur again and again; one that is no secret is checked once.
_HARMLESS: set[bytes] = set()
_REMEMBERED, _ID = 1_000, 100


def _remember(runs: list[bytes]) -> None:
    if len(_HARMLESS) > _REMEMBERED:
        _HARMLESS.clear()
    for run in runs:
        if len(run) < _ID:
            _HARMLESS.add(run)


# A text may have hundreds of UUIDs, and none is a key. A hex digit becomes `h`, a dash stays, and
# the signs around a UUID become ` `, except for a blank: after an indentation it may be a part of
# something longer.
_SHAPES = bytes(
    ord("h") if chr(byte) in "0123456789abcdefABCDEF" else ord("-") if byte == 45 else
    ord("s") if byte == 32 else _CLASSES[byte] for byte in range(256)
)  # fmt: skip
_UUID = b"hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh"
_BLANKS = len(_UUID) * b" "
_OF_SHAPES = bytes(97 if byte in b"ah-" else 32 for byte in range(256))


def _is_uuid(data: bytes, at: int, end: int) -> bool:
    return end - at == len(_UUID) and data[at:end].translate(_SHAPES) == _UUID


def _without_uuids(data: bytes) -> bytes:
    """Classify the bytes of a text, with UUIDs counted as blanks."""
    shapes = data.translate(_SHAPES)
    for behind in (b" ", b"s"):
        shapes = shapes.replace(b" " + _UUID + behind, b" " + _BLANKS + behind)
    return shapes.translate(_OF_SHAPES)


def _is_hex(run: bytes) -> bool:
    """True if a run has only hex digits and dashes, as no keys have except those with `fc-`."""
    return not run.translate(None, _HEX) and b"fc-" not in run


def _is_signed(data: bytes, at: int) -> bool:
    """True if the name before a run shows that it is a signature, as in a URL."""
    return data[max(0, at - 10) : at].lower().endswith((b"sig=", b"signature="))


def _parts_around(data: bytes, at: int, end: int) -> bytes:
    """Join a run with the parts that dots and colons separate from it."""
    times = 7 if b"\\u00" in data[at:end] else 1  # UTF-16: a zero after each character
    around = data[max(0, at - _LEFT * times) : end + _RIGHT * times]
    return unescaped(around) if b"\\" in around else around


def _lines_around(data: bytes, at: int, end: int) -> Iterator[bytes]:
    """Join a run with the lines around it, if an indented line continues it."""
    before = data[max(0, at - 99) : at].rstrip()
    if (
        before.endswith(b"\\n")
        and (before[-3:-2].isalnum() or before[-3:-2] in (b"_", b"-", b".", b"~"))
    ) or data.startswith(b"\\n ", end - 2):
        yield unescaped(_INDENTED.sub(b"", data[max(0, at - _LINES) : end + _LINES]))
