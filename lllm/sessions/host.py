"""Interfaces: the place where sessions are written, and the parent of a session."""

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
        """The agent definitions that the log is known to contain."""

    @property
    def redact(self) -> Redact | None:
        """The user's filter for payloads; None to use only lllm's own rules."""

    @property
    def prices(self) -> PriceTable | None:
        """The user's own prices of models."""

    @property
    def partition(self) -> str:
        """The partition of sessions that don't name one."""

    @property
    def spans_processes(self) -> bool:
        """True if other processes can write here, too, so that the host can be pickled."""

    @property
    def persists(self) -> bool:
        """True if written sessions can be read again."""

    def owner(self) -> str:
        """Get the name of the lock that this process holds while it lives; "" if there is none."""

    def session_ended(self) -> None:
        """Update lists and sums after the end of a root session.

        It may be called twice for a session after an interrupt.
        """

    def load_finished(self, recorder: Recorder) -> TacticCallSession:
        """Load the session that a recorder of this process has just ended.

        Args:
            recorder: The recorder that wrote the session.

        Returns:
            The session with its descendants, even if the log could not be written.
        """


class Parent(Protocol):
    """A session that other sessions are called from, in this process or in another."""

    @property
    def host(self) -> SessionHost | None:
        """The place where the session is written; None if this process can't write there."""

    @property
    def lineage(self) -> tuple[Ancestor, ...]:
        """The ancestors of the session's children, root first."""

    @property
    def budget(self) -> Budget:
        """The budget that the session's children are charged to, too."""

    @property
    def replaying(self) -> Replaying | None:
        """The replay that answers the session's requests; None if it is not replayed."""

    def next_child(self) -> int | None:
        """Get the number of the next child; None if children can't be counted."""


class CarriedParent(msgspec.Struct, frozen=True):
    """A parent session that runs in another process."""

    host: SessionHost | None
    lineage: tuple[Ancestor, ...]
    budget: Budget
    replaying: Replaying | None = None
    """The part of the replay that continues in that process; see Parent."""

    def next_child(self) -> int | None:
        """Return None, because children in several processes have no order; see Parent."""
        return None


def carried_parent(
    host: SessionHost | None,
    lineage: tuple[Ancestor, ...],
    budget: Budget,
    replaying: Replaying | None,
) -> CarriedParent:
    """Make the parent as which a pickled session arrives in another process.

    Args:
        host: The place where it is written; None if this process can't write there.
        lineage: The ancestors of its children, root first.
        budget: The budget that its children are charged to, too.
        replaying: The replay that answers its requests; None if it is not replayed.

    Returns:
        The parent for sessions in this process.
    """
    return CarriedParent(host if replaying is None else replaying.host, lineage, budget, replaying)
