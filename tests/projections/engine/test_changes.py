"""What a view says of its rows, in any order and over any number of batches, is what is stored."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from hypothesis import example, given, settings
from hypothesis import strategies as st

from lllm.events.backends.sqlite.database import Value
from lllm.projections.engine.row_changes import Changes
from lllm.projections.engine.sqlite.tables import create_tables
from lllm.projections.view import Key, Rows, Table

COUNTS = Table("counts", {"key": "INTEGER", "a": "INTEGER", "b": "INTEGER"}, key=("key",))
MARKS = Table("marks", {"one": "INTEGER", "other": "INTEGER"}, key=("one", "other"))


class Counting:
    """A view with a table of columns and one of keys alone; whoever has it says what changes."""

    name = "counting"
    version = 1
    types = ()
    tables = (COUNTS, MARKS)

    def apply(self, rows: Rows, batch: object) -> None:
        """See View."""


COLUMNS = st.dictionaries(st.sampled_from("ab"), st.integers(-3, 3), min_size=1)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["put", "add"]), st.integers(1, 2), COLUMNS),
    st.tuples(st.sampled_from(["get", "delete", "mark", "unmark", "marked"]), st.integers(1, 2)),
    st.tuples(st.sampled_from(["write", "forget"])),
)


class Remembered:
    """The same rows in a dict."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, int | None]] = {}
        self.marks: set[int] = set()

    def change(self, step: str, key: int, columns: dict[str, int]) -> None:
        """What one step does."""
        if step == "delete":
            self.rows.pop(key, None)
        elif step == "put":
            self.rows.setdefault(key, {"a": None, "b": None}).update(columns)
        elif step == "add":
            row = self.rows.setdefault(key, {"a": None, "b": None})
            row.update({name: (row[name] or 0) + delta for name, delta in columns.items()})
        elif step == "mark":
            self.marks.add(key)
        elif step == "unmark":
            self.marks.discard(key)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=14), st.booleans())
@example([("add", 1, {"a": 1}), ("put", 1, {"a": 2}), ("get", 1)], False)
@example(
    [("put", 1, {"a": 2}), ("add", 1, {"a": 1, "b": 1}), ("write",), ("add", 1, {"a": 1})], True
)
@example([("put", 1, {"a": 2}), ("get", 1), ("delete", 1), ("get", 1), ("add", 1, {"b": 1})], False)
@example(
    [("put", 1, {"a": 2}), ("forget",), ("delete", 1), ("put", 1, {"b": 1}), ("get", 1)], False
)
@example([("get", 1), ("write",), ("add", 1, {"a": 1}), ("get", 1), ("put", 1, {"a": 5})], False)
def test_any_changes(steps: list[tuple], empty: bool) -> None:  # type: ignore[type-arg] # several
    """`get` sees every change so far, and what is written in the end is all of them: put, add and
    delete of the same row in any order, within a batch and over its end; also where it is known
    that the table was empty."""
    view = Counting()
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        create_tables(connection, view, 1)  # type: ignore[arg-type] # applies nothing
        read = lambda _: iter(())  # noqa: E731
        changes = Changes({view: 1}, read, empty=empty)  # type: ignore[dict-item] # the same
        changes.connection = connection
        remembered = Remembered()
        for step, *rest in [*steps, ("write",)]:
            if step == "write":
                write(changes, connection)
                assert stored(connection) == (remembered.rows, remembered.marks)
            elif step == "forget":
                write(changes, connection)
                changes.forget()  # another process may have written meanwhile
                connection.execute("UPDATE counts_v1 SET a = 7")
                for row in remembered.rows.values():
                    row["a"] = 7
            else:
                key, columns = rest[0], rest[1] if len(rest) > 1 else {}
                told(changes, step, key, columns)
                remembered.change(step, key, columns)
                if step == "get":
                    assert changes.get("counts", (key,)) == remembered.rows.get(key)
                if step == "marked":
                    found = changes.get("marks", (key, key))
                    assert (found is not None) == (key in remembered.marks)


def told(changes: Changes, step: str, key: int, columns: dict[str, Value]) -> None:
    """Say what one step changes."""
    place: Key = (key, key)
    if step == "put":
        changes.put("counts", (key,), **columns)
    elif step == "add":
        changes.add("counts", (key,), **columns)  # type: ignore[arg-type] # all are numbers
    elif step == "delete":
        changes.delete("counts", (key,))
    elif step == "mark":
        changes.put("marks", place)
    elif step == "unmark":
        changes.delete("marks", place)


def write(changes: Changes, connection: sqlite3.Connection) -> None:
    """The end of a batch."""
    for sql, rows in changes.statements():
        connection.executemany(sql, rows)


def stored(connection: sqlite3.Connection) -> tuple[dict[int, dict[str, int | None]], set[int]]:
    """What stands in the tables."""
    counts = {key: {"a": a, "b": b} for key, a, b in connection.execute("SELECT * FROM counts_v1")}
    return counts, {one for one, _ in connection.execute("SELECT * FROM marks_v1")}
