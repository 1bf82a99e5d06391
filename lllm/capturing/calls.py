"""One call of a captured client: which session it belongs to, and the events of its attempts.

An SDK tries again by itself; each of its attempts is an event of its own, and what it gives up with
is the last. Nothing here waits or touches a network, so threads and event loops share it; they
commit what is staged where they must.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import msgspec

from lllm.attempts import Attempt
from lllm.capturing.asked import Asked
from lllm.capturing.conversations import Told, conversations_of
from lllm.capturing.operations import Operation
from lllm.capturing.sites import Site
from lllm.events.errors import InvokeError
from lllm.events.model import AgentDefined, LLMRequested
from lllm.events.plain import to_plain
from lllm.invokers import Answer
from lllm.invokers.exchange import Exchange, Response, Whole
from lllm.secret_params import without_secrets
from lllm.session import SessionScope, is_cancellation

_CLOSED = "The caller closed the stream before its end."


class Call:
    """One call that the SDK was asked for.

    site: where it goes. alone: whether the session is this call's own, and ends with it.
    """

    def __init__(
        self, session: SessionScope, operation: Operation, site: Site, *, alone: bool
    ) -> None:
        self.session = session
        self.alone = alone
        self.streaming = False  # whether its answer is still on the way to the caller
        self._recorder = session.recorder
        self._conversations = conversations_of(session.recorder)
        self._operation = operation
        self._access = site.access
        self._site = site
        self._secrets = site.secrets
        self._left = False
        self._step = self._recorder.ordinal("captured call")
        self._tried = 0
        self._asked: Asked | None = None
        self._dialog: Told | None = None
        self._attempt: Attempt | None = None
        self._exchange: Exchange | None = None

    # -- requests

    @property
    def asks_for_stream(self) -> bool:
        """Whether the provider was asked to answer piece by piece."""
        return self._asked is not None and self._asked.stream

    def clean(self, text: str) -> str:
        """The text of an error, without what must not be told."""
        return self._secrets.cut_error(text)

    def requested(self, content: bytes, headers: Mapping[str, str]) -> None:
        """Stage an attempt that is about to be sent. content: the body, as JSON. headers: which may
        have keys that the client did not have before.

        Raises BudgetExceeded where the session's budget is spent.
        """
        self._secrets = self._site.secrets_with(headers)
        body = msgspec.json.decode(content, type=dict[str, object])
        asked = self._operation.reads(body)
        self.session.budget.check(f"the next call of {asked.model}")
        if self._dialog is None:
            self._dialog = self._conversations.going_on(asked.contents)
        self._asked = asked
        self._tried += 1
        number = self._recorder.ordinal("request")
        self._recorder.stage(self._request(number, asked, self._dialog))
        self._attempt = Attempt(
            request=number, agent="", provider=self._access.provider, asked=asked.model,
            began=time.perf_counter_ns(), prices=self.session.home.prices,
        )  # fmt: skip

    def sent(self) -> None:
        """What was staged is durable; from now on the model is waited for."""
        if self._attempt is not None:
            asked = self._attempt.asked
            self._exchange = Exchange(self._access, self._operation.dialect, asked, self._secrets)
            self._attempt = msgspec.structs.replace(self._attempt, began=time.perf_counter_ns())

    def _request(self, number: int, asked: Asked, dialog: Told) -> LLMRequested:
        definition = self._definition(asked)
        params = to_plain(without_secrets(asked.params)) if asked.params else None
        return LLMRequested(
            request=number,
            step=self._step,
            attempt=self._tried,
            operation=self._operation.name,
            provider=self._access.provider,
            api=self._operation.dialect.name,
            host=self._access.host,
            port=self._access.port,
            model=asked.model,
            dialog=dialog.number,
            upto=dialog.last_ordinal,
            definition=definition,
            params=params,
            stream=asked.stream,
            digest=dialog.digest(self._recorder.salt, asked=[asked.model, definition, params]),
        )

    def _definition(self, asked: Asked) -> str | None:
        """What seldom changes: it is written once for each log."""
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

    # -- what comes of them

    def received(self, got: Whole) -> InvokeError | None:
        """Stage what a whole HTTP answer says; returns the error that it stands for."""
        exchange = self._exchange
        if exchange is None:
            return None
        try:
            if not is_answer(got.status_code):
                raise exchange.refused(got, got.content.decode(errors="replace"))
            answer = exchange.answered(got)
        except InvokeError as error:
            self.failed(error)
            return error
        self._answered(answer)
        return None

    def ends_now(self, status: int) -> bool:
        """Whether only the end of its session follows an answer, and both are written together."""
        return self.alone and is_answer(status)

    def streamed(
        self,
        got: Response,
        chunks: Iterable[tuple[int, bytes]],
        error: BaseException | None,
        *,
        whole: bool,
    ) -> BaseException | None:
        """Stage what a streamed answer says, when it has come to its end, or the caller to his;
        returns what it failed with.

        chunks: the body, decoded, each with the time of `time.perf_counter_ns` when it came.
        error: what cut it off, None where nothing did. whole: whether there was nothing more.
        """
        exchange = self._exchange
        if exchange is None:
            return error
        exchange.opened(got)
        try:
            for came, chunk in chunks:
                for _ in exchange.feed(chunk, came):
                    pass  # the caller has it already
            if whole:
                exchange.rest(got)
            if error is None and (exchange.complete or exchange.done or whole):
                self._answered(exchange.ended())
                return None
        except InvokeError as told:  # an error that the provider sent in the stream
            self.failed(exchange.failure(told))
            return told
        error = GeneratorExit(_CLOSED) if error is None else error
        left = is_cancellation(error)
        why = _CLOSED if left else f"The stream was cut off: {type(error).__name__}: {error}"
        self.failed(exchange.failure(InvokeError(why, retryable=False)), cancelled=left)
        return error

    def failed(self, error: BaseException, *, cancelled: bool = False) -> None:
        """Stage that the attempt failed; does nothing where none is under way."""
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        failed = attempt.failed(error, clean=self.clean)
        if cancelled:
            failed = msgspec.structs.replace(failed, cancelled=True)
        self._recorder.stage(failed)
        self.session.budget.spend_on(failed)

    # -- the end

    def leave(self, error: BaseException | None) -> None:
        """The call is over, and its session, if it is its own; does nothing where it was before.
        error: what it failed with."""
        if not self._over(error):
            return
        if self.alone:
            self.session.leave(error)
        elif error is None:
            self._recorder.commit()
        else:
            self._recorder.commit_after(error)

    async def aleave(self, error: BaseException | None) -> None:
        """The same on an event loop."""
        if not self._over(error):
            return
        if self.alone:
            await self.session.aleave(error)
        elif error is None:
            await self._recorder.acommit()
        else:
            await self._recorder.acommit_after(error)

    def _over(self, error: BaseException | None) -> bool:
        before, self._left = self._left, True
        if before:
            return False
        if error is not None:
            self.failed(error)  # where the SDK stopped in the middle of an attempt
        if self._dialog is not None:
            self._conversations.left(self._dialog)
        return True

    def _answered(self, answer: Answer) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is None or self._dialog is None:
            return
        responded = attempt.responded(answer, message=self._recorder.ordinal("message"))
        self._recorder.stage(responded)
        self.session.budget.spend_on(responded)
        self._conversations.answered(self._dialog, responded.message, answer.content)


def is_answer(status: int) -> bool:
    """Whether an HTTP status stands for an answer; the SDKs take all others for errors."""
    return 200 <= status < 300
