"""Records a model call of a framework whose hook tells the request only when the call is over.

If a captured client makes the call, the client knows the request before it is sent, and records it
with its retries. Otherwise, the whole call is recorded at its end.
"""

from __future__ import annotations

import time

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.instrumentation.frameworks.framework_session import FrameworkSession, ObservedAgent
from lllm.instrumentation.frameworks.observed_call import Biller, ClientSends, ObservedCall
from lllm.instrumentation.request_bodies import CapturedRequest
from lllm.sessions.session import SessionScope


class UnreadCall:
    """A model call in progress whose request is not known yet.

    Args:
        owner: The session that it belongs to.
        agent: The agent that makes it; None outside of agents.
    """

    def __init__(self, owner: FrameworkSession, agent: ObservedAgent | None) -> None:
        self._owner = owner
        self._agent = agent
        self._began = time.perf_counter_ns()
        self._lock = ThreadLock()
        self._call: ObservedCall | None = None
        self._is_over = False

    @property
    def session(self) -> SessionScope:
        """The session that it belongs to."""
        return self._owner.scope

    @property
    def is_over(self) -> bool:
        """True if the call has ended."""
        return self._is_over

    @property
    def is_waiting(self) -> bool:
        """True if the call is in progress, and no captured client has taken it over."""
        return self._call is None and not self._is_over

    def taken_by(self, sent: ClientSends) -> ObservedCall | None:
        """Let a captured client record the call; see ReportedCall."""
        with self._lock.held():
            if not self.is_waiting:
                return None
            self._call = call = self._owner.ask(
                sent.asked, sent.biller, api=sent.api, agent=self._agent, beginnings=sent.beginnings
            )
        return call.taken_by(sent)

    def end(self, asked: CapturedRequest, biller: Biller, *, api: str) -> ObservedCall:
        """End the wait: stage the request, unless a captured client has recorded the call.

        Args:
            asked: The request, as the hook tells it.
            biller: Who bills it.
            api: The format that the request is recorded in, such as "chat.completions".

        Returns:
            The call, whose answer or failure the hook tells next.
        """
        with self._lock.held():
            self._is_over = True
            if self._call is None:
                self._call = self._owner.ask_late(
                    asked, biller, api=api, agent=self._agent, began=self._began
                )
            return self._call
