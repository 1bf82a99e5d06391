"""What a call cost, as a user reads it: what was sent and what came back, apart and in sums."""

from __future__ import annotations

import msgspec
import pytest

from lllm import LogStore
from lllm.events.model import Price, Usage
from lllm.invokers.scripted import reply
from lllm.projections.session.invoke_cost import InvokeCost, total
from tests.support.runs import Asking, called, config

PARTS = {
    "input": 1, "cache_read": 20, "cache_write": 300, "audio_in": 4_000, "request": 50_000,
    "output": 600_000, "reasoning": 7_000_000, "audio_out": 80_000_000, "image_out": 900_000_000,
    "web_search": 10**10,
}  # fmt: skip
SENT, CAME_BACK, FEES = 54_321, 987_600_000, 10**10
USED = Usage(
    input=100, output=50, cache_read=10, cache_write_5m=2, cache_write_1h=3, reasoning=7,
    audio_in=5, audio_out=6,
)  # fmt: skip


def test_each_part_is_what_was_sent_or_came_back() -> None:
    """prompt_cost is what was sent, completion_cost what came back, tool_cost the fees of tools;
    together they are the cost, to the nano-dollar."""
    price = Price("priced", nanos=SENT + CAME_BACK + FEES, parts=PARTS)
    cost = InvokeCost.of(USED, price)
    assert cost.prompt_cost == SENT / 10**9
    assert cost.completion_cost == CAME_BACK / 10**9
    assert cost.tool_cost == FEES / 10**9
    assert cost.cost == (SENT + CAME_BACK + FEES) / 10**9
    both = cost + cost
    assert both == total([cost, cost])
    assert (both.prompt_cost, both.completion_cost) == (2 * SENT / 10**9, 2 * CAME_BACK / 10**9)
    assert (both.tool_cost, both.cost) == (2 * cost.tool_cost, 2 * cost.cost)


def test_tokens() -> None:
    """Tokens are those of the usage; in sums each of them counts."""
    cost = InvokeCost.of(USED, None)
    names = (
        "prompt_tokens", "completion_tokens", "total_tokens", "cached_prompt_tokens",
        "cache_write_tokens", "reasoning_tokens", "audio_prompt_tokens", "audio_completion_tokens",
    )  # fmt: skip
    assert [getattr(cost, name) for name in names] == [100, 50, 150, 10, 5, 7, 5, 6]
    assert [getattr(cost + cost + cost, name) for name in names] == [
        300, 150, 450, 30, 15, 21, 15, 18,
    ]  # fmt: skip
    assert (cost.unpriced_calls, (cost + cost).unpriced_calls) == (1, 2)


def test_nothing() -> None:
    """Where nothing was used, there is nothing of anything."""
    nothing = total([])
    assert nothing == InvokeCost()
    assert {value for value in msgspec.structs.astuple(nothing) if value is not None} == {0}


def test_a_total_that_nobody_took_apart() -> None:
    """Where a provider says only the sum, what was sent and what came back are not known."""
    cost = InvokeCost.of(USED, Price("provider", nanos=7))
    assert (cost.prompt_cost, cost.completion_cost, cost.tool_cost) == (0, 0, 0)
    assert (cost.cost, cost.unpriced_calls) == (7e-9, 0)


def test_rates_stand_on_one_attempt() -> None:
    """A rate is read as it is written; what is none is left out, and a sum has none."""
    rates = {"input": "0.00000015", "output": "nan", "cache_read": "much"}
    cost = InvokeCost.of(USED, Price("priced", nanos=1, rates=rates))
    assert cost.input_cost_per_token == 0.00000015
    assert cost.output_cost_per_token is None
    assert cost.cache_read_input_token_cost is None
    assert (cost + cost).input_cost_per_token is None


@pytest.mark.money
def test_of_a_session(store: LogStore) -> None:
    """A session's total says what was sent and what came back, live and loaded; gpt-4o-mini costs
    0.15 US$ for a million tokens of input, 0.60 of output (https://openai.com/api/pricing/)."""
    script = [reply("yes", usage=Usage(input=1_000_000, output=500_000))]
    session = called(Asking(config(script), log_store=store))
    for one in (session, store.load_session(session.session_id)):
        found = one.total_cost
        assert (found.prompt_cost, found.completion_cost, found.cost) == (0.15, 0.3, 0.45)
