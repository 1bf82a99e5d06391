"""The fast look: whether a known secret may stand in a payload.

It is asked of every event, so it does what Python does fast. A `translate` shows runs that are long
enough for a key or for something encoded, `find` comes to them, and only these are looked at
closely. What is known by its name has a look of its own (`signs`).

A secret may be hidden: by escapes, percent-encoding, invisible or wide characters, UTF-16, line
breaks with and without indentation, base64 and hex. One byte each tells whether a text has any of
these; they are undone before the look, or in the runs alone.

It may say yes where there is none, never no where there is one. Of long payloads it makes no
copies: it looks at one window after another, which overlap by more than the longest key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lllm.events.disguises import readable_inside, shown, unescaped
from lllm.events.issuer_keys import may_begin
from lllm.events.signs import may_hold_credential, may_hold_long_credential

_DEEPEST = 3  # encodings around each other
_WINDOW, _OVERLAP = 1 << 18, 8_192  # bytes
_LEAST = 18 * b"a"  # that every key has in one run, before or behind a line break
_ENCODED, _HEX_ENCODED = 27, 40  # characters of base64 and hex that encode a secret
_BLOB, _HEAD = 4_096, 512  # characters of a run in which no prefix is looked for but at its head
_LEFT, _RIGHT = 48, 100  # bytes of prefixes with a dot, and of keys in several parts
_LINES = 320  # bytes of the lines around an indented line break


def _classes(odd: str) -> bytes:
    """a: of keys, and the backslash, since an escaped line break ends no run. !: to be undone."""
    return "".join(
        "a" if (byte < 128 and chr(byte).isalnum()) or chr(byte) in "_-+/~\\" else
        odd if byte >= 128 or chr(byte) in "%\n\0" else " "
        for byte in range(256)
    ).encode()  # fmt: skip


_CLASSES, _SHOWN_CLASSES = _classes("!"), _classes(" ")
_WORDS = b"abcdefghijklmnopqrstuvwxyz_-/~\\"
_INDENTED = re.compile(rb"\\n +")
_JOINS = b".:= "  # in front of a run, with which it may belong together
_HEX = b"0123456789abcdefABCDEF-"
_INDENTS = b" n"  # in front of a blank, where it may be that of an indented line
_OF_SIGNED = b"gGeE"


def may_hold_secret(data: bytes) -> bool:
    """Whether a known secret may stand in a text in UTF-8, or in JSON made of it.

    It may say yes where there is none, never no where there is one. It is asked of every event.
    """
    if len(data) <= _WINDOW:
        return _may_hold(data, 0, False)
    return any(
        _may_hold(data[max(0, at - _OVERLAP) : at + _WINDOW], 0, at > 0)
        for at in range(0, len(data), _WINDOW)
    )


def _may_hold(data: bytes, depth: int, cut: bool) -> bool:
    """depth: of encodings. cut: whether the text begins somewhere within another."""
    classes = data.translate(_CLASSES)
    if b"!" in classes:
        data = shown(data)
        classes = data.translate(_SHOWN_CLASSES)
    if _LEAST in classes:
        runs = _Runs(data, depth, cut)
        if runs.may_hold(classes):
            return True
        data = runs.without_blobs()
    return may_hold_credential(data)


class _Runs:
    """The runs of a text that are long enough for a key, or for what encodes one.

    depth, cut: as in `_may_hold`.
    """

    def __init__(self, data: bytes, depth: int, cut: bool) -> None:
        self._data = data
        self._depth = depth
        self._cut = cut
        self._begun: list[bytes] = []  # what is to be looked through for prefixes
        self._edges: list[int] = []  # of blobs, which are too long for names and their values

    def may_hold(self, classes: bytes) -> bool:
        """Whether a secret may be in one of them."""
        data = self._data
        at = classes.find(_LEAST)
        while at >= 0:
            end = classes.find(b" ", at)
            if end < 0:
                end = len(data)
            run = data[at:end]
            if end - at > _BLOB and b"\\" not in run:
                if self._is_blob_with_secret(run, at, end):
                    return True
            elif self._may_be_key(run, at, end) and self._is_run_with_secret(run, at, end):
                return True
            at = classes.find(_LEAST, end)
        return bool(self._begun) and self._is_one_begun()

    def _may_be_key(self, run: bytes, at: int, end: int) -> bool:
        """Whether a run has a digit or a capital letter, as each key has, is no UUID or the like,
        and was not found harmless before."""
        if not run.translate(None, _WORDS):
            return False
        if end - at < _ID:
            if end - at < _HEX_ENCODED and _is_hex(run):
                return self._data[at - 1 : at] == b" " and self._data[at - 2] in _INDENTS
            if run in _HARMLESS:
                return self._data[at - 1] in _JOINS or self._data[end : end + 1] == b"."
        return True

    def _is_blob_with_secret(self, run: bytes, at: int, end: int) -> bool:
        self._edges += (at, end)
        self._begun.append(run[:_HEAD])
        return self._is_encoded(run, self._cut and not at)

    def _is_run_with_secret(self, run: bytes, at: int, end: int) -> bool:
        data, before = self._data, self._data[at - 1 : at]
        if (before == b" " and data[at - 2] in _INDENTS) or run.endswith(b"\\n"):
            self._begun += _lines_around(data, at, end)
        if b"\\" in run:
            if (b"\\u" in run or b"\\x" in run) and self._depth < _DEEPEST:
                return _may_hold(unescaped(data), self._depth + 1, self._cut)
            run = unescaped(run)
        if end - at >= _ENCODED and self._is_encoded(run, self._cut and not at):
            return True
        if before == b"." or before == b":" or data[end : end + 1] == b".":
            self._begun.append(_parts_around(data, at, end))
        elif _is_hex(run):
            return False
        self._begun.append(run)
        return before == b"=" and data[at - 2] in _OF_SIGNED and _is_signed(data, at)

    def _is_encoded(self, run: bytes, anywhere: bool) -> bool:
        inside = readable_inside(run, anywhere=anywhere) if self._depth < _DEEPEST else b""
        return bool(inside) and _may_hold(inside, self._depth + 1, False)

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


# Ids, digests and names come again and again; what is no secret needs no second look.
_HARMLESS: set[bytes] = set()
_REMEMBERED, _ID = 1_000, 100


def _remember(runs: list[bytes]) -> None:
    if len(_HARMLESS) > _REMEMBERED:
        _HARMLESS.clear()
    _HARMLESS.update([run for run in runs if len(run) < _ID and b"\\" not in run])


def _is_hex(run: bytes) -> bool:
    """Whether a run is of hex digits and dashes, as no key is but those that begin with `fc-`."""
    return not run.translate(None, _HEX) and b"fc-" not in run


def _is_signed(data: bytes, at: int) -> bool:
    """Whether a name in front says that this is a signature, as of a URL."""
    return data[max(0, at - 10) : at].lower().endswith((b"sig=", b"signature="))


def _parts_around(data: bytes, at: int, end: int) -> bytes:
    """A run with what dots and colons part from it."""
    times = 7 if b"\\u00" in data[at:end] else 1  # UTF-16: a zero behind each character
    around = data[max(0, at - _LEFT * times) : end + _RIGHT * times]
    return unescaped(around) if b"\\" in around else around


def _lines_around(data: bytes, at: int, end: int) -> Iterator[bytes]:
    """A run with the lines around it, joined, where it begins or ends with an indented line."""
    before = data[max(0, at - 99) : at].rstrip()
    if (
        before.endswith(b"\\n")
        and (before[-3:-2].isalnum() or before[-3:-2] in (b"_", b"-", b".", b"~"))
    ) or data.startswith(b"\\n ", end - 2):
        yield unescaped(_INDENTED.sub(b"", data[max(0, at - _LINES) : end + _LINES]))
