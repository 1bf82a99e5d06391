"""How the sessions of dead writers ended: as the rows have it, and as the log does."""

from __future__ import annotations

from lllm import LogStore
from tests.survival.places import rows_of

_ENDS = {"session.succeeded": "success", "session.failed": "failure"}


def states(store: LogStore) -> dict[object, object]:
    """The state of each session, those below others too, as the rows have it."""
    return {row[0]: row[1] for row in rows_of(store).query("SELECT id, state FROM sessions")}


def ended(store: LogStore) -> dict[object, object]:
    """The same as the log has it: what has no end was interrupted."""
    found: dict[object, object] = {}
    for event in store.backend.read():
        if event.type == "session.started":
            found[event.stream] = "interrupted"
        elif event.type in _ENDS:
            found[event.stream] = _ENDS[event.type]
    return found
