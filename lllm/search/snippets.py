"""Cuts the parts out of a text that show why a search found it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from lllm.projections.queries.search_query import Phrase
from lllm.projections.words import Word, words_of

_AROUND = 60  # characters before and behind what was found, where there is room for them
_LEAST = 12
_LENGTH = 240  # characters of a snippet without what was found, about
_WORD = 120  # characters of one word that are shown
_GAP = " … "


class Snippet(msgspec.Struct, frozen=True):
    """Parts of a text, on one line.

    Attributes:
        text: The parts, with an ellipsis where something is left out.
        matches: The places of the found words in `text`, as (start, end), in order.
    """

    text: str
    matches: tuple[tuple[int, int], ...]


def snippet_of(text: str, phrases: Sequence[Phrase]) -> Snippet:
    """Cut a snippet out of a text.

    Args:
        text: The whole text of the message.
        phrases: The phrases of the query. The snippet shows each of them that the text has.

    Returns:
        The snippet; if the text has none of the phrases, the beginning of the text.
    """
    first = _first_places(text, phrases)
    around = max(_LEAST, min(_AROUND, _LENGTH // (2 * len(first) or 1)))
    windows = _windows(text, first, around) or [(0, min(len(text), _LENGTH))]
    line = _Line()
    for number, (start, end) in enumerate(windows):
        line.add(_GAP if number else _GAP.lstrip() if start else "")
        window, shown = text[start:end], 0
        for mark_start, mark_end in _merged(sorted(_places(window, phrases))):
            line.add(_one_line(window[shown:mark_start]))
            line.add(_short(_one_line(window[mark_start:mark_end])), marked=True)
            shown = mark_end
        line.add(_one_line(window[shown:]))
    line.add(_GAP.rstrip() if windows[-1][1] < len(text) else "")
    return Snippet("".join(line.pieces), tuple(line.matches))


class _Line:
    """Collects the pieces of a snippet, and the places of the found words in it."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.matches: list[tuple[int, int]] = []
        self._length = 0

    def add(self, piece: str, *, marked: bool = False) -> None:
        if marked:
            self.matches.append((self._length, self._length + len(piece)))
        self.pieces.append(piece)
        self._length += len(piece)


def _short(word: str) -> str:
    return word if len(word) <= _WORD else f"{word[:_WORD]}…"


def _places(text: str, phrases: Sequence[Phrase]) -> Iterator[tuple[int, int]]:
    """Yield the places of all phrases in a text."""
    for window in _candidates(text, phrases):
        for phrase in phrases:
            place = _match(window, phrase)
            if place is not None:
                yield place


def _first_places(text: str, phrases: Sequence[Phrase]) -> list[tuple[int, int]]:
    """Return the first place of each phrase in a text."""
    left = set(range(len(phrases)))
    found: set[tuple[int, int]] = set()
    for window in _candidates(text, phrases):
        for number in tuple(left):
            place = _match(window, phrases[number])
            if place is not None:
                found.add(place)
                left.discard(number)
        if not left:
            break
    return sorted(found)


def _candidates(text: str, phrases: Sequence[Phrase]) -> Iterator[list[Word]]:
    """Yield the words that may begin a phrase, each together with those after it.

    A part of a word can begin some phrases. Otherwise most words are not looked at any closer.
    """
    longest = max((len(phrase.segments) for phrase in phrases), default=1)
    windows = _neighbours(words_of(text), longest)
    if any(phrase.segments[0].run or phrase.prefix for phrase in phrases):
        return windows
    first = {phrase.segments[0].term for phrase in phrases}
    return (window for window in windows if window[0].term in first)


def _neighbours(words: Iterator[Word], length: int) -> Iterator[list[Word]]:
    """Yield each word together with the words after it, `length` in all if there are so many."""
    if length == 1:
        yield from ([word] for word in words)
        return
    window = list(islice(words, length))
    while window:
        yield window
        window = [*window[1:], *islice(words, 1)]


def _match(window: list[Word], phrase: Phrase) -> tuple[int, int] | None:
    """Return the place of a phrase if it begins with the first of some words, else None."""
    wanted = phrase.segments
    if len(window) < len(wanted):
        return None
    last = len(wanted) - 1
    start = end = 0
    for number, (word, want) in enumerate(zip(window, wanted, strict=False)):
        if word.run != want.run:
            return None
        open_start, open_end = want.run and not number, number == last
        if open_start and open_end:
            at = word.term.find(want.term)
        elif open_start:
            at = len(word.term) - len(want.term) if word.term.endswith(want.term) else -1
        elif open_end and (want.run or phrase.prefix):
            at = 0 if word.term.startswith(want.term) else -1
        else:
            at = 0 if word.term == want.term else -1
        if at < 0:
            return None
        exact = word.run and word.end - word.start == len(word.term)
        if not number:
            start = word.start + at if exact else word.start
        end = word.start + at + len(want.term) if exact else word.end
    return start, end


def _windows(text: str, places: Iterable[tuple[int, int]], around: int) -> list[tuple[int, int]]:
    """Return the parts of a text around some places; the parts don't overlap."""
    wide = [
        (_word_start(text, max(0, start - around), start), _word_end(text, end, end + around))
        for start, end in places
    ]
    return _merged(wide)


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _word_start(text: str, at: int, upto: int) -> int:
    """Return the beginning of the first whole word after `at`."""
    if not at or text[at - 1].isspace():
        return at
    space = next((place for place in range(at, upto) if text[place].isspace()), None)
    return at if space is None else space + 1


def _word_end(text: str, least: int, at: int) -> int:
    """Return the end of the last whole word before `at`."""
    if at >= len(text):
        return len(text)
    space = next((place for place in range(at, least, -1) if text[place].isspace()), None)
    return at if space is None else space


def _one_line(text: str) -> str:
    """Replace each run of white space by one space."""
    if not text:
        return ""
    words = " ".join(text.split())
    return (
        (" " if text[0].isspace() else "") + words + (" " if words and text[-1].isspace() else "")
    )
