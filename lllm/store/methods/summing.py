"""Sum up costs and calls."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import suppress

from lllm.durations import Duration
from lllm.events.model import State
from lllm.pricing.cost_summary import CostSummary, SummarySums, grouping, recorded, summary_of_costs
from lllm.pricing.repricing import OtherPrices, Repricing, repriced
from lllm.projections.database import RowsDatabase
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.call_statistics import CallGroup, CallSummary, call_summary
from lllm.projections.queries.cost_groups import DividedQuarter
from lllm.store.call_records import call_filter_of
from lllm.store.filters import conditions_of, filter_of
from lllm.store.methods.store_parts import StoreParts
from lllm.time_zones import zone_of
from lllm.times import Moment


class SumsCalls(StoreParts):
    """Sum up costs and calls. See LogStore."""

    def export_cost_summary(
        self,
        *,
        tactic_path: str | None = None,
        tags: Mapping[str, str] | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        tz: str | dt.tzinfo = dt.UTC,
        partition: str | None = None,
        state: State | None = None,
        annotations: Mapping[str, object] | None = None,
        model: str | None = None,
        agent: str | None = None,
        error: int | str | None = None,
        text: str | None = None,
        min_cost: float | None = None,
        max_cost: float | None = None,
        slower: Duration | None = None,
        faster: Duration | None = None,
        wasted: bool = False,
        group_by: str | Sequence[str] | None = None,
        prices: OtherPrices = "recorded",
        as_model: str | None = None,
    ) -> CostSummary:
        """Sum the costs of the selected sessions and of all their child sessions.

        Args:
            tactic_path: Only sessions of this tactic, at any depth.
            tags: Only sessions that have all of these tags.
            after: Only sessions that began at this time or later; see `list_sessions`.
            before: Only sessions that began before this time; see `list_sessions`.
            tz: The time zone of days, and of times without an offset: UTC, or "Europe/Berlin",
                "local", a tzinfo. A day lasts from midnight to midnight there, and has 23 or 25
                hours when clocks change.
            partition: Only sessions of this partition.
            state: Only "success", "failure", "running" or "interrupted" sessions.
            annotations: As in `list_sessions`.
            model: As in `list_sessions`: all costs of the sessions in which it was requested.
            agent: As in `list_sessions`.
            error: As in `list_sessions`.
            text: As in `list_sessions`.
            min_cost: As in `list_sessions`.
            max_cost: As in `list_sessions`.
            slower: As in `list_sessions`.
            faster: As in `list_sessions`.
            wasted: As in `list_sessions`.
            group_by: "tactic", "model", "agent", "day" or "tag:KEY"; each attempt counts once, for
                the tactic, model, agent and day that made it. A list of several makes groups within
                groups, the first outermost.
            prices: "recorded" for the costs that were recorded with each call; "current" for
                today's prices of this store; or a table or function (see `PriceTable.of`) for the
                models that it names, and today's prices for all others.
            as_model: The model whose prices to use for every call, whichever model answered.
                With this, or prices other than "recorded", no event is changed; the log is read
                again, which takes about 50 us for each call.

        Returns:
            The costs in total and for each group, and the number of calls without a known price.

        Raises:
            ValueError: A group, time or zone is invalid.
            ConfigError: `prices` is invalid, or `as_model` has no price.
            LogDamaged: The recorded usage of a call can't be read.
        """
        by, zone = grouping(group_by), zone_of(tz)
        conditions = conditions_of(
            model=model, agent=agent, error=error, text=text,
            min_cost=min_cost, max_cost=max_cost, slower=slower, faster=faster, wasted=wasted,
        )  # fmt: skip
        wanted = filter_of(
            self._runtime, tags, state, tactic_path, after, before, partition, tz, False,
            annotations, conditions,
        )  # fmt: skip
        new = Repricing(prices, as_model, self.prices)

        def summed(database: RowsDatabase) -> SummarySums:
            if prices == "recorded" and as_model is None:
                with suppress(DividedQuarter), session_queries.reading(database) as connection:
                    return recorded(connection, wanted, by, zone)
            return repriced(self.log, database, wanted, by, zone, new)

        return summary_of_costs(self._reader.ask(summed), by, zone, new.asked, as_model)

    def summarize_calls(
        self,
        *,
        group_by: CallGroup | None = None,
        error: int | str | None = None,
        model: str | None = None,
        provider: str | None = None,
        tactic_path: str | None = None,
        tags: Mapping[str, str] | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        tz: str | dt.tzinfo = dt.UTC,
        partition: str | None = None,
    ) -> CallSummary:
        """Sum up attempts to call a model: errors, retries, and percentiles of their times.

        Args:
            group_by: "model", "provider", "tactic", "agent", "day" or "hour"; None for the total
                alone.
            error: As in `list_calls`.
            model: As in `list_calls`.
            provider: As in `list_calls`.
            tactic_path: As in `list_calls`.
            tags: As in `list_calls`.
            after: As in `list_calls`.
            before: As in `list_calls`.
            tz: The zone of days and hours, and of times that name no offset: UTC, or
                "Europe/Berlin", "local", a tzinfo.
            partition: As in `list_calls`.

        Returns:
            The statistics. They are made of the newest 200,000 attempts that the filters select,
            and say so where there are more.

        Raises:
            ValueError: The group, a filter, a time or the zone is invalid.
            TypeError: Tags are not str -> str.
        """
        of = filter_of(self._runtime, tags, None, tactic_path, after, before, partition, tz)
        wanted = call_filter_of(of, error, model, provider, None, None)
        return self._reader.ask(call_summary(wanted, group_by, zone_of(tz)))
