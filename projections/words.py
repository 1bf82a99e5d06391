"""Splits texts into words, for a full-text index and for looking up words in it.

A word is a run of letters, digits and marks of any script; all other characters separate words.
Words are compared without case, accents and width. Some scripts have no spaces between words
(Chinese, Japanese, Thai, ...), and Korean adds particles to them; their runs are indexed as pairs
of characters (bigrams), so that every part of a run can be found.

FTS5 splits the prepared text (`indexed_text`, with runs turned into pairs) at every character that
is no letter or digit. So the index, queries and snippets agree if they all use this module.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import NamedTuple

LEXEME = 400  # characters of a term in PostgreSQL, where 2,046 bytes are allowed

# Scripts without spaces: Thai, Lao, Myanmar, Hangul, Khmer, Han, kana, Bopomofo, Yi. From the
# blocks of https://www.unicode.org/Public/UCD/latest/ucd/Blocks.txt
_RUNS = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3031-\u3035"
    "\u3040-\u30ff\u3100-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf"
    "\ua960-\ua97f\uaa60-\uaa7f\uac00-\ud7ff\uf900-\ufaff\U0001b000-\U0001b16f"
    "\U00020000-\U0003ffff"
)
_SEGMENT = re.compile(f"[{_RUNS}]+|[^{_RUNS}]+")
_RUN = re.compile(f"[{_RUNS}]")
_ASCII_WORD = re.compile("[0-9A-Za-z]+")
_ACCENTS = re.compile("[\u0300-\u036f]+")
# Beyond the first 65,536 characters: whole blocks of scripts, since many small ranges make a
# pattern slow. An index leaves the few symbols among them out.
_FAR = "\U00010000-\U0001cfff\U0001d400-\U0001efff\U00020000-\U0003ffff"


class Word(NamedTuple):
    """A word, or a run of a script without spaces.

    Attributes:
        term: The word in the form in which it is compared.
        run: True for a run, of which every part can be found.
        start: The index of its first character in the text.
        end: The index after its last character.
    """

    term: str
    run: bool
    start: int
    end: int


@cache
def _word_class() -> str:
    """Make the part of a regular expression's set for all letters and digits beyond ASCII."""
    ranges: list[list[int]] = []
    for code in range(0x80, 0x10000):
        if unicodedata.category(chr(code))[0] in "LNM":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges) + _FAR


@cache
def _word() -> re.Pattern[str]:
    return re.compile(f"[0-9A-Za-z{_word_class()}]+")


@cache
def _word_beyond_ascii() -> re.Pattern[str]:
    letters = _word_class()
    return re.compile(f"(?<![0-9A-Za-z])[0-9A-Za-z]*+[{letters}][0-9A-Za-z{letters}]*+")


def _folded(word: str) -> str:
    """Remove case, accents and width from a word; the result may be several words."""
    if word.isascii():
        return word.lower()
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", word.casefold()))
    return unicodedata.normalize("NFC", plain).casefold()


def words_of(text: str) -> Iterator[Word]:
    """Split a text into words.

    Args:
        text: Any text.

    Yields:
        The words and runs, in order.
    """
    ascii_only = text.isascii()
    for match in (_ASCII_WORD if ascii_only else _word()).finditer(text):
        word = match[0]
        if ascii_only or word.isascii():
            yield Word(word.lower(), False, match.start(), match.end())
        else:
            yield from _segments_of(word, match.start())


def _segments_of(word: str, start: int) -> Iterator[Word]:
    folded = _folded(word)
    same_length = len(folded) == len(word)
    for part in _word().finditer(folded):
        for match in _SEGMENT.finditer(part[0]):
            begin = part.start() + match.start()
            run = _RUN.match(match[0]) is not None
            place = (begin, begin + len(match[0])) if same_length else (0, len(word))
            yield Word(match[0], run, start + place[0], start + place[1])


def terms_of(segment: Word, *, last: bool = False) -> list[str]:
    """List the terms by which a word or run is found in an index.

    Args:
        segment: A word or a run.
        last: True for the last segment of a query, which may be longer in the text.

    Returns:
        The word; for a run, all pairs of adjacent characters, and then its last character. For the
        `last` segment, that last character is left out unless it is the only one.
    """
    term = segment.term
    if not segment.run:
        return [term]
    pairs = [term[at : at + 2] for at in range(len(term) - 1)]
    return pairs if last and pairs else [*pairs, term[-1]]


def terms(text: str) -> list[str]:
    """List the terms of a text by which it is found, in their order.

    Args:
        text: Any text.

    Returns:
        The terms; those of each word are next to each other.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return [term for word in words_of(text) for term in terms_of(word)]


def lexeme(term: str) -> str:
    """Shorten a term to what PostgreSQL can index.

    Args:
        term: A term, from `terms`.

    Returns:
        The term; of one with more than LEXEME characters, the beginning and a digest.
    """
    if len(term) <= LEXEME:
        return term
    return term[:LEXEME] + hashlib.sha256(term.encode()).hexdigest()[:32]


def indexed_text(text: str) -> str:
    """Prepare a text for an index that splits it at every character that is no letter or digit.

    Args:
        text: Any text.

    Returns:
        The text, with all words beyond ASCII in the form in which they are compared, and runs as
        pairs of characters.
    """
    if text.isascii():
        return text
    return _word_beyond_ascii().sub(_indexed_word, text)


def _indexed_word(match: re.Match[str]) -> str:
    word = match[0]
    return _indexed_short(word) if len(word) < 64 else _indexed(word)


def _indexed(word: str) -> str:
    return " ".join(term for segment in _segments_of(word, 0) for term in terms_of(segment))


_indexed_short = lru_cache(maxsize=20_000)(_indexed)
