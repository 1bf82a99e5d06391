"""Stores the words of texts in SQLite's full-text search (FTS5).

The index is contentless (https://sqlite.org/fts5.html#contentless_tables): it stores words and
their places, but no texts, because the log has them. So a text can only be removed by passing the
same text again. Removed words stay in the file, with a mark that hides them, until the parts of the
index with the words and the mark are merged by `remove_deleted_words`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache
from itertools import zip_longest

from lllm.projections.database import Row, RowsConnection, RowsDatabase, Statement
from lllm.projections.table_names import search_table
from lllm.projections.view import Key, Table
from lllm.projections.words import indexed_text

# `words` has dropped case and accents already. Marks are parts of words in many scripts.
_TOKENIZER = "unicode61 remove_diacritics 2 categories ''L* N* M*''"
_CONTENT = ("data", "idx", "docsize")  # the suffixes of the tables in which FTS5 stores an index
# The settings automerge, crisismerge and hashsize (https://sqlite.org/fts5.html). While an index is
# filled, its parts are merged once at the end, and the words of a transaction make one part: with
# less memory for them (bytes), SQLite would write several. Else as FTS5 does it.
_SETTINGS = ("automerge", "crisismerge", "hashsize")
_FILLED, _USUAL = (0, 64, 16 << 20), (4, 16, 1 << 20)
_MERGED = 500  # pages of an index that are merged in one transaction, some 20 ms
_CHUNK = 2_000  # rows that are removed in one transaction, most of them a page of 4 kB
# in the table `data`, rows below this id describe the index, and the others are its pages
_KEPT = 10


@cache
def has_full_text_search() -> bool:
    """True if Python's SQLite has FTS5."""
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE trial USING fts5(text)")
        except sqlite3.OperationalError:
            return False
    return True


def create_index(connection: RowsConnection, table: Table, generation: int) -> None:
    """Create the empty index of one generation of a table.

    Args:
        connection: A connection with an open transaction.
        table: A table with `search`.
        generation: The number of a generation that has no index yet.
    """
    name = search_table(table.name, generation)
    connection.execute(
        f"CREATE VIRTUAL TABLE {name} USING fts5(text, content='', tokenize='{_TOKENIZER}')"
    )
    _set(connection, name, _FILLED)


def finish_index(database: RowsDatabase, table: Table, generation: int) -> None:
    """Merge the parts of an index that was just filled, and merge as usual from now on.

    Args:
        database: The database that has the index.
        table: A table with `search`.
        generation: The generation of its rows.

    Raises:
        LogError: It can't be written.
    """
    remove_deleted_words(database, table, generation)
    with database.write() as connection:
        assert connection is not None
        _set(connection, search_table(table.name, generation), _USUAL)


def _set(connection: RowsConnection, name: str, values: tuple[int, ...]) -> None:
    """Change the settings of an index; they are stored with it."""
    for setting, value in zip(_SETTINGS, values, strict=True):
        connection.execute(f"INSERT INTO {name} ({name}, rank) VALUES ('{setting}', ?)", (value,))


def drop_index(database: RowsDatabase, table: Table, generation: int) -> None:
    """Remove an index in chunks, so that no other writer waits long.

    Args:
        database: The database of the rows.
        table: A table with `search`.
        generation: The number of the generation.

    Raises:
        LogError: The index can't be removed.
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


def index_statements(
    index: str, gone: Mapping[Key, str], added: Mapping[Key, str]
) -> Iterator[Statement]:
    """Make the statements that change an index.

    Removals come first. So if a row is deleted and put again in one batch, the index has its new
    words.

    Args:
        index: The name of the index's table.
        gone: The texts of deleted rows, by key.
        added: The texts of new rows, by key.

    Yields:
        The statements, and the parameters of their executions.
    """
    if gone:
        rows: list[Row] = [(key[0], indexed_text(text)) for key, text in gone.items()]
        yield f"INSERT INTO {index} ({index}, rowid, text) VALUES ('delete', ?, ?)", rows
    if added:
        rows = [(key[0], indexed_text(text)) for key, text in sorted(added.items())]
        yield f"INSERT INTO {index} (rowid, text) VALUES (?, ?)", rows


def remove_deleted_words(database: RowsDatabase, table: Table, generation: int) -> None:
    """Remove words from the file that were removed from an index but are still stored.

    The index is merged into one part, in short transactions, which takes a while for a large one.
    Freed pages of the file and the write-ahead log may still have the words until SQLite overwrites
    the pages (secure_delete) and empties the log.

    Args:
        database: The database of the rows.
        table: A table with `search`.
        generation: The number of the generation.

    Raises:
        LogError: The index can't be written.
    """
    name = search_table(table.name, generation)
    pages = -_MERGED  # less than nothing: all parts are meant, however few they are
    while True:
        with database.write() as connection:
            assert isinstance(connection, sqlite3.Connection)
            before = connection.total_changes
            connection.execute(f"INSERT INTO {name} ({name}, rank) VALUES ('merge', ?)", (pages,))
            if connection.total_changes - before < 2:  # https://sqlite.org/fts5.html#merge
                return
        pages = _MERGED


def index_differences(
    connection: RowsConnection, table: Table, generations: Sequence[int]
) -> Iterator[tuple[str, dict[str, int] | None, dict[str, int] | None]]:
    """Compare two generations of an index, word by word.

    Args:
        connection: A connection on which both generations are read in one state.
        table: A table with `search`.
        generations: The numbers of the two generations.

    Yields:
        Each word that differs, and what each index says about it; None if it does not have the
        word.
    """
    for number, generation in enumerate(generations):
        connection.execute(f"DROP TABLE IF EXISTS temp.words_of_{number}")
        connection.execute(
            f"CREATE VIRTUAL TABLE temp.words_of_{number} USING "
            f"fts5vocab(main, '{search_table(table.name, generation)}', instance)"
        )
    # Words come in order. The sums differ if a word is in another text, or at another place in it.
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
