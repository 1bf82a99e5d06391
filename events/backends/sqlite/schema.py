"""Defines the tables of an SQLite log, and creates them in a new file."""

from __future__ import annotations

FORMAT = 1

# `data` is the last column: a scan that skips an event by its type then never reads the overflow
# pages of its payload.
# INSERT OR REPLACE deletes a row without running the trigger for DELETE, unless the connection set
# `recursive_triggers` (https://sqlite.org/lang_conflict.html). So a trigger checks each INSERT. In
# an INSERT that leaves the position to SQLite, NEW.position is -1 there
# (https://sqlite.org/lang_createtrigger.html): nothing is looked up then, since that would read the
# first page of the table, and fail where this page is damaged.
SCHEMA = (
    """CREATE TABLE events (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        stream TEXT NOT NULL,
        seq INTEGER NOT NULL,
        time INTEGER NOT NULL,
        type TEXT NOT NULL,
        version INTEGER NOT NULL,
        digest BLOB NOT NULL,
        data TEXT NOT NULL,
        UNIQUE (stream, seq)
    )""",
    """CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
       BEGIN SELECT RAISE(ABORT, 'events are never changed'); END""",
    """CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
       BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END""",
    """CREATE TRIGGER events_are_never_replaced BEFORE INSERT ON events
       WHEN (NEW.position > 0
             AND EXISTS (SELECT 1 FROM events WHERE position = NEW.position))
         OR EXISTS (SELECT 1 FROM events WHERE stream = NEW.stream AND seq = NEW.seq)
       BEGIN SELECT RAISE(ABORT, 'events are never replaced'); END""",
)
