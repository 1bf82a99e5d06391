"""Records one call of a captured client: its session, and the events of its attempts.

An SDK retries by itself: each of its attempts is an event, and the error of the last one is the
call's. Nothing here waits or uses the network, so sync and async clients share it; they commit the
staged events themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import Concatenate, ParamSpec

import msgspec

from lllm.events.errors import InvokeError
from lllm.events.model import AgentDefined, LLMFailed, LLMRequested, LLMResponded, Price
from lllm.events.values.json_values import to_plain
from lllm.instrumentation.body_prefixes import Body
from lllm.instrumentation.client_endpoint import ClientEndpoint
from lllm.instrumentation.conversations import ConversationDigest, conversations_of
from lllm.instrumentation.frameworks.observed_call import (
    Biller,
    ClientSends,
    ObservedCall,
    taken_call,
)
from lllm.instrumentation.platform_urls import region_of
from lllm.instrumentation.recorded_endpoints import Operation
from lllm.instrumentation.replayed_requests import read_whole
from lllm.instrumentation.request_bodies import CapturedRequest
from lllm.instrumentation.streamed_answers import CLOSED, Head, StreamedAnswer
from lllm.invokers import Answer
from lllm.invokers.sdk.exchange import Exchange, Whole
from lllm.invokers.secret_params import without_secrets
from lllm.pricing.request_media import Sent, sent_in
from lllm.pricing.service_tiers import tier_in_headers
from lllm.replay.active_replay import AnsweredAttempt, AnswersClient
from lllm.replay.outcome import answer_of, failure_of
from lllm.sessions.attempt import Attempt
from lllm.sessions.session import SessionScope
from lllm.sessions.trace_context import current_traceparent
from lllm.sessions.unfinished_calls import unwatch, watch

_ENDED = "The session ended before the call did."
_EXIT = "The program ended before the call did."

P = ParamSpec("P")


def _one_at_a_time(
    method: Callable[Concatenate[Call, P], None],
) -> Callable[Concatenate[Call, P], None]:
    """A decorator that lets only one thread at a time run a step of a call.

    No step begins while another runs, none once the call is over, and none in a forked child.
    """

    def step(self: Call, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.session.recorder.in_child:
            return
        with self._steps:
            if not self._left:
                method(self, *args, **kwargs)

    update_wrapper(step, method)
    return step


class Call:
    """One call of a captured client.

    Args:
        session: The session that the call belongs to.
        operation: The kind of API call.
        endpoint: The URL that the client calls, and its credentials.
        name: The name of the call, such as "openai.chat".
        alone: True if the session was begun for this call, and ends with it.

    Attributes:
        session: The session that the call belongs to.
        alone: True if the session was begun for this call, and ends with it.
        streaming: True while the caller reads a streamed answer.
        outcome: The error of the call so far; None if there is none.
        recorded: The recorded answer to the current attempt, in a replay; None otherwise.
    """

    def __init__(
        self,
        session: SessionScope,
        operation: Operation,
        endpoint: ClientEndpoint,
        name: str,
        *,
        alone: bool,
    ) -> None:
        self.session = session
        self.alone = alone
        self.streaming = False
        self.outcome: BaseException | None = None
        self.recorded: AnsweredAttempt | None = None
        self._answers: AnswersClient | None = None  # in a replay, set by the first attempt
        self._live = False  # in a replay that calls the model again after the first difference
        self._name = name
        self._recorder = session.recorder
        self._conversations = conversations_of(session.recorder)
        self._operation = operation
        self._access = endpoint.access
        self._endpoint = endpoint
        self._secrets = endpoint.secrets
        self._steps = threading.RLock()
        self._left = False
        self._streamed: StreamedAnswer | None = None
        self._step = self._recorder.ordinal("captured call")
        self._tried = 0
        self._region: str | None = None  # in the path of the address
        self._tier: str | None = None  # in the request's headers
        self._asked: CapturedRequest | None = None
        self._dialog: ConversationDigest | None = None
        self._observed: ObservedCall | None = None  # what a framework's hook has recorded of it
        self._attempt: Attempt | None = None
        self._exchange: Exchange | None = None
        # Found here, and not when an attempt is sent: then it would be a span of the SDK's own.
        around = current_traceparent()
        self._traceparent = None if around == session.traceparent else around
        if alone:
            watch(self)
        else:
            session.calls.add(self)

    # -- requests

    @property
    def asks_for_stream(self) -> bool:
        """True if the request asks for a streamed answer."""
        return self._asked is not None and self._asked.stream

    @property
    def is_replayed(self) -> bool:
        """True if the call is answered from the log, so nothing is sent."""
        return self.session.replaying is not None and not self._live

    def clean(self, text: str) -> str:
        """Remove secrets from the text of an error."""
        return self._secrets.cut_error(text)

    @_one_at_a_time
    def requested(self, content: bytes, headers: Mapping[str, str], path: str) -> None:
        """Stage the event of an attempt that is about to be sent.

        Args:
            content: The body, as JSON.
            headers: The request's headers; they may have credentials that the client does not have.
            path: The path of the URL, percent-encoded.

        Raises:
            BudgetExceeded: The session's budget is spent.
        """
        self._secrets = self._endpoint.secrets_with(headers)
        body = self._conversations.bodies.read(content, self._operation, path)
        asked = body.asked
        self.session.budget.check(f"the next call of {asked.model}")
        if self.is_replayed:
            self._look_up(content, path)
        if self._dialog is None:
            self._dialog = self._find_dialog(body)
        self._asked = asked
        self._tried += 1
        self._region = region_of(path)
        self._tier = tier_in_headers(headers, self._access.provider)
        sent = sent_in(asked.contents, asked.params, before=body.media)
        observed = self._observed
        if observed is not None and self._tried == 1:
            number = observed.request  # the hook has staged this attempt
        else:
            number = self._recorder.ordinal("request")
            self._recorder.stage(self._request(number, asked, self._dialog, sent))
        if observed is not None:
            observed.last_request = number
        self._attempt = Attempt(
            request=number, agent="" if observed is None else observed.asking.agent,
            provider=self._access.provider, asked=asked.model,
            began=time.perf_counter_ns(), prices=self.session.host.prices,
            host=self._access.host, port=self._access.port, region=self._region, sent=sent,
        )  # fmt: skip

    def _find_dialog(self, body: Body) -> ConversationDigest:
        """Find the conversation that the call continues, and the hook that reported the call."""
        access = self._access
        biller = Biller(access.provider, access.host, access.port)
        sent = ClientSends(body.asked, body.beginnings, biller, self._operation.dialect.name)
        self._observed = observed = taken_call(self.session, sent)
        if observed is not None:
            self._step = observed.asking.step
            return observed.dialog
        dialog = self._conversations.going_on(body.asked.contents, body.beginnings)
        self._conversations.bodies.remember(body)
        return dialog

    def _look_up(self, content: bytes, path: str) -> None:
        """Find the recorded answer to an attempt, in a replay. Raises ReplayDivergence."""
        replaying = self.session.replaying
        self.recorded = None
        if self._answers is None and replaying is not None:
            whole = read_whole(content, self._operation, path, self._name)
            self._answers = replaying.ask_client(whole)
        if self._answers is not None:
            self.recorded = self._answers.attempt(self._tried + 1)
        self._live = self.recorded is None

    @_one_at_a_time
    def sent(self) -> None:
        """Start to measure the time to the answer; the attempt's event is written already."""
        if self._attempt is not None:
            asked = self._attempt.asked
            self._exchange = Exchange(
                self._access, self._operation.dialect, asked, self._secrets, tier=self._tier
            )
            self._attempt = msgspec.structs.replace(self._attempt, began=time.perf_counter_ns())

    def _request(
        self, number: int, asked: CapturedRequest, dialog: ConversationDigest, sent: Sent
    ) -> LLMRequested:
        definition = self._definition(asked)
        params = to_plain(without_secrets(asked.params)) if asked.params else None
        return LLMRequested(
            request=number,
            call=None if self._observed is None else self._observed.asking.call,
            step=self._step,
            attempt=self._tried,
            operation=self._operation.name,
            provider=self._access.provider,
            api=self._operation.dialect.name,
            host=self._access.host,
            port=self._access.port,
            region=self._region,
            model=asked.model,
            dialog=dialog.number,
            upto=dialog.last_ordinal,
            definition=definition,
            params=params,
            stream=asked.stream,
            service_tier=sent.tier,
            media=sent.media,
            traceparent=self._traceparent,
            digest=dialog.digest(self._recorder.salt, asked=[asked.model, definition, params]),
        )

    def _definition(self, asked: CapturedRequest) -> str | None:
        """Write the facts that seldom change once for each log, and return their name."""
        if not (asked.tools or asked.lasting):
            return None
        return self._recorder.define(
            AgentDefined(
                name="",
                system="",
                provider=self._access.provider,
                model=asked.model,
                params=to_plain(without_secrets(asked.lasting)) if asked.lasting else None,
                tools=asked.tools,
            )
        )

    # -- answers

    @_one_at_a_time
    def received(self, got: Whole) -> None:
        """Stage the events for a complete HTTP answer."""
        exchange = self._exchange
        if exchange is None:
            return
        recorded = self._recorded_answer()
        try:
            if recorded is None and not is_answer(got.status_code):
                raise exchange.refused(got, got.content.decode(errors="replace"))
            answer = recorded or exchange.answered(got)
        except InvokeError as error:
            self.outcome = error
            self._failed(error)
        else:
            self._answered(answer)

    def _recorded_answer(self) -> Answer | None:
        """What the attempt was answered with, in a replay, which its body was made from."""
        end = None if self.recorded is None else self.recorded.end
        return answer_of(end) if isinstance(end, LLMResponded) else None

    def ends_now(self, status: int) -> bool:
        """True if only the session's end follows this answer, so one append can write both."""
        return self.alone and is_answer(status)

    @_one_at_a_time
    def opened(self, head: Head) -> None:
        """Handle the status and headers of an answer whose body the caller reads."""
        self.streaming = True
        if self._exchange is not None:
            self._streamed = StreamedAnswer(self._exchange, head, as_stream=self.asks_for_stream)

    @_one_at_a_time
    def heard(self, chunk: bytes) -> None:
        """Handle a piece of the answer's body."""
        if self._streamed is not None:
            self._streamed.add(chunk)

    @_one_at_a_time
    def finished(self, error: BaseException | None, *, whole: bool, left: str = CLOSED) -> None:
        """Stage the events of a body when it ends, or when the caller stops reading.

        Args:
            error: The error that ended the body; None if there was none.
            whole: True if the body arrived completely.
            left: The reason to record if the caller stopped reading before the end.
        """
        self.outcome = error
        streamed, self._streamed = self._streamed, None
        if streamed is None:
            return
        end = streamed.end(error, whole=whole, left=left)
        self.outcome = end.outcome
        if end.answer is not None:
            self._answered(end.answer)
        elif end.failure is not None:
            self._failed(end.failure, cancelled=end.cancelled)

    @_one_at_a_time
    def failed(self, error: BaseException) -> None:
        """Stage the failure of the attempt; does nothing if no attempt is in progress."""
        self._failed(error)

    def _failed(self, error: BaseException, *, cancelled: bool = False) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        if self.recorded is not None and isinstance(self.recorded.end, LLMFailed):
            error = failure_of(self.recorded.end, retried=True, wait=None)
        failed = attempt.failed(error, clean=self.clean)
        cancelled = cancelled or failed.cancelled
        price = failed.price
        if cancelled and price is None and self._exchange is not None:
            price = Price("unpriced", reason="It ended before the provider sent its usage.")
        failed = msgspec.structs.replace(failed, cancelled=cancelled, price=price)
        self._recorder.stage(self.session.unbilled(failed))
        self.session.budget.charge(failed)

    # -- the end

    def leave(self, error: BaseException | None) -> None:
        """End the call, and its session if it has its own; a second call does nothing.

        Args:
            error: The error of the call; None if it succeeded.
        """
        if not self._over(error):
            return
        if self.alone:
            self.session.leave(error)
        elif error is not None:
            self._recorder.commit_after(error)
        elif not self._recorder.is_written:
            self._recorder.commit()

    async def aleave(self, error: BaseException | None) -> None:
        """End the call as `leave` does, on an event loop."""
        if not self._over(error):
            return
        if self.alone:
            await self.session.aleave(error)
        elif error is not None:
            await self._recorder.acommit_after(error)
        elif not self._recorder.is_written:
            await self._recorder.acommit()

    def _over(self, error: BaseException | None) -> bool:
        if self._recorder.in_child:
            return False
        with self._steps:
            if self._left:
                return False
            if error is not None:
                self._failed(error)  # the SDK stopped in the middle of an attempt
            self._close()
        return True

    def _close(self) -> None:
        self._left = True
        self._streamed = self._exchange = self._asked = None
        if self.alone:
            unwatch(self)
        else:
            self.session.calls.remove(self)
        if self._dialog is not None:
            self._conversations.left(self._dialog)

    @_one_at_a_time
    def settle(self, why: str = _ENDED) -> None:
        """End the call when its session ends first; see OpenCall."""
        try:
            self.finished(None, whole=False, left=why)
            # An attempt whose answer had not begun:
            self._failed(InvokeError(why, retryable=False), cancelled=True)
        finally:
            self._close()

    def settle_at_exit(self) -> None:
        """End the call if the program exits before the answer is complete; see OpenCall."""
        if self._recorder.in_child or self._left:
            return
        self.settle(_EXIT)
        if self.alone:
            self.session.leave(self.outcome or GeneratorExit(_EXIT), follow=False)
        else:
            self._recorder.commit()

    def _answered(self, answer: Answer) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is None or self._dialog is None:
            return
        answer = self._recorded_answer() or answer
        responded = attempt.responded(answer, message=self._recorder.ordinal("message"))
        # Before it is staged: both copy the content, and a long one should not be held twice.
        self._conversations.answered(self._dialog, responded.message, answer.content)
        if self._observed is not None:
            self._observed.message = responded.message
        self._recorder.stage(self.session.unbilled(responded))
        self.session.budget.charge(responded)


def is_answer(status: int) -> bool:
    """True if an HTTP status is a success; the SDKs treat all others as errors."""
    return 200 <= status < 300
