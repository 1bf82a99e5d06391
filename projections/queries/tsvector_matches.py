"""Writes the query of a search in PostgreSQL's language, and ranks what matches as SQLite does.

The words are in the tables of `lllm.projections.engine.postgres.search_index`. A tsvector holds a
limited number of places; texts with more of them have their words in order in the column `terms`,
in which phrases are looked for then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from lllm.projections.database import RowsConnection, Value
from lllm.projections.queries.search_query import Combination, Phrase, Query
from lllm.projections.table_names import search_totals
from lllm.projections.words import LEXEME, lexeme

_MOST_COUNTED = 100_000  # texts with a phrase that are counted to know how rare it is
# BM25 and its constants are those of FTS5: https://sqlite.org/fts5.html#the_bm25_function
_K1, _B = 1.2, 0.75
_LEAST_WEIGHT = 1e-6  # of a phrase that most texts have
_REPEATS = 255  # places of a word in a tsvector


class Condition(NamedTuple):
    """A part of an SQL statement.

    Attributes:
        sql: The SQL, with `?` for each parameter.
        parameters: The parameters.
    """

    sql: str
    parameters: tuple[Value, ...]


def matching(query: Query) -> Condition:
    """Make the condition that a row of an index matches a query.

    Args:
        query: The parsed query.

    Returns:
        The condition.
    """
    words = "words @@ CAST(? AS tsquery)"
    exact = _tsquery(query)
    if not any(len(_terms(phrase)) > 1 for phrase in _all_phrases(query)):
        return Condition(words, (exact,))
    ordered = _in_order(query)
    return Condition(
        f"{words} AND CASE WHEN terms IS NULL THEN {words} ELSE {ordered.sql} END",
        (_loose_tsquery(query), exact, *ordered.parameters),
    )


def matches(connection: RowsConnection, index: str, query: Query, *, scored: bool) -> Condition:
    """Make the SELECT of the newest matches, whose last parameters are two ids and a limit.

    Args:
        connection: A connection on which all rows are read in one state.
        index: The name of the index's table.
        query: The parsed query.
        scored: True to compute how well each matches; smaller is better.

    Returns:
        The SELECT of `id` and `score`, and its first parameters.
    """
    found = matching(query)
    columns = (
        "id, length, words, terms" if scored else "id, CAST(NULL AS double precision) AS score"
    )
    newest = (
        f"SELECT {columns} FROM {index} WHERE {found.sql} AND id >= ? AND id < ?"
        " ORDER BY id DESC LIMIT ?"
    )
    if not scored:
        return Condition(newest, found.parameters)
    phrases = tuple(query.phrases())
    texts, length = _totals(connection, index)
    often = [_times(phrase) for phrase in phrases]
    counted = ", ".join(f"{one.sql} AS f{number}" for number, one in enumerate(often))
    norm = f"{_K1} * ({1 - _B} + {_B} * length / {max(length, 1) / max(texts, 1)!r})"
    scores = " + ".join(
        f"{_weight(connection, index, phrase, texts)!r} * f{n} * {_K1 + 1} / (f{n} + {norm})"
        for n, phrase in enumerate(phrases)
    )
    return Condition(
        f"SELECT id, -({scores}) AS score FROM"
        f" (SELECT id, length, {counted} FROM ({newest}) AS newest OFFSET 0) AS counted",
        (*(part for one in often for part in one.parameters), *found.parameters),
    )


def _terms(phrase: Phrase) -> list[str]:
    return [lexeme(term) for term in phrase.terms]


def _all_phrases(query: Query) -> Sequence[Phrase]:
    if isinstance(query, Phrase):
        return (query,)
    return (*_all_phrases(query.left), *_all_phrases(query.right))


_SIGNS = {"AND": "&", "OR": "|", "NOT": "& !"}


def _tsquery(query: Query) -> str:
    if isinstance(query, Phrase):
        return f"({' <-> '.join(_operands(query))})"
    return f"({_tsquery(query.left)} {_SIGNS[query.operator]} {_tsquery(query.right)})"


def _operands(phrase: Phrase) -> list[str]:
    # A long word's beginning is kept in its lexeme, and so is that of a long prefix.
    *before, last = phrase.terms
    end = f"'{last[:LEXEME]}':*" if phrase.is_prefix else f"'{lexeme(last)}'"
    return [*(f"'{lexeme(term)}'" for term in before), end]


def _loose_tsquery(query: Query) -> str:
    """Write a query that finds at least as much, wherever the words are."""
    if isinstance(query, Phrase):
        return f"({' & '.join(_operands(query))})"
    left, right = _loose_tsquery(query.left), _loose_tsquery(query.right)
    if query.operator == "NOT":
        return left
    return f"({left} {_SIGNS[query.operator]} {right})"


def _in_order(query: Query) -> Condition:
    """Make the condition for the words in `terms`, each of them between spaces."""
    if isinstance(query, Combination):
        left, right = _in_order(query.left), _in_order(query.right)
        sign = "AND NOT" if query.operator == "NOT" else query.operator
        return Condition(f"({left.sql} {sign} {right.sql})", (*left.parameters, *right.parameters))
    text = f" {' '.join(_terms(query))}" + ("" if query.is_prefix else " ")
    return Condition("strpos(terms, ?) > 0", (text,))


def _totals(connection: RowsConnection, index: str) -> tuple[int, int]:
    row = connection.execute(f"SELECT texts, length FROM {search_totals(index)}").fetchone()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def _weight(connection: RowsConnection, index: str, phrase: Phrase, texts: int) -> float:
    """How rare a phrase is: the inverse document frequency."""
    found = matching(phrase)
    sql = f"SELECT 1 FROM {index} WHERE {found.sql} LIMIT {_MOST_COUNTED}"
    count = f"SELECT count(*) FROM ({sql}) AS found"
    having = int(connection.execute(count, found.parameters).fetchone()[0])
    weight = math.log(max(texts - having + 0.5, 0.5) / (having + 0.5))
    return weight if weight > 0 else _LEAST_WEIGHT


def _times(phrase: Phrase) -> Condition:
    """Make the SQL for how often a phrase is in a text: as often as the rarest of its words.

    ts_rank adds up 1/n² for the nth place of a word and divides by the limit of that sum, so its
    value tells the number of places. Of a prefix, it adds up the values of all words. So the number
    is that of FTS5 for single words, and near it for phrases and prefixes.
    """
    parts, parameters = [], []
    for operand in _operands(phrase):
        rank = "CAST(ts_rank('{1,1,1,1}', words, CAST(? AS tsquery)) AS double precision)"
        if operand.endswith(":*"):
            parts.append(f"{rank} * {_LIMIT}")
        else:
            parts.append(f"width_bucket({rank}, CAST('{_steps()}' AS double precision[]))")
        parameters.append(operand)
    rarest = f"least({', '.join(parts)})"
    if len(parts) == 1:
        return Condition(rarest, tuple(parameters))
    there = "CASE WHEN terms IS NULL AND NOT words @@ CAST(? AS tsquery) THEN 0"
    return Condition(f"{there} ELSE {rarest} END", (_tsquery(phrase), *parameters))


_LIMIT = 1.64493406685  # of the sum, as ts_rank has it


@cache
def _steps() -> str:
    """The values between those that ts_rank has for n - 1 and for n places, as an array."""
    sums = [0.0]
    for number in range(1, _REPEATS + 1):
        sums.append(sums[-1] + 1 / number**2)
    middles = ((low + high) / 2 / _LIMIT for low, high in pairwise(sums))
    return f"{{{','.join(map(repr, middles))}}}"
