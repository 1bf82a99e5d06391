"""Makes the events of one attempt to call a model: its answer or failure, usage and cost."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from lllm.events.errors import InvokeError
from lllm.events.model import Content, LLMFailed, LLMResponded, Price, Usage
from lllm.events.values.json_values import to_plain
from lllm.invokers import Answer
from lllm.pricing.failed_attempts import is_unserved
from lllm.pricing.price import price
from lllm.pricing.request_media import NOTHING, Sent
from lllm.pricing.usage import within_limits
from lllm.pricing.user_prices import PriceTable
from lllm.replay.outcome import RecordedAnswer, recorded_failure
from lllm.sessions.error_details import describe, is_cancellation

_LEFT = "The stream was left before the provider said what it used."
_CUT = "The answer broke off before the provider had said all that it used."
_UNTOLD = "It failed after it was sent, and nobody said what the provider used for it."
_UNSERVED = "It was not served: the provider did nothing for it."


class Attempt(msgspec.Struct, frozen=True):
    """An attempt to call a model that has begun.

    Attributes:
        request: The number of the attempt within the session.
        agent: The name of the agent that calls the model; "" in a captured session.
        provider: The provider that bills the call, by its name in genai-prices.
        asked: The model that is requested.
        began: The start of the attempt, as `time.perf_counter_ns` counts.
        prices: The user's own prices.
        host: The host that the request is sent to.
        port: The port of the host.
        region: The cloud region that the request is sent to.
        sent: The parts of the request that are billed separately.
    """

    request: int
    agent: str
    provider: str
    asked: str
    began: int
    prices: PriceTable | None = None
    host: str | None = None
    port: int | None = None
    region: str | None = None
    sent: Sent = NOTHING

    def responded(self, answer: Answer, *, message: int) -> LLMResponded:
        """Make the event for an answered attempt.

        Args:
            answer: The model's answer.
            message: The number of the answer's message.

        Returns:
            The event, with the usage and its cost.
        """
        elapsed = time.perf_counter_ns() - self.began
        return LLMResponded(
            request=self.request,
            message=message,
            content=answer.content,
            finish=answer.finish,
            finish_raw=answer.finish_raw,
            agent=self.agent,
            asked=self.asked,
            model=answer.model,
            response_id=answer.response_id,
            request_id=answer.request_id,
            service_tier=answer.service_tier,
            fingerprint=answer.fingerprint,
            usage_raw=to_plain(answer.usage_raw),
            usage=within_limits(answer.usage),
            price=answer.price
            if isinstance(answer, RecordedAnswer)
            else self._price(
                answer.usage,
                answer.usage_raw,
                model=answer.model,
                elapsed=elapsed,
                service_tier=answer.service_tier,
                billed=answer.billed,
                free=answer.free,
                content=answer.content,
            ),
            elapsed=elapsed,
            first_token=answer.first_token,
        )

    def failed(
        self, error: BaseException, *, said: str = "", clean: Callable[[str], str] = str
    ) -> LLMFailed:
        """Make the event for a failed or cancelled attempt.

        Args:
            error: The exception.
            said: The text that had arrived, if the error itself does not carry it; the cost is then
                unknown.
            clean: A function that removes secrets from the error's texts.

        Returns:
            The event, with the usage and cost as far as they are known.
        """
        elapsed = time.perf_counter_ns() - self.began
        recorded = recorded_failure(error)
        if recorded is not None and recorded.attempt is not None:
            return msgspec.structs.replace(
                recorded.attempt, request=self.request, asked=self.asked, elapsed=elapsed
            )
        failed = LLMFailed(
            request=self.request,
            agent=self.agent,
            asked=self.asked,
            error=describe(error, clean),
            cancelled=is_cancellation(error),
            elapsed=elapsed,
            partial=Content.of("assistant", said) if said else None,
            price=self._price_of_failure(error, elapsed, said),
        )
        if not isinstance(error, InvokeError):
            return failed
        return msgspec.structs.replace(
            failed,
            request_id=error.request_id,
            retry_after=error.retry_after,
            partial=error.partial,
            model=error.model,
            service_tier=error.service_tier,
            unfinished=error.unfinished,
            usage_raw=to_plain(error.usage_raw),
            usage=within_limits(error.usage),
        )

    def _price_of_failure(self, error: BaseException, elapsed: int, said: str) -> Price:
        """Price a failed attempt: free if it was not served, else by its usage."""
        if not said and is_unserved(error):
            return Price("free", nanos=0, reason=_UNSERVED)
        failed = error if isinstance(error, InvokeError) else None
        if failed is not None and not failed.unfinished and _says_its_use(failed):
            return self._price(
                failed.usage,
                failed.usage_raw,
                model=failed.model or self.asked,
                elapsed=elapsed,
                service_tier=failed.service_tier,
                billed=failed.billed,
                content=failed.partial,
            )
        # It may have cost nothing whatever it used, if the model is local.
        found = self._price(None, None, model=self.asked, elapsed=elapsed)
        if found.status != "unpriced":
            return found
        begun = failed is not None and (failed.unfinished or failed.partial is not None)
        return Price("unpriced", reason=_LEFT if said else _CUT if begun else _UNTOLD)

    def _price(
        self,
        usage: Usage | None,
        usage_raw: object,
        *,
        model: str,
        elapsed: int,
        service_tier: str | None = None,
        billed: int | None = None,
        free: str | None = None,
        content: Content | None = None,
    ) -> Price:
        return price(
            usage,
            provider=self.provider,
            model=model,
            at=time.time_ns() - elapsed,
            service_tier=service_tier,
            billed=billed,
            free=free,
            prices=self.prices,
            asked=self.asked,
            usage_raw=usage_raw,
            content=content,
            host=self.host,
            port=self.port,
            region=self.region,
            sent=self.sent,
        )


def _says_its_use(error: InvokeError) -> bool:
    return any(said is not None for said in (error.usage, error.usage_raw, error.billed))
