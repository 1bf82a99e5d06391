"""The interfaces of the place where sessions are written, and of a session's parent."""

from __future__ import annotations

from typing import Protocol

import msgspec

from lllm.events.buffered import BufferedLog
from lllm.events.model import Ancestor
from lllm.events.recorder import Definitions, Recorder
from lllm.events.redaction.redact import Redact
from lllm.pricing.user_prices import PriceTable
from lllm.projections.session.call_session import TacticCallSession
from lllm.replay.active import Replaying
from lllm.sessions.budget import Budget


class SessionHost(Protocol):
    """Where sessions are written: a store, or memory for a call without a store."""

    @property
    def log(self) -> BufferedLog:
        """Takes the events of all sessions."""

    @property
    def definitions(self) -> Definitions:
        """The definitions of agents that this log is known to have."""

    @property
    def redact(self) -> Redact | None:
        """Filters every payload before it is written; None for lllm's own rules alone."""

    @property
    def prices(self) -> PriceTable | None:
        """The user's own prices of models."""

    @property
    def partition(self) -> str:
        """The partition of sessions that name none."""

    @property
    def spans_processes(self) -> bool:
        """True if another process can write here too, so that this can be pickled."""

    @property
    def persists(self) -> bool:
        """True if what is written can be read again."""

    def owner(self) -> str:
        """The name of the lock that this process holds while it lives; "" where there is none."""

    def session_ended(self) -> None:
        """Have lists and sums follow a root session whose events are durable.

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
        """Where it is written; None where this process can't write there."""

    @property
    def lineage(self) -> tuple[Ancestor, ...]:
        """The ancestors of its children, root first."""

    @property
    def budget(self) -> Budget:
        """Pays for what its children spend."""

    @property
    def replaying(self) -> Replaying | None:
        """What it is answered by, where it is replayed."""

    def next_child(self) -> int | None:
        """The number of its next child; None where that can't be counted."""


class CarriedParent(msgspec.Struct, frozen=True):
    """A parent session that runs in another process."""

    host: SessionHost | None
    lineage: tuple[Ancestor, ...]
    budget: Budget

    @property
    def replaying(self) -> None:
        """See Parent: a replay does not leave its process."""

    def next_child(self) -> int | None:
        """None: children in several processes have no order of their own."""
        return None
