"""Notes about each stream of a source, kept while it is checked and copied.

The notes are in a temporary database, which SQLite moves to a file when it grows, and those on
recent streams are in memory. So memory use does not grow with the number of sessions.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterator

import msgspec

_LATELY = 2_000  # streams kept in memory
_SCHEMA = (
    "CREATE TABLE streams (stream BLOB PRIMARY KEY, root BLOB, awaits INTEGER, is_open INTEGER,"
    " note BLOB) WITHOUT ROWID",
    "CREATE TABLE refused (root BLOB PRIMARY KEY, place INTEGER, why TEXT) WITHOUT ROWID",
)


class StreamNote(msgspec.Struct, array_like=True, gc=False):
    """A note about one stream.

    Attributes:
        root: The id of the topmost session of its tree; an error refuses the whole tree.
        salt: The salt of its digests.
        seq: The seq of its last event so far, in the source or in the store.
        time: The time of that event, nanoseconds UTC.
        digests: The digests of its events so far, in the source and in the store, by their seq.
        known: The number of its events, from the first on, that the store has.
        place: The place in the source where it begins; events before that are not copied.
        is_open: True if it is a session without an end so far.
        owner: The lock of the process that writes it.
        host: The host on which that lock can be tested.
        needs: The ids of the sessions that must exist before it: its ancestors, or the session that
            a statement is about.
        awaits: True if some of these do not exist yet.
    """

    root: str
    salt: bytes = b""
    seq: int = 0
    time: int = 0
    digests: dict[int, bytes] = {}
    known: int = 0
    place: int = 0
    is_open: bool = False
    owner: str = ""
    host: str = ""
    needs: tuple[str, ...] = ()
    awaits: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """The reason why a session is not imported, nor its ancestors and descendants.

    Attributes:
        root: The id of the topmost session, or the name of another stream.
        place: The line or position of the error.
        why: A sentence for people.
    """

    root: str
    place: int
    why: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StreamNote)


class StreamNotes:
    """The notes about all streams of one source."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in _SCHEMA:
            self._database.execute(statement)
        self._database.execute("BEGIN")
        self._lately: OrderedDict[str, StreamNote] = OrderedDict()

    def get(self, stream: str) -> StreamNote | None:
        """Get the note on a stream; changes to it count until the next call.

        Args:
            stream: The name of the stream.

        Returns:
            The note; None if the source has had no event of the stream.
        """
        note = self._lately.get(stream)
        if note is not None:
            self._lately.move_to_end(stream)
            return note
        found = self._database.execute(
            "SELECT note FROM streams WHERE stream = ?", (_key(stream),)
        ).fetchone()
        return None if found is None else self._keep(stream, _decoder.decode(found[0]))

    def add(self, stream: str, note: StreamNote) -> StreamNote:
        """Add a note on a new stream of the source.

        Args:
            stream: The name of the stream.
            note: The note to keep.

        Returns:
            The same note.
        """
        return self._keep(stream, note)

    def _keep(self, stream: str, note: StreamNote) -> StreamNote:
        self._lately[stream] = note
        if len(self._lately) > _LATELY:
            self._write(*self._lately.popitem(last=False))
        return note

    def _write(self, stream: str, note: StreamNote) -> None:
        self._database.execute(
            "REPLACE INTO streams VALUES (?, ?, ?, ?, ?)",
            (_key(stream), _key(note.root), note.awaits, note.is_open, _encoder.encode(note)),
        )

    def write_all(self) -> None:
        """Write the notes in memory to the database, for `verdict` and `open_sessions`."""
        while self._lately:
            self._write(*self._lately.popitem())

    def refuse(self, root: str, place: int, why: str) -> None:
        """Refuse a tree of sessions, or another stream; only the first reason is kept."""
        self._database.execute(
            "INSERT OR IGNORE INTO refused VALUES (?, ?, ?)", (_key(root), place, _key(why))
        )

    def refusals(self) -> list[Refusal]:
        """List all refusals, in the order of the source."""
        rows = self._database.execute("SELECT root, place, why FROM refused ORDER BY place")
        return [Refusal(_name(root), place, _name(why)) for root, place, why in rows]

    def some_await(self) -> bool:
        """True if streams were left for another round; call `write_all` first."""
        return bool(self._database.execute("SELECT 1 FROM streams WHERE awaits LIMIT 1").fetchone())

    def verdict(self, stream: str) -> tuple[int, int] | None:
        """Find out which part of a stream to copy; call `write_all` first.

        Args:
            stream: The name of the stream.

        Returns:
            The seq after which, and the place in the source from which on, its events are copied;
            None if none of them is.
        """
        found = self._database.execute(
            "SELECT note, EXISTS (SELECT 1 FROM refused AS r WHERE r.root IN (s.root, s.stream))"
            " FROM streams AS s WHERE s.stream = ? AND NOT s.awaits",
            (_key(stream),),
        ).fetchone()
        if found is None or found[1]:
            return None
        note = _decoder.decode(found[0])
        return note.known, note.place

    def open_sessions(self) -> Iterator[tuple[str, StreamNote]]:
        """List the sessions without an end; call `write_all` first."""
        rows = self._database.execute("SELECT stream, note FROM streams WHERE is_open")
        for stream, note in rows:
            yield _name(stream), _decoder.decode(note)

    def close(self) -> None:
        """Delete the notes."""
        self._database.close()


def _key(text: str) -> bytes:
    """Encode a name, which may have lone surrogates that UTF-8 can't express."""
    return text.encode("utf-8", "surrogatepass")


def _name(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")
