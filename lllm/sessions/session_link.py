"""Continues a session in another process, or on another machine with the same store."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lllm.events.errors import ConfigError
from lllm.sessions.budget import Budget, OnUnpriced, budget_of
from lllm.sessions.current_session import running_session
from lllm.sessions.host import CarriedParent, SessionHost
from lllm.sessions.new_session import short_name
from lllm.sessions.session import SessionScope


class SessionLink(msgspec.Struct, frozen=True):
    """A session that others can be begun below, in any process; it can be pickled.

    `store.link()` makes one. Sessions of the link are children of the linked session: its total
    cost includes them, and its tags are found for them. They may begin and end after it.
    """

    parent: CarriedParent
    """What is known of the linked session."""

    @property
    def session_id(self) -> str:
        """The id of the linked session."""
        return self.parent.lineage[-1].session_id

    def session(
        self,
        name: str,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        task: object = None,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced = "warn",
    ) -> SessionScope:
        """Record a block of code as a child of the linked session: `with link.session("a::work"):`.

        Args:
            name: The stable path of the session; the part after the last `::` is its short name.
            tags: Names and values (both str) by which the session can be found in lists.
            metadata: Any value to keep with the session.
            task: The input of the session. Record its result with `recorder.deliver(value)`.
            budget_usd: The most that all model calls inside the session may cost together, in US
                dollars; None for no limit but what was left in the linked session's budget when
                the link was pickled.
            budget_unpriced: What to do under a budget when the cost of a call is unknown: "warn"
                once, or "stop" before the next call of a model.

        Returns:
            The session; it begins when the `with` block is entered.

        Raises:
            TypeError: Tags are not str -> str.
            ValueError: The name is empty.
            ConfigError: The budget is invalid.
        """
        budget = budget_of(budget_usd, budget_unpriced)
        budget.above = self.parent.budget
        host = self.parent.host
        assert host is not None  # link_of refuses other sessions
        return SessionScope(
            host, name, short_name(name), kind="session", task=task, tags=tags, metadata=metadata,
            parent=self.parent, budget=budget,
        )  # fmt: skip


def link_of(host: SessionHost) -> SessionLink:
    """Make a link to the current session.

    Args:
        host: The place where the session has to be written.

    Returns:
        The link.

    Raises:
        ConfigError: No session is current, it is written elsewhere, or other processes can't write
            where it is written.
    """
    above = running_session()
    if above is None:
        raise ConfigError(
            "There is no current session to link to. Call link() inside `with store.session(...)` "
            "or a tactic."
        )
    if above.host is not host:
        raise ConfigError(
            f"The current session {above.recorder.tactic_path!r} is written to another store. "
            "Call link() of that store."
        )
    if not host.spans_processes:
        raise ConfigError(
            "Other processes can't write to this store, because it is in memory. Use a store on a "
            "disk or in PostgreSQL."
        )
    return SessionLink(CarriedParent(host, above.lineage, Budget(above=above.budget)))
