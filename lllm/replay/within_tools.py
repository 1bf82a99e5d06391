"""Leaves out what ran within a tool whose result the recording gives.

Such a tool does not run again, so the agents, clients and sub-tactics that it called do not either.
They count as repeated, and the budget pays what they cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lllm.replay.child_matching import RecordedChildren
from lllm.replay.recorded_agents import RecordedCall
from lllm.replay.recorded_session import RecordedSession
from lllm.replay.replayed_clients import ReplayedClients
from lllm.sessions.budget import Budget

if TYPE_CHECKING:
    from lllm.replay.replay import Replay


class WithinTools:
    """The calls within the answered tools of one session of a replay.

    Args:
        replay: The replay that the session belongs to.
        children: The recorded child sessions that have not begun yet.
        clients: The calls of captured clients in the session.
    """

    def __init__(
        self, replay: Replay, children: RecordedChildren, clients: ReplayedClients
    ) -> None:
        self._replay = replay
        self._children = children
        self._clients = clients

    def has(self, call: RecordedCall) -> bool:
        """True if a recorded agent call ran within an answered tool.

        Args:
            call: The recorded agent call.
        """
        return self._replay.progress.has("within tool", call.position)

    def leave_out(self, recorded: RecordedSession, tool: int, budget: Budget) -> None:
        """Count everything within a tool as repeated, also within the tools that it led to.

        Args:
            recorded: The recorded session that called the tool.
            tool: The number of the tool call within the session.
            budget: The budget of the session, which pays the recorded cost.
        """
        waiting = [tool]
        while waiting:
            tool = waiting.pop()
            for child in recorded.children_in_tool.get(tool, ()):
                self._leave_out_session(child, budget)
            for client_call in recorded.clients_in_tool.get(tool, ()):
                self._clients.leave_out(client_call, budget)
            for call in recorded.calls_in_tool.get(tool, ()):
                if self.has(call):
                    continue
                self._replay.progress.note("within tool", call.position)
                for attempt in call.attempts.values():
                    waiting += [one.called.tool for one in attempt.tools]
                    if attempt.end is not None and attempt.end.price is not None:
                        budget.spend(attempt.end.price)

    def _leave_out_session(self, child: RecordedSession, budget: Budget) -> None:
        with self._replay.lock.held():
            found = self._children.take(child, "left out")
        if found:
            for price in child.prices():
                budget.spend(price)
