"""An erasure of a session that the log never had, and a return from an archive that it was not in.

A log that was forged or damaged can have them. The rows are those of the other sessions then.
"""

from __future__ import annotations

import pytest

from lllm import LogStore, SQLiteBackend
from lllm.events import codec
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.model import (
    Event,
    SessionErased,
    SessionRestored,
    SessionStarted,
    SessionSucceeded,
)

SALT = b"\x01" * 32


def event(stream: str, seq: int, payload: Event) -> NewEvent:
    return seal(SALT, stream, seq, 5, payload.type, payload.version, codec.encode(payload))


def started(path: str) -> SessionStarted:
    return SessionStarted(tactic_path=path, name="b", salt=SALT)


def erased(about: str, position: int) -> SessionErased:
    """An erasure that says that the session began at a position."""
    return SessionErased(
        about=about, by="ada", reason="asked", events=1, tactic_path="a::b", name="b",
        state="success", started=3, positions=((position, position),), salt=SALT,
    )  # fmt: skip


END = SessionSucceeded(elapsed=1)
LOGS = {
    "at no place": [event("a", 1, started("a::b")), event("x", 1, erased("c", 0))],
    "in the future": [event("a", 1, started("a::b")), event("x", 1, erased("c", 9))],
    "at another's place": [event("a", 1, started("a::b")), event("x", 1, erased("c", 1))],
    "without an id": [event("a", 1, started("a::b")), event("x", 1, erased("", 0))],
    "and it begins": [
        event("a", 1, started("a::b")), event("x", 1, erased("c", 0)),
        event("c", 1, started("a::b")),
    ],
    "not archived": [
        event("a", 1, started("a::b")), event("b", 1, started("a::b")),
        event("x", 1, SessionRestored(about="a", salt=SALT)),
        event("a", 2, END),
    ],
}  # fmt: skip


@pytest.mark.parametrize("batch", [1, 2, 10])
@pytest.mark.parametrize("name", LOGS)
def test_a_place_that_can_not_be(name: str, batch: int) -> None:
    """Lists go on, a rebuild gives the same rows, and only sessions that began are listed."""
    events = LOGS[name]
    with LogStore(SQLiteBackend(":memory:")) as store:
        for first in range(0, len(events), batch):
            store.log.append(events[first : first + batch])
            listed = store.list_sessions()
        assert store.rebuild(check=True).difference is None
        began = {one.stream for one in events if one.type == SessionStarted.type}
        assert {one.session_id for one in listed} <= began
        assert name == "not archived" or {one.session_id for one in listed} == began
