"""Replaces all the kinds of secrets that lllm recognises by itself.

It finds keys by the prefixes of their issuers (`api_key_formats`), secrets by their names
(`named_credentials`) and by their formats (`credential_formats`). It finds them in plain text,
across line breaks, and in encoded form (`escapes`, `base64_and_hex`): percent-encoding, escapes,
invisible characters, UTF-16, base64 and hex, also one inside the other.

A mark, `[redacted: openai-key]`, replaces the whole secret; no part of it is left. Inside base64
and hex the mark is encoded, so the text around it can still be decoded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial

from lllm.events.redaction import credential_formats, named_credentials
from lllm.events.redaction.api_key_formats import api_key_formats
from lllm.events.redaction.api_key_prefilter import may_begin
from lllm.events.redaction.base64_and_hex import cut_encoded
from lllm.events.redaction.escapes import NEXT_LINE, Plain, wrapped
from lllm.events.redaction.named_credentials import Span
from lllm.events.redaction.randomness import is_words
from lllm.events.redaction.secret_prefilter import may_hold_secret

_DEEPEST = 3  # the greatest depth of encodings in encodings
_RUN = 16  # every key has a run of at least so many characters
_CLASSES = bytes(
    97 if chr(c) in "+/_.-=~:" or (c < 128 and chr(c).isalnum()) else 32 for c in range(256)
)
_LEAST = _RUN * b"a"
_JWT = re.compile(rb"e(?:yJ|yA|wo|w0)[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,}\.")


def without_secrets(text: str) -> str:
    """Replace the secrets in a log line or error message by marks.

    Args:
        text: The log line or message.

    Returns:
        The text with marks in place of secrets.
    """
    if may_hold_secret(text.encode("utf-8", "surrogatepass")):
        return cut_secrets(text, Counter())
    return text


def mark(name: str) -> str:
    """Make the text that replaces a secret.

    Args:
        name: The kind of the secret, as "openai-key".

    Returns:
        The mark, as "[redacted: openai-key]".
    """
    return f"[redacted: {name}]"


def cut_secrets(text: str, found: Counter[str], *, depth: int = 0, look: bool = True) -> str:
    """Replace every secret in a text by a mark.

    Args:
        text: The text to search.
        found: A counter of the marks, by the name of their kind; it is increased.
        depth: The number of encodings that the text was decoded from.
        look: True to run the fast check first, which spares most texts the slow search.

    Returns:
        The text with marks in place of secrets.
    """
    if look and not may_hold_secret(text.encode("utf-8", "surrogatepass")):
        return text
    text = _replaced(text, _over_lines(text), found)
    text = _replaced(text, _spans(text), found)
    if Plain.differs(text):
        plain = Plain(text)
        seen = [*_over_lines(plain.text), *_spans(plain.text)]
        spans = [(plain.origin(a), plain.origin(b - 1, end=True), name) for a, b, name in seen]
        text = _replaced(text, spans, found)
    if depth < _DEEPEST:
        text = cut_encoded(text, partial(cut_secrets, found=found, depth=depth + 1))
    return text


def cut_member(name: str, text: str, found: Counter[str]) -> str:
    """Replace secrets in the value of a JSON member or header; its name may show that it is one.

    Args:
        name: The name of the member or header.
        text: The value of the member or header.
        found: A counter of the marks, by the name of their kind; it is increased.

    Returns:
        The value with marks in place of secrets.
    """
    span = named_credentials.in_member(name, text)
    if span is None:
        return cut_secrets(text, found)
    start, end, kind = span
    inside: Counter[str] = Counter()
    cut = cut_secrets(text[start:end], inside)
    if _ONE_MARK.fullmatch(cut) is None:
        cut, inside = mark(kind), Counter({kind: 1})
    found.update(inside)
    return text[:start] + cut + text[end:]


_ONE_MARK = re.compile(r"\[redacted: [a-z0-9-]+\]")


def _replaced(text: str, spans: Iterator[Span] | list[Span], found: Counter[str]) -> str:
    """Replace spans of a text by marks; overlapping spans get one mark."""
    parts: list[str] = []
    at = 0
    for start, end, name in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start < at:
            if end > at:
                at = end
            continue
        parts += (text[at:start], mark(name))
        found[name] += 1
        at = end
    return "".join((*parts, text[at:])) if parts else text


def _spans(text: str) -> Iterator[Span]:
    runs = _long_runs(text)
    if runs:
        for key in api_key_formats():
            if key.prefix in runs and (len(key.prefix) > 1 or "." in runs):
                for start, end in key.spans(text):
                    yield start, _with_rest(text, end), key.name
        if "eyJ" in runs or "eyA" in runs or "ewo" in runs or "ew0" in runs:
            yield from credential_formats.json_web_tokens(text)
    if "PRIVATE KEY" in text:
        yield from credential_formats.private_keys(text)
    for start, end, name in named_credentials.assigned(text):
        yield start, _with_rest(text, end), name
    for start, end, name in credential_formats.known_by_form(text):
        yield start, _with_rest(text, end), name


def _long_runs(text: str) -> str:
    """Collect the runs of a text that are long enough for a key."""
    data = text.encode("ascii", "replace")
    classes = data.translate(_CLASSES)
    runs: list[str] = []
    at = classes.find(_LEAST)
    while at >= 0:
        end = classes.find(b" ", at)
        end = len(text) if end < 0 else end
        runs.append(text[classes.rfind(b" ", 0, at) + 1 : end])
        at = classes.find(_LEAST, end)
    return "\n".join(runs)


def _with_rest(text: str, end: int) -> int:
    """Find the end of a secret that a terminal wrapped over several lines."""
    while more := NEXT_LINE.match(text, end):
        if not _goes_on(more[1]):
            break
        end = more.end()
    return end


def _goes_on(piece: str) -> bool:
    """True if a line continues a secret, and is not a word or name."""
    return (
        len(piece) >= 4
        and any(c.isdigit() for c in piece)
        and any(c.isalpha() for c in piece)
        and "=" not in piece.rstrip("=")
        and not is_words(piece)
    )


def _over_lines(text: str) -> Iterator[Span]:
    """Find keys that line breaks split into parts too short to be recognised."""
    for parts in wrapped(text):
        whole = "".join([text[start:end] for start, end in parts]).encode("ascii", "replace")
        if len(whole) < _RUN or not (may_begin(whole) or _JWT.search(whole)):
            continue
        breaks = [end for _, end in parts[:-1]]
        for count in range(2, len(parts) + 1):
            places = [at for start, end in parts[:count] for at in range(start, end)]
            crossing = [
                (places[start], places[end - 1] + 1, name)
                for start, end, name in _whole_keys("".join([text[at] for at in places]))
                if any(places[start] < at <= places[end - 1] for at in breaks)
            ]
            alone = [
                start
                for begin, stop in parts[:count]
                for start, _, _ in _whole_keys(text[begin:stop], begin)
            ]
            if crossing:
                for start, end, name in crossing:
                    if start not in alone:
                        yield start, _with_rest(text, end), name
                break


def _whole_keys(joined: str, at: int = 0) -> Iterator[Span]:
    if len(joined) < _RUN:
        return
    if _JWT.search(data := joined.encode("ascii", "replace")) is not None:
        for start, end, name in credential_formats.json_web_tokens(joined):
            yield at + start, at + end, name
    if not may_begin(data):
        return
    for key in api_key_formats():
        if key.prefix in joined:
            for start, end in key.spans(joined):
                yield at + start, at + end, key.name
