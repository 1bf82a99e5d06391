"""The cost of calling models, for users: tokens, and US dollars as floats.

Internally, money is an integer of nano-dollars, so sums are exact; only this class for users has
floats. A float represents every amount up to four million dollars exactly to the nano-dollar. Two
costs are added as integers, so the sum is exact, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from lllm.events.dataframe_rows import TableRow
from lllm.events.model import TOOLS, Price, Usage

# The components of the output; all others, except fees of tools, belong to the input.
_OUTPUT_PARTS = ("output", "reasoning", "audio_out", "image_out", "video_out", "citation")


def dollars(nanos: int) -> float:
    """Convert nano-dollars to US dollars.

    Args:
        nanos: The amount in nano-dollars.

    Returns:
        The amount in US dollars.
    """
    return nanos / 1_000_000_000


def nanos(amount: float) -> int:
    """Convert US dollars to nano-dollars.

    Args:
        amount: The amount in US dollars.

    Returns:
        The amount in nano-dollars, rounded half to even.
    """
    return round(amount * 1_000_000_000)


def tool_fees(price: Price) -> int:
    """Sum the fees in a price for tools that the provider ran.

    Args:
        price: The price of an attempt.

    Returns:
        The fees, in nano-dollars.
    """
    if not price.parts:
        return 0
    return sum(price.parts.get(name, 0) for name in TOOLS)


class InvokeCost(msgspec.Struct, TableRow, frozen=True, kw_only=True, gc=False):
    """The tokens of calls of a model, and their cost in US dollars.

    Attributes:
        prompt_tokens: All input tokens, including those read from or written to the cache.
        completion_tokens: All output tokens, including reasoning.
        total_tokens: Input and output tokens together.
        cached_prompt_tokens: Input tokens that the provider read from its cache.
        cache_write_tokens: Input tokens that the provider wrote to its cache.
        reasoning_tokens: Output tokens that are reasoning.
        audio_prompt_tokens: Input tokens that are audio.
        audio_completion_tokens: Output tokens that are audio.
        input_cost_per_token: US dollars for one input token; None for a sum of attempts.
        output_cost_per_token: US dollars for one output token; None for a sum of attempts.
        cache_read_input_token_cost: US dollars for one token read from the cache; None for a sum of
            attempts.
        prompt_cost: The cost of all input, in US dollars.
        completion_cost: The cost of all output, in US dollars.
        tool_cost: The fees for tools that the provider ran, such as web searches, in US dollars.
        cost: The whole cost: the three above together, in US dollars.
        unpriced_calls: The number of calls whose price is unknown; they add nothing to `cost`.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_prompt_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_prompt_tokens: int = 0
    audio_completion_tokens: int = 0
    input_cost_per_token: float | None = None
    output_cost_per_token: float | None = None
    cache_read_input_token_cost: float | None = None
    prompt_cost: float = 0.0
    completion_cost: float = 0.0
    tool_cost: float = 0.0
    cost: float = 0.0
    unpriced_calls: int = 0

    @classmethod
    def of(cls, usage: Usage | None, price: Price | None) -> InvokeCost:
        """Make the cost of one attempt from the values in its event.

        Args:
            usage: The token counts; None if the provider sent none.
            price: The price; None if nothing is known about it.

        Returns:
            The cost, with the rates of the attempt.
        """
        used = usage or Usage()
        parts: dict[str, int] = price.parts if price else {}
        completion = 0
        for name in _OUTPUT_PARTS:
            completion += parts.get(name, 0)
        tools = tool_fees(price) if price else 0
        total = price.nanos if price and price.nanos is not None else 0
        rates: dict[str, str] = price.rates if price else {}
        return cls(
            prompt_tokens=used.input,
            completion_tokens=used.output,
            total_tokens=used.input + used.output,
            cached_prompt_tokens=used.cache_read,
            cache_write_tokens=used.cache_write_5m + used.cache_write_1h,
            reasoning_tokens=used.reasoning,
            audio_prompt_tokens=used.audio_in,
            audio_completion_tokens=used.audio_out,
            input_cost_per_token=_rate(rates.get("input")),
            output_cost_per_token=_rate(rates.get("output")),
            cache_read_input_token_cost=_rate(rates.get("cache_read")),
            prompt_cost=dollars(total - completion - tools if parts else 0),
            completion_cost=dollars(completion),
            tool_cost=dollars(tools),
            cost=dollars(total),
            unpriced_calls=int(usage is not None if price is None else price.nanos is None),
        )

    def __add__(self, other: InvokeCost) -> InvokeCost:
        """Add two costs; the sum has no rates per token."""
        return total((self, other))


def total(costs: Iterable[InvokeCost]) -> InvokeCost:
    """Sum up any number of costs.

    Args:
        costs: The costs to add; none give a cost of zero.

    Returns:
        The sum, exact to the nano-dollar, without rates per token.
    """
    all_of = tuple(costs)
    return InvokeCost(
        prompt_tokens=sum(cost.prompt_tokens for cost in all_of),
        completion_tokens=sum(cost.completion_tokens for cost in all_of),
        total_tokens=sum(cost.total_tokens for cost in all_of),
        cached_prompt_tokens=sum(cost.cached_prompt_tokens for cost in all_of),
        cache_write_tokens=sum(cost.cache_write_tokens for cost in all_of),
        reasoning_tokens=sum(cost.reasoning_tokens for cost in all_of),
        audio_prompt_tokens=sum(cost.audio_prompt_tokens for cost in all_of),
        audio_completion_tokens=sum(cost.audio_completion_tokens for cost in all_of),
        prompt_cost=_sum_of_dollars(cost.prompt_cost for cost in all_of),
        completion_cost=_sum_of_dollars(cost.completion_cost for cost in all_of),
        tool_cost=_sum_of_dollars(cost.tool_cost for cost in all_of),
        cost=_sum_of_dollars(cost.cost for cost in all_of),
        unpriced_calls=sum(cost.unpriced_calls for cost in all_of),
    )


def _sum_of_dollars(amounts: Iterable[float]) -> float:
    return dollars(sum(nanos(amount) for amount in amounts))


@lru_cache(maxsize=1024)  # a log repeats the same few rates in every attempt
def _rate(written: str | None) -> float | None:
    try:
        rate = float(written or "")
    except ValueError:
        return None
    return rate if math.isfinite(rate) else None
