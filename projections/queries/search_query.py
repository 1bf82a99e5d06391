"""Parses the query of a search, and writes it in the language of SQLite's full-text search.

    refund kettle           both words, in one message
    refund OR kettle        one of them
    refund NOT kettle       the first without the second
    "late delivery"         the words in this order, next to each other
    refund*                 words that begin with these letters
    (refund OR money) AND "order 7731"

The result consists only of quoted words, split by lllm, and of operators that lllm writes. So no
part of a query can be taken for SQL or for FTS5's syntax.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import msgspec

from lllm.events.errors import SearchQueryError
from lllm.projections.words import Word, terms_of, words_of

_LONGEST = 2_000  # characters of a query
_MOST = 64  # words and phrases of a query
_DEEPEST = 16  # parentheses within each other
_SHORTEST_PREFIX = 2  # characters before a *, since few are the beginning of a great many words

Operator = Literal["AND", "OR", "NOT"]
_OPERATORS: dict[str, Operator] = {"AND": "AND", "OR": "OR", "NOT": "NOT"}
_TOKEN = re.compile(
    r'\s+|(?P<open>\()|(?P<close>\))|"(?P<quoted>[^"]*)"(?P<star>\*?)|(?P<quote>")|(?P<word>[^\s()"]+)'
)


class Phrase(msgspec.Struct, frozen=True):
    """Words that must be next to each other; mostly a single word.

    Attributes:
        segments: The words and runs, in the form in which they are compared.
        prefix: True if the last word may be longer.
    """

    segments: tuple[Word, ...]
    prefix: bool = False

    @property
    def terms(self) -> list[str]:
        """The terms of the index that must be next to each other, in this order."""
        last = len(self.segments) - 1
        return [
            term
            for number, segment in enumerate(self.segments)
            for term in terms_of(segment, last=number == last)
        ]

    @property
    def is_prefix(self) -> bool:
        """True if the last of the terms may be longer."""
        end = self.segments[-1]
        # One character of a run is the beginning of the pairs in which it stands first.
        return (self.prefix and not end.run) or (end.run and len(end.term) == 1)

    @property
    def expression(self) -> str:
        """Write the phrase in FTS5's language."""
        return f'"{" ".join(self.terms)}"' + (" *" if self.is_prefix else "")

    def phrases(self) -> Iterator[Phrase]:
        """List the phrase itself; see `Combination.phrases`."""
        yield self


class Combination(msgspec.Struct, frozen=True):
    """Two parts of a query with the operator between them.

    Attributes:
        operator: "AND", "OR" or "NOT".
        left: The part before the operator.
        right: The part after the operator.
    """

    operator: Operator
    left: Query
    right: Query

    @property
    def expression(self) -> str:
        """Write both parts in FTS5's language."""
        return f"({self.left.expression} {self.operator} {self.right.expression})"

    def phrases(self) -> Iterator[Phrase]:
        """List the phrases that can occur in a found text, so none after NOT."""
        yield from self.left.phrases()
        if self.operator != "NOT":
            yield from self.right.phrases()


Query = Phrase | Combination


class _Token(NamedTuple):
    kind: str  # "open", "close", "phrase", "AND", "OR", "NOT" or "end"
    at: int
    phrase: Phrase | None = None
    text: str = ""


def parse_query(text: str) -> Query:
    """Parse a query.

    Args:
        text: The query as the user typed it.

    Returns:
        The parsed query.

    Raises:
        SearchQueryError: The query is invalid.
    """
    if len(text) > _LONGEST:
        raise SearchQueryError(f"The query has {len(text):,} characters; {_LONGEST:,} are allowed.")
    return _Parser(text).parse()


class _Parser:
    """Parses tokens from left to right; NOT binds strongest, then AND, then OR."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [*self._split(), _Token("end", len(text))]
        self._next = 0
        self._depth = 0

    def parse(self) -> Query:
        if len(self._tokens) == 1:
            raise SearchQueryError(
                'The query has no letter or digit; give words, as in: refund "late delivery"'
            )
        if sum(token.kind == "phrase" for token in self._tokens) > _MOST:
            raise SearchQueryError(f"The query has more than {_MOST} words and phrases.")
        query = self._either()
        left = self._tokens[self._next]
        if left.kind == "close":
            raise self._error(left.at, "closes a parenthesis that is not open")
        return query

    def _split(self) -> Iterator[_Token]:
        for match in _TOKEN.finditer(self._text):
            at, kind = match.start(), match.lastgroup
            if match["quote"]:
                raise self._error(at, "opens a quotation that is not closed")
            if match["open"] or match["close"]:
                yield _Token(str(kind), at, text=match[0])
            elif match["quoted"] is not None:
                yield self._phrase(match["quoted"], at, prefix=bool(match["star"]))
            # otherwise it only has characters that separate words
            elif match["word"] and any(words_of(match["word"])):
                yield self._word(match["word"], at)

    def _word(self, word: str, at: int) -> _Token:
        if word in _OPERATORS:
            return _Token(word, at, text=word)
        bare = word.rstrip("*")
        if "*" in bare:
            inside = at + bare.index("*")
            raise self._error(inside, "stands inside a word; it can only end one, as in: refund*")
        return self._phrase(bare, at, prefix=bare != word)

    def _phrase(self, text: str, at: int, *, prefix: bool) -> _Token:
        words = tuple(words_of(text))
        if not words:
            raise self._error(at, "has no letter or digit to search for")
        last = words[-1]
        if prefix and not last.run and len(last.term) < _SHORTEST_PREFIX:
            raise self._error(at, "begins too many words; give more letters before the *")
        return _Token("phrase", at, Phrase(words, prefix), text)

    def _either(self) -> Query:
        return self._joined(("OR",), self._all)

    def _all(self) -> Query:
        query = self._without()
        while (token := self._tokens[self._next]).kind in ("AND", "phrase", "open"):
            if token.kind == "AND":  # between words it may be left out
                self._next += 1
            query = Combination("AND", query, self._without())
        return query

    def _without(self) -> Query:
        return self._joined(("NOT",), self._one)

    def _joined(self, operators: tuple[Operator, ...], part: Callable[[], Query]) -> Query:
        query = part()
        while (kind := self._tokens[self._next].kind) in operators:
            self._next += 1
            query = Combination(_OPERATORS[kind], query, part())
        return query

    def _one(self) -> Query:
        token = self._tokens[self._next]
        self._next += 1
        if token.phrase is not None:
            return token.phrase
        if token.kind == "open":
            return self._parenthesis(token)
        before = self._tokens[self._next - 2] if self._next > 1 else None
        if token.kind == "NOT":
            raise self._error(token.at, "needs something before it that is found: refund NOT late")
        if before is None:
            raise self._error(token.at, "needs a word before it")
        if before.kind == "open" and token.kind == "close":
            raise self._error(before.at, "opens a parenthesis with nothing in it")
        raise self._error(before.at, "needs a word behind it")

    def _parenthesis(self, opening: _Token) -> Query:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(opening.at, f"is more than {_DEEPEST} parentheses deep")
        query = self._either()
        closing = self._tokens[self._next]
        if closing.kind != "close":
            raise self._error(opening.at, "opens a parenthesis that is not closed")
        self._next += 1
        self._depth -= 1
        return query

    def _error(self, at: int, what: str) -> SearchQueryError:
        match = _TOKEN.match(self._text, at)
        shown = match[0] if match else self._text[at:]
        if shown.startswith("*"):
            shown = "*"
        if len(shown) > 40:
            shown = f"{shown[:39]}…"
        return SearchQueryError(f"The query can't be read: {shown!r} at character {at + 1} {what}.")
