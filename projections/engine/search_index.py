"""Keeps the words of a table's texts in SQLite's full-text search (FTS5).

The index is contentless (https://sqlite.org/fts5.html#contentless_tables): it holds words and
where they stand, and no text, since that stands in the log. So a text can only be taken out by
whoever still knows it. What was taken out stays in the file beside a mark that hides it until
the parts of the index that hold both are merged, which `remove_deleted_words` does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cache
from itertools import zip_longest

from lllm.events.backends.sqlite.database import Database
from lllm.projections.table_names import search_table
from lllm.projections.view import Table

# `words` has dropped case and accents already. Marks are parts of words in many scripts.
_TOKENIZER = "unicode61 remove_diacritics 2 categories ''L* N* M*''"
_CONTENT = ("data", "idx", "docsize")  # what an index keeps its content in
_MERGED = 500  # pages of an index that are merged in one transaction, some 20 ms
_CHUNK = 2_000  # rows that are removed in one transaction, most of them a page of 4 kB
_KEPT = 10  # of the table `data`: records below describe the index, the others are its pages


@cache
def has_full_text_search() -> bool:
    """True if this Python's SQLite has FTS5."""
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE trial USING fts5(text)")
        except sqlite3.OperationalError:
            return False
    return True


def create_index(connection: sqlite3.Connection, table: Table, generation: int) -> None:
    """Create the empty index of one generation of a table.

    Args:
        connection: In a transaction.
        table: A table with `search`.
        generation: One that has no index yet.
    """
    connection.execute(
        f"CREATE VIRTUAL TABLE {search_table(table.name, generation)} "
        f"USING fts5(text, content='', tokenize='{_TOKENIZER}')"
    )


def drop_index(database: Database, table: Table, generation: int) -> None:
    """Remove an index in chunks, so that no other writer waits long.

    Args:
        database: Where it is.
        table: A table with `search`.
        generation: The generation of its rows.

    Raises:
        LogError: It can't be removed.
    """
    name = search_table(table.name, generation)
    if not database.query("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)):
        return
    for part in _CONTENT:
        key = "segid, term" if part == "idx" else "id"
        rest = f"WHERE id > {_KEPT}" if part == "data" else ""
        chunk = f"SELECT {key} FROM {name}_{part} {rest} LIMIT {_CHUNK}"
        while database.query(chunk):
            with database.write() as connection:
                assert connection is not None
                connection.execute(f"DELETE FROM {name}_{part} WHERE ({key}) IN ({chunk})")
    with database.write() as connection:
        assert connection is not None
        connection.execute(f"DROP TABLE {name}")


def remove_deleted_words(database: Database, table: Table, generation: int) -> None:
    """Remove what is left in the file of words that were taken out of an index.

    The index is merged into one part, in short transactions; of a large one that takes a while. In
    a file, freed pages and the write-ahead log may still hold the words until SQLite overwrites
    them (secure_delete) and empties the log.

    Args:
        database: Where it is.
        table: A table with `search`.
        generation: The generation of its rows.

    Raises:
        LogError: It can't be written.
    """
    name = search_table(table.name, generation)
    pages = -_MERGED  # less than nothing: all parts are meant, however few they are
    while True:
        with database.write() as connection:
            assert connection is not None
            before = connection.total_changes
            connection.execute(f"INSERT INTO {name} ({name}, rank) VALUES ('merge', ?)", (pages,))
            if connection.total_changes - before < 2:  # https://sqlite.org/fts5.html#merge
                return
        pages = _MERGED


def index_differences(
    connection: sqlite3.Connection, table: Table, generations: Sequence[int]
) -> Iterator[tuple[str, dict[str, int] | None, dict[str, int] | None]]:
    """Compare two generations of an index, word by word.

    Args:
        connection: Reads both in one state.
        table: A table with `search`.
        generations: The two.

    Yields:
        Each word that differs, and what either says of it, None where it does not have it.
    """
    for number, generation in enumerate(generations):
        connection.execute(f"DROP TABLE IF EXISTS temp.words_of_{number}")
        connection.execute(
            f"CREATE VIRTUAL TABLE temp.words_of_{number} USING "
            f"fts5vocab(main, '{search_table(table.name, generation)}', instance)"
        )
    # Words come in their order. The sums differ where a word stands in another text, or elsewhere.
    columns = "count(*), sum(doc & 0xffffffff), sum((doc * 31 + offset) % 1000003)"
    words = [
        connection.execute(f"SELECT term, {columns} FROM temp.words_of_{number} GROUP BY term")
        for number in range(2)
    ]
    yield from _unequal(*words)


_Words = Iterator[tuple[str, int, int, int]]


def _unequal(
    one: _Words, other: _Words
) -> Iterator[tuple[str, dict[str, int] | None, dict[str, int] | None]]:
    for left, right in zip_longest(one, other):
        if left == right:
            continue
        first = min(row[0] for row in (left, right) if row is not None)
        yield (
            first,
            _counted(left) if left is not None and left[0] == first else None,
            _counted(right) if right is not None and right[0] == first else None,
        )


def _counted(row: tuple[str, int, int, int]) -> dict[str, int]:
    return {"occurrences": row[1], "rows": row[2], "places": row[3]}
