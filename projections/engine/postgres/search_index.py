"""Stores the words of texts in PostgreSQL, with an index of them (a GIN index of tsvectors).

A row has the words of one text and their places. They come from `lllm.projections.words`, as in
SQLite, so PostgreSQL splits nothing into words and knows no languages. A tsvector has limits
(https://www.postgresql.org/docs/current/textsearch-limitations.html). Where a text has more places
than it can hold, the row has the words in their order, too, for the search of phrases.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from lllm.projections.database import Row, RowsConnection, Statement
from lllm.projections.table_names import search_table, search_totals
from lllm.projections.view import Key, Table
from lllm.projections.words import LEXEME, lexeme, terms

_logger = logging.getLogger("lllm.store")

_PLACES = 16_383  # the highest place of a word in a tsvector
_REPEATS = 255  # places of one word
_BYTES = 1_000_000  # of all words and places of a text
_PLACE_TEXTS = tuple(map(str, range(1, _REPEATS + 1)))
_PENDING = 512  # kilobytes of new words that are not sorted into the index yet


def create_index(connection: RowsConnection, table: Table, generation: int) -> None:
    """Create the empty tables of an index; `finish_index` makes the GIN index.

    Args:
        connection: A connection with an open transaction.
        table: A table with `search`.
        generation: The number of a generation that has no index yet.
    """
    name = search_table(table.name, generation)
    connection.execute(
        f"CREATE TABLE {name} (id bigint PRIMARY KEY, length bigint NOT NULL,"
        ' words tsvector NOT NULL, terms text COLLATE "C")'
    )
    connection.execute(
        f"CREATE TABLE {search_totals(name)} (id bigint PRIMARY KEY, texts bigint, length bigint)"
    )


def finishing_statements(table: Table, generation: int) -> Sequence[str]:
    """Make the statements that index the words of a table that was filled.

    Args:
        table: A table with `search`.
        generation: The generation of its rows.

    Returns:
        The statements, which take long.
    """
    name = search_table(table.name, generation)
    return (
        f"CREATE INDEX {name}_by_words ON {name} USING gin (words)"
        f" WITH (gin_pending_list_limit = {_PENDING})",
        f"ANALYZE {name}",
    )


def tables_of_index(table: Table, generation: int) -> Sequence[str]:
    """List the names of the tables of an index.

    Args:
        table: A table with `search`.
        generation: The generation of its rows.

    Returns:
        The names.
    """
    name = search_table(table.name, generation)
    return name, search_totals(name)


def index_statements(
    index: str, gone: Mapping[Key, str], added: Mapping[Key, str]
) -> Iterator[Statement]:
    """Make the statements that change an index.

    Args:
        index: The name of the index's table.
        gone: The texts of deleted rows, by key.
        added: The texts of new rows, by key.

    Yields:
        The statements, and the parameters of their executions.
    """
    if gone:
        yield f"DELETE FROM {index} WHERE id = ?", list(gone)
    vectors = [(key[0], _vector(key[0], terms(text))) for key, text in sorted(added.items())]
    if vectors:
        rows: list[Row] = [(number, *vector) for number, vector in vectors]
        yield f"INSERT INTO {index} (id, length, words, terms) VALUES (?, ?, ?, ?)", rows
    if vectors or gone:
        words = sum(vector[0] for _, vector in vectors) - sum(
            len(terms(text)) for text in gone.values()
        )
        total = f"coalesce({search_totals(index)}"
        yield (
            f"INSERT INTO {search_totals(index)} (id, texts, length) VALUES (0, ?, ?)"
            f" ON CONFLICT (id) DO UPDATE SET texts = {total}.texts, 0) + excluded.texts,"
            f" length = {total}.length, 0) + excluded.length",
            [(len(vectors) - len(gone), words)],
        )


def _vector(row: object, found: list[str]) -> tuple[int, str, str | None]:
    """Make the length, the tsvector, and, where that lacks places, the words of a text in order."""
    if len(found) <= _REPEATS and max(map(len, found), default=0) <= LEXEME:
        return len(found), _short_vector(found), None
    places: dict[str, list[int]] = {}
    left = _BYTES
    whole = True
    for place, term in enumerate(found, 1):
        word = lexeme(term)
        of_word = places.get(word)
        if of_word is None:
            left -= 4 * len(word) + 8 if not word.isascii() else len(word) + 8
            if left < 0:
                _logger.warning(
                    "The text of the row %s of the search index has more different words than "
                    "PostgreSQL can index: a search finds its first %s words, and not the %s "
                    "after them.", row, f"{place - 1:,}", f"{len(found) - place + 1:,}",
                )  # fmt: skip
                del found[place - 1 :]
                break
            of_word = places[word] = []
        if place <= _PLACES and len(of_word) < _REPEATS and left > 0:
            of_word.append(place)
            left -= 2
        else:
            whole = False
    vector = " ".join(
        f"'{word}':{','.join(map(str, at))}" if at else f"'{word}'" for word, at in places.items()
    )
    ordered = None if whole else f" {' '.join(map(lexeme, found))} "
    return len(found), vector, ordered


def _short_vector(found: Sequence[str]) -> str:
    """Make the tsvector of a text that has no limit to fear."""
    places: dict[str, str] = {}
    for word, place in zip(found, _PLACE_TEXTS, strict=False):
        places[word] = f"{places[word]},{place}" if word in places else place
    return " ".join([f"'{word}':{at}" for word, at in places.items()])


def index_differences(
    connection: RowsConnection, table: Table, generations: Sequence[int]
) -> Iterator[tuple[str, dict[str, int] | None, dict[str, int] | None]]:
    """Compare two generations of an index, word by word.

    Args:
        connection: A connection on which both generations are read in one state.
        table: A table with `search`.
        generations: The numbers of the two generations.

    Yields:
        Words of the first text that differs, and what each index says about them; None if it does
        not have the word.
    """
    one, other = (search_table(table.name, number) for number in generations)
    row = connection.execute(
        f"SELECT id FROM {one} FULL JOIN {other} USING (id) WHERE ({one}.words, {one}.length,"
        f" {one}.terms) IS DISTINCT FROM ({other}.words, {other}.length, {other}.terms)"
        " ORDER BY id LIMIT 1"
    ).fetchone()
    if row is None:
        return
    [first, second] = (_words_of(connection, name, row) for name in (one, other))
    for word in sorted({*first, *second}):
        if first.get(word) != second.get(word):
            yield word, first.get(word), second.get(word)


def _words_of(connection: RowsConnection, name: str, row: Row) -> dict[str, dict[str, int]]:
    found = connection.execute(
        "SELECT lexeme, coalesce(cardinality(positions), 0), coalesce((SELECT sum(one) FROM"
        f" unnest(positions) AS one), 0) FROM {name}, unnest(words) WHERE id = ?",
        row,
    )
    return {
        word: {"row": int(str(row[0])), "occurrences": many, "places": places}
        for word, many, places in found.fetchall()
    }
