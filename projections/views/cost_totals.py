"""Sums attempts to call a model: counts, exact nano-dollars, and tokens."""

from __future__ import annotations

import datetime as dt

import msgspec

from lllm.events.model import CostCell, LLMFailed, LLMRefused, LLMResponded, Usage
from lllm.projections.days import QUARTER_HOUR
from lllm.projections.session.invoke_cost import tool_fees

Billed = LLMResponded | LLMFailed | LLMRefused


class CostTotals(msgspec.Struct, gc=False):
    """The sums of some attempts; each is named like the column that stores it.

    The counts of input and output tokens include the tokens of the more specific counts below them.

    Attributes:
        calls: The number of attempts that were answered.
        failed_calls: The number of attempts that failed.
        unpriced_calls: The number of attempts of both kinds whose price is unknown; they add
            nothing to the cost.
        cost_nanos: The cost of all attempts, in nano-dollars.
        wasted_nanos: The cost of attempts whose answer was rejected or incomplete, in nano-dollars.
        tool_nanos: The fees for tools that the provider ran, such as web searches, in nano-dollars.
    """

    calls: int = 0
    failed_calls: int = 0
    unpriced_calls: int = 0
    cost_nanos: int = 0
    wasted_nanos: int = 0
    tool_nanos: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0

    def count(self, billed: Billed) -> None:
        """Add one attempt, or the rejection of its answer, to the sums.

        Args:
            billed: The event of the attempt's end, or of the rejection.
        """
        if isinstance(billed, LLMRefused):
            self.wasted_nanos += billed.cost or 0
            return
        usage, price = billed.usage, billed.price
        nanos = None if price is None else price.nanos
        if isinstance(billed, LLMResponded):
            self.calls += 1
        else:
            self.failed_calls += 1
            self.wasted_nanos += nanos or 0
        if nanos is not None:
            self.cost_nanos += nanos
            if price is not None:
                self.tool_nanos += tool_fees(price)
        elif price is not None or usage is not None:  # otherwise no usage was reported
            self.unpriced_calls += 1
        if usage is not None:
            self.input_tokens += usage.input
            self.output_tokens += usage.output
            self.cache_read_tokens += usage.cache_read
            self.cache_write_tokens += usage.cache_write_5m + usage.cache_write_1h
            self.reasoning_tokens += usage.reasoning
            self.audio_input_tokens += usage.audio_in
            self.audio_output_tokens += usage.audio_out

    @classmethod
    def of(cls, cell: CostCell) -> CostTotals:
        """Make the sums that the cell of an erased or archived session contains.

        Args:
            cell: A cell that the method `cell` made.

        Returns:
            The sums.
        """
        used = cell.usage
        return cls(
            cell.calls, cell.failed, cell.unpriced, cell.nanos, cell.wasted, cell.tool_nanos,
            used.input, used.output, used.cache_read, used.cache_write_5m + used.cache_write_1h,
            used.reasoning, used.audio_in, used.audio_out,
        )  # fmt: skip

    def minus(self, other: CostTotals) -> CostTotals:
        """Subtract other sums.

        Args:
            other: The sums to subtract.

        Returns:
            New sums, which may be negative.
        """
        return CostTotals(*(one - two for one, two in zip(self.sums(), other.sums(), strict=True)))

    def cell(self, quarter: int, model: str, agent: str) -> CostCell:
        """Make the cell that keeps these sums when the session is erased.

        Args:
            quarter: The quarter of an hour in which the attempts ended, counted from 1970-01-01
                UTC.
            model: The model that was requested.
            agent: The agent that made the attempts; "" for none.

        Returns:
            The cell, a part of the `session.erased` event.
        """
        begin = dt.datetime.fromtimestamp(quarter * QUARTER_HOUR / 10**9, dt.UTC)
        return CostCell(
            day=begin.date().isoformat(), model=model, agent=agent, calls=self.calls,
            unpriced=self.unpriced_calls, nanos=self.cost_nanos, tool_nanos=self.tool_nanos,
            quarter=quarter, failed=self.failed_calls, wasted=self.wasted_nanos,
            usage=Usage(
                self.input_tokens, self.output_tokens, self.cache_read_tokens,
                self.cache_write_tokens, 0, self.reasoning_tokens, self.audio_input_tokens,
                self.audio_output_tokens,
            ),
        )  # fmt: skip

    def sums(self) -> tuple[int, ...]:
        """The sums in the order of their columns."""
        return msgspec.structs.astuple(self)
