"""The interfaces of the place where sessions are written, and of a session's parent."""

from __future__ import annotations

from typing import Protocol

import msgspec

from lllm.events.buffered import BufferedLog
from lllm.events.definitions import Definitions
from lllm.events.model import Ancestor
from lllm.events.recorder import Recorder
from lllm.events.redaction.redact import Redact
from lllm.pricing.user_prices import PriceTable
from lllm.projections.session.call_session import TacticCallSession
from lllm.replay.active_replay import Replaying
from lllm.sessions.budget import Budget


class SessionHost(Protocol):
    """The place where sessions are written: a store, or memory for a call without a store."""

    @property
    def log(self) -> BufferedLog:
        """The log for the events of all sessions."""

    @property
    def definitions(self) -> Definitions:
        """The agent definitions that the log is known to have."""

    @property
    def redact(self) -> Redact | None:
        """The user's filter for payloads; None for lllm's own rules alone."""

    @property
    def prices(self) -> PriceTable | None:
        """The user's own prices of models."""

    @property
    def partition(self) -> str:
        """The partition of sessions that don't name one."""

    @property
    def spans_processes(self) -> bool:
        """True if other processes can write here too, so that it can be pickled."""

    @property
    def persists(self) -> bool:
        """True if written sessions can be read again."""

    def owner(self) -> str:
        """The name of the lock that this process holds while it lives; "" if there is none."""

    def session_ended(self) -> None:
        """Update lists and sums after the end of a root session.

        An interrupt may have it called twice for a session.
        """

    def load_finished(self, recorder: Recorder) -> TacticCallSession:
        """Load the session that a recorder of this process has just ended.

        Args:
            recorder: The one that wrote it.

        Returns:
            The session with those below it, also where the log could not be written.
        """


class Parent(Protocol):
    """The session that calls another one, in this process or in another."""

    @property
    def host(self) -> SessionHost | None:
        """Where the session is written; None if this process can't write there."""

    @property
    def lineage(self) -> tuple[Ancestor, ...]:
        """The ancestors of the session's children, root first."""

    @property
    def budget(self) -> Budget:
        """The budget from which the session's children are paid."""

    @property
    def replaying(self) -> Replaying | None:
        """The replay that answers for this session, if it is replayed."""

    def next_child(self) -> int | None:
        """The number of the next child; None if children can't be counted."""


class CarriedParent(msgspec.Struct, frozen=True):
    """A parent session that runs in another process."""

    host: SessionHost | None
    lineage: tuple[Ancestor, ...]
    budget: Budget
    replaying: Replaying | None = None
    """See Parent; what goes on here of a replay in that process."""

    def next_child(self) -> int | None:
        """See Parent; None, because children in several processes have no order."""
        return None


def carried_parent(
    host: SessionHost | None,
    lineage: tuple[Ancestor, ...],
    budget: Budget,
    replaying: Replaying | None,
) -> CarriedParent:
    """What pickle makes of a session in another process.

    Args:
        host: Where it is written; None if this process can't write there.
        lineage: The ancestors of its children.
        budget: From which its children are paid.
        replaying: What answers it, if it is replayed.
    """
    return CarriedParent(host if replaying is None else replaying.host, lineage, budget, replaying)
