"""lllm itself, through the interface that its users have.

A session is written by its Recorder, one append for each moment as the runtime does it, each event
made from its values; when it ends, its rows in the indexes follow, as they do for users.
"""

import sqlite3
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events import codec
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.ids import new_id, new_salt
from lllm.events.model import (
    EVENTS,
    AgentDefined,
    AgentStarted,
    Event,
    SessionStarted,
    SessionSucceeded,
)
from lllm.events.recorder import Recorder
from lllm.store.log_store import session_host

_INSERT = (
    "INSERT INTO events (stream, seq, time, type, version, data, digest)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
Values = tuple[type[Event], dict[str, Any]]


class Worker:
    """Stores and logs that are written to, and others that are read."""

    def __init__(self, folder: Path, work: dict[str, Any]) -> None:
        self._written: dict[str, _Sessions] = {}
        for suffix, backend in (("", _database), (", files", LocalFileBackend)):
            for way in ("session", "session at once", "events"):
                store = LogStore(backend(folder / f"lllm-{way}{suffix}"))
                self._written[f"{way}{suffix}"] = _Sessions(store, work, way)
        self.operations: dict[str, Callable[[], Callable[[], object]]] = {
            name: sessions.prepare for name, sessions in self._written.items()
        }
        self.operations["bare"] = _Bare(folder / "bare.db", work).prepare
        for name, store in {
            "": LogStore(SQLiteBackend(folder / "lllm-read.db")),
            ", files": LogStore(LocalFileBackend(folder / "lllm-read")),
        }.items():
            searched = _Searched(_Sessions(store, work, "session"), work)
            self.operations[f"list{name}"] = searched.list
            self.operations[f"cost{name}"] = searched.cost
            self.operations[f"load{name}"] = searched.load
        self._log = _Log(SQLiteBackend(folder / "lllm-log.db"), work)
        self.operations |= {
            "append 1": lambda: self._log.append(1),
            "append 1,000": lambda: self._log.append(1_000),
            "append 1 object": lambda: self._log.record(1),
            "append 1,000 objects": lambda: self._log.record(1_000),
        }
        self._read = _Log(SQLiteBackend(folder / "lllm-scan.db"), work)
        self._read.record(work["scanned"])()
        self.operations["scan"] = lambda: self._read.scan

    def stored(self) -> dict[str, tuple[int, int]]:
        found = {name: sessions.stored() for name, sessions in self._written.items()}
        return found | {"append": self._log.stored()}


class _Sessions:
    """A store, and the session that is written to it again and again.

    way: "session", as users write one; "session at once", in one append at its end, as others
    save theirs; "events", as the runtime writes them, without the rows.
    """

    def __init__(self, store: LogStore, work: dict[str, Any], way: str) -> None:
        self.store = store
        self._way = way
        moments = [[_values(event) for event in moment] for moment in work["session"]]
        self._moments = moments[1:-1]
        self._started, self._ended = moments[0][0][1], moments[-1][-1][1]
        self._tactic, self._tags, self._users = work["tactic"], work["tags"], work["users"]
        self._definition = msgspec.convert(work["definition"], AgentDefined)
        self._numbers = count()
        self._given = 0

    def prepare(self) -> Callable[[], object]:
        return self._write_events if self._way == "events" else self.write

    def write(self) -> str:
        """Write it once more; returns its id."""
        self._given += 1
        tags = self._tags | {"user": f"user-{next(self._numbers) % self._users}"}
        task = self._started["task"]
        with self.store.session(self._tactic, tags=tags, task=task) as recorder:
            for moment in self._moments:
                self._stage(recorder, moment)
                if self._way == "session":
                    recorder.commit()
            recorder.deliver(self._ended["delivery"])
        return recorder.session_id

    def _write_events(self) -> None:
        self._given += 1
        recorder = Recorder(
            self.store.log, self._tactic, definitions=session_host(self.store).definitions
        )
        began = self._started | {"tags": self._tags, "salt": recorder.salt}
        moments: list[list[Values]] = [
            [(SessionStarted, began)],
            *self._moments,
            [(SessionSucceeded, self._ended)],
        ]
        for moment in moments:
            self._stage(recorder, moment)
            recorder.commit()

    def _stage(self, recorder: Recorder, moment: list[Values]) -> None:
        for kind, values in moment:
            if kind is AgentStarted:
                values = values | {"definition": recorder.define(self._definition)}
            recorder.stage(kind(**values))

    def stored(self) -> tuple[int, int]:
        found = self.store.list_sessions(state="success")
        whole = len({event.seq for event in self.store.events(found[-1].session_id)})
        if whole != sum(map(len, self._moments)) + 2:
            raise RuntimeError(f"a session has {whole} events")
        return len(found), self._given


class _Bare:
    """The limit: the transactions of a session, the same rows in the same table, by hand."""

    def __init__(self, path: Path, work: dict[str, Any]) -> None:
        SQLiteBackend(path).close()
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute("PRAGMA wal_autocheckpoint=0")
        self._moments = work["session"]

    def prepare(self) -> Callable[[], object]:
        stream, salt = new_id(), new_salt()
        seq = count(1)
        moments = [[self._row(stream, salt, next(seq), one) for one in m] for m in self._moments]
        return lambda: self._insert(moments)

    def _row(self, stream: str, salt: bytes, seq: int, one: dict[str, Any]) -> tuple[object, ...]:
        sealed = seal(salt, stream, seq, seq, one["type"], 1, codec.encode(one["fields"]))
        return (*msgspec.structs.astuple(sealed)[:5], sealed.data.decode(), sealed.digest)

    def _insert(self, moments: list[list[tuple[object, ...]]]) -> None:
        for rows in moments:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(_INSERT, rows)
            self._database.execute("COMMIT")


class _Searched:
    """A store of many sessions, which is filled before it is first read."""

    def __init__(self, sessions: _Sessions, work: dict[str, Any]) -> None:
        self._sessions = sessions
        self._number = work["sessions"]
        self._tags = {"env": work["tags"]["env"], "user": "user-7"}
        self._matching = len(range(7, self._number, work["users"]))
        self._last = ""

    def _store(self) -> LogStore:
        while not self._last:
            self._last = [self._sessions.write() for _ in range(self._number)][-1]
        return self._sessions.store

    def list(self) -> Callable[[], object]:
        store = self._store()
        found = len(store.list_sessions(tags=self._tags, limit=50))
        if found != self._matching:
            raise RuntimeError(f"{found} sessions were found, not {self._matching}")
        return lambda: store.list_sessions(tags=self._tags, limit=50)

    def cost(self) -> Callable[[], object]:
        return self._store().export_cost_summary

    def load(self) -> Callable[[], object]:
        store = self._store()
        return lambda: store.load_session(self._last)


class _Log:
    """A log without a store, and events that go on for ever in one stream."""

    def __init__(self, log: SQLiteBackend, work: dict[str, Any]) -> None:
        self._log = log
        self._events = [
            msgspec.convert(fields, EVENTS["message.added"]) for fields in work["messages"]
        ]
        self._stream, self._salt = new_id(), new_salt()
        self._seq = 0

    def append(self, number: int) -> Callable[[], object]:
        """Events as a log takes them."""
        events = [self._sealed(*one) for one in self._next(number)]
        return lambda: self._log.append(events)

    def record(self, number: int) -> Callable[[], object]:
        """Events as objects."""
        events = self._next(number)
        return lambda: self._log.append([self._sealed(*one) for one in events])

    def _next(self, number: int) -> list[tuple[int, Event]]:
        first = self._seq + 1
        self._seq += number
        return [(seq, self._events[seq % len(self._events)]) for seq in range(first, self._seq + 1)]

    def _sealed(self, seq: int, event: Event) -> NewEvent:
        data = codec.encode(event)
        return seal(self._salt, self._stream, seq, seq, event.type, event.version, data)

    def scan(self) -> None:
        found = sum(1 for _ in map(codec.decode, self._log.read()))
        if found != self._seq:
            raise RuntimeError(f"{found} of {self._seq} events were read")

    def stored(self) -> tuple[int, int]:
        return self._log.head(), self._seq


def _database(path: Path) -> SQLiteBackend:
    return SQLiteBackend(path.with_suffix(".db"))


def _values(happening: dict[str, Any]) -> Values:
    """An event's class, and its values as its maker has them at hand."""
    kind = EVENTS[happening["type"]]
    event = msgspec.convert(happening["fields"], kind)
    return kind, {name: getattr(event, name) for name in happening["fields"]}
