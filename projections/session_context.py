"""What every event of a session is seen with: its session, and the sessions above it."""

from __future__ import annotations

import msgspec


class SessionContext(msgspec.Struct, frozen=True, gc=False):
    """The facts about a session that are known from its first event.

    Attributes:
        number: The position of that event; it is the number of the session in all tables.
        session_id: The session's id.
        tactic_path: The stable path of the session's tactic, "package::name".
        partition: The partition of the store that the session belongs to; "" for the default one.
        started: The start of the session, nanoseconds UTC.
        parent: The parent session; None for a root, or if the parent is unknown.
        is_replay: True if the session replays another one. Lists, counts and sums leave replays out
            unless they are asked for.
    """

    number: int
    session_id: str
    tactic_path: str
    partition: str
    started: int
    parent: SessionContext | None = None
    is_replay: bool = False

    def chain(self) -> list[SessionContext]:
        """List this session and its ancestors, the root last."""
        above: list[SessionContext] = []
        session: SessionContext | None = self
        while session is not None:
            above.append(session)
            session = session.parent
        return above

    @property
    def root(self) -> SessionContext:
        """The root session above this one; a root itself."""
        return self.chain()[-1]

    @property
    def outermost(self) -> bool:
        """True if no ancestor is a call of the same tactic."""
        return all(above.tactic_path != self.tactic_path for above in self.chain()[1:])
