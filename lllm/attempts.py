"""What is written of one attempt to call a model, however it was made: its answer or its failure,
with what it used and cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from lllm.events.errors import InvokeError
from lllm.events.model import Content, LLMFailed, LLMResponded, Price
from lllm.events.plain import to_plain
from lllm.invokers import Answer
from lllm.price_table import PriceTable
from lllm.pricing import believable, price
from lllm.session import describe, is_cancellation


class Attempt(msgspec.Struct, frozen=True):
    """One attempt that is under way.

    request: its ordinal in the session. asked: the model. began: of `time.perf_counter_ns`.
    prices: the user's own.
    """

    request: int
    agent: str
    provider: str
    asked: str
    began: int
    prices: PriceTable | None = None

    def responded(self, answer: Answer, *, message: int) -> LLMResponded:
        """It was answered. message: the ordinal of the answer."""
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
            usage=believable(answer.usage),
            price=price(
                answer.usage,
                provider=self.provider,
                model=answer.model,
                at=time.time_ns() - elapsed,
                service_tier=answer.service_tier,
                billed=answer.billed,
                free=answer.free,
                prices=self.prices,
                asked=self.asked,
                usage_raw=answer.usage_raw,
            ),
            elapsed=elapsed,
            first_token=answer.first_token,
        )

    def failed(
        self, error: BaseException, *, said: str = "", clean: Callable[[str], str] = str
    ) -> LLMFailed:
        """It failed, or was cancelled. said: what had come of its text, for an error that does not
        say it: then nobody knows what it cost. clean: see `describe`."""
        elapsed = time.perf_counter_ns() - self.began
        failed = LLMFailed(
            request=self.request,
            agent=self.agent,
            asked=self.asked,
            error=describe(error, clean),
            cancelled=is_cancellation(error),
            elapsed=elapsed,
        )
        if not isinstance(error, InvokeError):
            if not said:
                return failed
            left = "The stream was left before the provider said what it used."
            return msgspec.structs.replace(
                failed,
                partial=Content.of("assistant", said),
                price=Price("unpriced", reason=left),
            )
        return msgspec.structs.replace(
            failed,
            request_id=error.request_id,
            retry_after=error.retry_after,
            partial=error.partial,
            usage_raw=to_plain(error.usage_raw),
            usage=believable(error.usage),
            price=self._price_of_part(error, elapsed),
        )

    def _price_of_part(self, error: InvokeError, elapsed: int) -> Price | None:
        """What an answer cost that was cut off; None where nothing of one had come."""
        if error.partial is None and error.usage is None:
            return None
        return price(
            error.usage,
            provider=self.provider,
            model=self.asked,
            at=time.time_ns() - elapsed,
            prices=self.prices,
            usage_raw=error.usage_raw,
        )
