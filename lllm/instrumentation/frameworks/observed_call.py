"""Records a model call that a framework's hook reports.

A hook sees less than a captured client: the SDK's own retries are hidden from it. So if the call
goes through a captured client, the client takes the call over, and the hook adds nothing to it.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Protocol

import msgspec

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import InvokeError
from lllm.events.model import AgentDefined, Content, LLMRequested, Price
from lllm.events.values.json_values import to_plain
from lllm.instrumentation.conversations import conversations_of
from lllm.instrumentation.request_bodies import CapturedRequest
from lllm.invokers import Answer
from lllm.invokers.secret_params import without_secrets
from lllm.pricing.request_media import sent_in
from lllm.replay.divergence import ReplayDivergence, ReplayPlace
from lllm.sessions.attempt import Attempt
from lllm.sessions.session import SessionScope

_ENDED = "The session ended before the call did."
_EXIT = "The program ended before the call did."
_CANCELLED = "It ended before its usage was known."

# The calls that a hook has reported in this context, and that have no answer yet.
observed: ContextVar[tuple[ReportedCall, ...]] = ContextVar("lllm_observed_calls", default=())


class Biller(msgspec.Struct, frozen=True):
    """Who bills a model call, and where it is sent.

    Attributes:
        provider: The provider, by its name in genai-prices; or the host, if nobody knows it.
        host: The host that the request is sent to; None if the hook does not tell.
        port: The port of the host; None for the default port.
    """

    provider: str
    host: str | None = None
    port: int | None = None


class Asking(msgspec.Struct, frozen=True):
    """The agent and the step that a model call belongs to.

    Attributes:
        agent: The name of the agent; "" if no agent makes the call.
        call: The number of the agent call within the session; None if no agent makes the call.
        step: The number of the model's turn within the agent call, from 1.
    """

    agent: str
    call: int | None
    step: int


class ClientSends(msgspec.Struct, frozen=True):
    """A request that a captured client is about to send.

    Attributes:
        asked: The request, without the messages that `beginnings` covers.
        beginnings: The digests of the messages before; see `Conversations.going_on`.
        biller: Who bills it.
        api: The format of the request, such as "chat.completions".
    """

    asked: CapturedRequest
    beginnings: list[bytes]
    biller: Biller
    api: str


class ReportedCall(Protocol):
    """A model call that a hook has reported."""

    @property
    def session(self) -> SessionScope:
        """The session that it belongs to."""

    @property
    def is_over(self) -> bool:
        """True if the call has ended."""

    @property
    def is_waiting(self) -> bool:
        """True if the call is in progress, and no captured client has taken it over."""

    def taken_by(self, sent: ClientSends) -> ObservedCall | None:
        """Let a captured client record the call.

        Args:
            sent: What the client is about to send.

        Returns:
            The call, which the client has to record from now on; None if that was done already, or
            if the call is over.
        """


class ObservedCall:
    """One call of a model, from the moment that a hook reports it.

    Args:
        session: The session that it belongs to.
        asked: The request.
        biller: Who bills it.
        api: The format that its request is recorded in, such as "chat.completions".
        beginnings: The digests of the messages before those of `asked`; None if there are none.
        operation: The kind of call, such as "embeddings".

    Attributes:
        session: The session that it belongs to.
        dialog: The conversation that it continues.
        request: The number of its first attempt within the session.
        asking: The agent that makes it, and its step; set by `begin`.
        last_request: The number of its last attempt, which a captured client may have made.
        message: The number of the message that answers it; None while there is none.
    """

    def __init__(
        self,
        session: SessionScope,
        asked: CapturedRequest,
        biller: Biller,
        *,
        api: str,
        beginnings: list[bytes] | None = None,
        operation: str = "chat",
    ) -> None:
        self.session = session
        self.asking = Asking("", None, 0)
        self._asked = asked
        self._biller = biller
        self._api = api
        self._operation = operation
        self._recorder = session.recorder
        self._conversations = conversations_of(session.recorder)
        self.dialog = self._conversations.going_on(asked.contents, beginnings)
        self.request = self.last_request = self._recorder.ordinal("request")
        self.message: int | None = None
        self._attempt: Attempt | None = None
        self._ending = ThreadLock()
        self._is_over = False
        self._is_taken = False

    @property
    def model(self) -> str:
        """The requested model."""
        return self._asked.model

    @property
    def is_over(self) -> bool:
        """True if the call has ended."""
        return self._is_over

    @property
    def is_waiting(self) -> bool:
        """True if the call is in progress, and no captured client has taken it over."""
        return not (self._is_over or self._is_taken)

    def define(self, agent: str) -> str:
        """Write the definition of the agent that asks, once for each log.

        Args:
            agent: The name of the agent; "" for none.

        Returns:
            The stream of the definition.
        """
        system = "\n\n".join(one.text for one in self._asked.contents if one.role == "system")
        return self._recorder.define(
            AgentDefined(
                name=agent,
                system=system,
                provider=self._biller.provider,
                model=self._asked.model,
                params=to_plain(without_secrets(self._asked.lasting)) or None,
                tools=self._asked.tools,
            )
        )

    def begin(self, asking: Asking, definition: str | None, *, began: int | None = None) -> None:
        """Stage the event of the attempt.

        Args:
            asking: The agent that makes the call, and its step.
            definition: The stream of the agent's definition; None if there is nothing to define.
            began: When the call began, as `time.perf_counter_ns` counts; None for now.
        """
        asked, biller = self._asked, self._biller
        self.asking = asking
        params = to_plain(without_secrets(asked.params)) if asked.params else None
        sent = sent_in(asked.contents, asked.params)
        self._recorder.stage(
            LLMRequested(
                request=self.request,
                call=asking.call,
                step=asking.step,
                attempt=1,
                operation=self._operation,
                provider=biller.provider,
                api=self._api,
                host=biller.host,
                port=biller.port,
                model=asked.model,
                dialog=self.dialog.number,
                upto=self.dialog.last_ordinal,
                definition=definition,
                params=params,
                stream=asked.stream,
                service_tier=sent.tier,
                media=sent.media,
                digest=self.dialog.digest(
                    self._recorder.salt, asked=[asked.model, definition, params]
                ),
            )
        )
        self._attempt = Attempt(
            request=self.request, agent=asking.agent, provider=biller.provider, asked=asked.model,
            began=began or time.perf_counter_ns(), prices=self.session.host.prices,
            host=biller.host, port=biller.port, sent=sent,
        )  # fmt: skip
        self.session.calls.add(self)

    def taken_by(self, sent: ClientSends) -> ObservedCall | None:  # noqa: ARG002 - it is known
        """Let a captured client record the call; see ReportedCall."""
        with self._ending.held():
            if self._is_taken or self._is_over:
                return None
            self._is_taken = True
            self._attempt = None
        self.session.calls.remove(self)
        return self

    def answered(self, answer: Answer) -> int | None:
        """Stage the answer.

        Args:
            answer: The model's answer.

        Returns:
            The number of the message that holds it; None if the call has ended already, or if a
            captured client records it.

        Raises:
            ReplayDivergence: The session is replayed, so the model should not have been called.
        """
        attempt = self._end()
        if attempt is None:
            return None
        if self.session.replaying is not None:
            raise ReplayDivergence(
                f"The replay called {self._asked.model}, because no captured client makes this "
                "call. Give its client to lllm.capture, and record the run again.",
                kind="unrecorded",
                place=ReplayPlace(step=self.asking.step),
            )
        responded = attempt.responded(answer, message=self._recorder.ordinal("message"))
        self._conversations.answered(self.dialog, responded.message, answer.content)
        self._recorder.stage(self.session.unbilled(responded))
        self.session.budget.charge(responded)
        self.message = responded.message
        return responded.message

    def failed(
        self, error: BaseException, partial: Content | None = None, *, status: int | None = None
    ) -> None:
        """Stage the failure; does nothing if the call has ended, or a captured client has it.

        Args:
            error: The error that the framework reports.
            partial: The part of the answer that had arrived; None if none had.
            status: The HTTP status, if the error does not tell it as an SDK's does; it decides
                whether the provider bills the attempt.
        """
        self._fail(error, partial, cancelled=False, status=status)

    def _fail(
        self,
        error: BaseException,
        partial: Content | None,
        *,
        cancelled: bool,
        status: int | None = None,
    ) -> None:
        attempt = self._end()
        if attempt is None:
            return
        failed = attempt.failed(error)
        if status is not None and (failed.price is None or failed.price.status == "unpriced"):
            refused = InvokeError(str(error), retryable=False, status=status)
            failed = msgspec.structs.replace(failed, price=attempt.failed(refused).price)
        if cancelled or failed.cancelled:
            price = Price("unpriced", reason=_CANCELLED)
            failed = msgspec.structs.replace(failed, cancelled=True, price=price)
        if partial is not None:
            failed = msgspec.structs.replace(failed, partial=partial)
        self._recorder.stage(self.session.unbilled(failed))
        self.session.budget.charge(failed)

    def _end(self) -> Attempt | None:
        """End the call; None if that was done already, or if a captured client records it."""
        with self._ending.held():
            attempt, self._attempt = self._attempt, None
            ended, self._is_over = self._is_over, True
        if not ended:
            self.session.calls.remove(self)
            self._conversations.left(self.dialog)
        return attempt

    def settle(self, why: str = _ENDED) -> None:
        """Stage the end of the call when its session ends first; see OpenCall."""
        self.settle_with(why, None)

    def settle_with(self, why: str, partial: Content | None) -> None:
        """Stage the end of a call whose answer nobody waits for any more.

        Args:
            why: The reason to record.
            partial: The part of the answer that had arrived; None if none had.
        """
        self._fail(InvokeError(why, retryable=False), partial, cancelled=True)

    def settle_at_exit(self) -> None:
        """Record the end of the call when the program exits; see OpenCall."""
        if not self._recorder.in_child and not self._is_over:
            self.settle(_EXIT)
            self._recorder.commit()


def taken_call(session: SessionScope, sent: ClientSends) -> ObservedCall | None:
    """Find the call that a hook has reported and a captured client now makes.

    Args:
        session: The session of the captured call.
        sent: What the client is about to send.

    Returns:
        The call, which the client has to record from now on; None if no hook has reported it.
    """
    for call in observed.get():
        if call.session is session and (taken := call.taken_by(sent)) is not None:
            return taken
    return None
