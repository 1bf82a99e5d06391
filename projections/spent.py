"""What attempts to call a model add up to: counts, exact nano-dollars and tokens."""

from __future__ import annotations

import msgspec

from lllm.events.model import LLMFailed, LLMResponded

ATTEMPTS = (LLMResponded, LLMFailed)  # `X | Y` would be made anew for each event it is asked of


class Spent(msgspec.Struct, gc=False):
    """The sums of some attempts, under the names of the columns that keep them.

    A call whose price is unknown is counted as unpriced, and adds nothing to the cost. Input and
    output include what the names below them count apart.
    """

    calls: int = 0
    failed_calls: int = 0
    unpriced_calls: int = 0
    cost_nanos: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0

    def count(self, attempt: LLMResponded | LLMFailed) -> None:
        """Add one attempt."""
        usage, price = attempt.usage, attempt.price
        if isinstance(attempt, LLMResponded):
            self.calls += 1
        else:
            self.failed_calls += 1
            if usage is None:
                return  # nobody said that it used anything
        if price is None or price.nanos is None:
            self.unpriced_calls += 1
        else:
            self.cost_nanos += price.nanos
        if usage is not None:
            self.input_tokens += usage.input
            self.output_tokens += usage.output
            self.cache_read_tokens += usage.cache_read
            self.cache_write_tokens += usage.cache_write_5m + usage.cache_write_1h
            self.reasoning_tokens += usage.reasoning
            self.audio_input_tokens += usage.audio_in
            self.audio_output_tokens += usage.audio_out

    def sums(self) -> tuple[int, ...]:
        """The sums in the order of their columns."""
        return msgspec.structs.astuple(self)
