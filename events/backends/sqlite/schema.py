"""Defines the tables of an SQLite log, and creates them in a new file."""

from __future__ import annotations

# A file gets the format 2 with the first events that leave it for an archive: a version of lllm
# that knows only the format 1 would take these events for lost.
FORMAT = 2
NEW_FORMAT = 1
ARCHIVE_FORMAT = 2

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

# The digests of events that left the log for an archive: 32 bytes each, of all positions from
# `first` to `last`.
ARCHIVED_SCHEMA = (
    """CREATE TABLE archived_leaves (
        first INTEGER PRIMARY KEY,
        last INTEGER NOT NULL,
        digests BLOB NOT NULL
    )""",
    """CREATE TRIGGER archived_leaves_are_never_changed BEFORE UPDATE ON archived_leaves
       BEGIN SELECT RAISE(ABORT, 'digests of archived events are never changed'); END""",
    """CREATE TRIGGER archived_leaves_are_never_deleted BEFORE DELETE ON archived_leaves
       BEGIN SELECT RAISE(ABORT, 'digests of archived events are never deleted'); END""",
    """CREATE TRIGGER archived_leaves_are_never_replaced BEFORE INSERT ON archived_leaves
       WHEN EXISTS (SELECT 1 FROM archived_leaves WHERE first = NEW.first)
       BEGIN SELECT RAISE(ABORT, 'digests of archived events are never replaced'); END""",
)
