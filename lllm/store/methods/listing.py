"""List sessions and calls, and search their texts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from lllm.durations import Duration
from lllm.events.model import State
from lllm.projections.database import RowsDatabase
from lllm.projections.queries.filter_values import FilterValues, filter_values
from lllm.projections.queries.filters import CallSort
from lllm.projections.queries.sessions import reading
from lllm.projections.session.annotations import Annotation
from lllm.store.call_records import CallRecord, call_filter_of, call_list
from lllm.store.filters import conditions_of, filter_of
from lllm.store.methods.store_parts import StoreParts
from lllm.store.summaries import (
    ChildSessions,
    SessionList,
    Sort,
    annotations_by_session,
    children_list,
    session_list,
)
from lllm.times import Moment

if TYPE_CHECKING:
    from lllm.search.hits import SearchHits, SearchSort


class ListsSessions(StoreParts):
    """List sessions and calls, and search their texts. See LogStore."""

    def list_sessions(
        self,
        *,
        tags: Mapping[str, str] | None = None,
        state: State | None = None,
        tactic_path: str | None = None,
        limit: int | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        tz: str | dt.tzinfo = dt.UTC,
        partition: str | None = None,
        cursor: str | None = None,
        sort: Sort = "started",
        reverse: bool = False,
        replays: bool = False,
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
    ) -> SessionList:
        """List the top-level calls, newest first (by start, then id).

        Args:
            tags: Only sessions that have all of these tags.
            state: Only "success", "failure", "running" or "interrupted" ones.
            tactic_path: Only calls of this tactic, at any depth; a call of it inside another one is
                not listed.
            limit: The greatest number of sessions to return; None for all.
            after: Only those that began at this time or later: a datetime, a date, or a text as
                "7d", "today" or "2026-01-31T18:00" (see `lllm.times.parse_time`).
            before: Only those that began before this time; in the same forms.
            tz: The time zone of times without an offset, also of naive datetimes: UTC, or
                "Europe/Berlin", "local", a tzinfo.
            partition: Only sessions of this partition.
            cursor: The `cursor` of the last summary of the page before; None for the first page.
            sort: "started" for the newest first; "cost", "elapsed", "calls" or "tokens" for the
                largest first, child sessions included, and the newer of two that are equal;
                "state", "tactic" or "task" from A to Z. Only a list by start stops reading when it
                is full; the others read all sessions that the filters select, up to a second for
                each million. With rows in PostgreSQL, every order of top-level calls has an index.
            reverse: True for the opposite order: the oldest, the cheapest, Z to A.
            replays: True to list top-level replays, too.
            annotations: Only sessions that have annotations with all of these names, with these
                values; None for any value.
            model: Only sessions in which this model was requested, or below which it was; `*`
                matches anything, as in "gpt-4o*".
            agent: Only sessions in which this agent called a model, or below which it did; with
                `*` as `model`. With both, an attempt must have both.
            error: Only sessions whose error has this text in its type or message, or in which an
                attempt failed with such an error, or with this HTTP status (429, "5xx").
            text: Only sessions with this text in the first line of the task, in the error or in the
                tactic's path; letters A to Z in either case. `search` finds words in messages.
            min_cost: Only sessions that cost this many US dollars or more, children included.
                Calls without a known price count as nothing.
            max_cost: Only sessions that cost this much or less.
            slower: Only sessions that took this long or longer: seconds, a timedelta, or a text as
                "5s", "500ms" or "2min". A running session has no duration yet.
            faster: Only sessions that took this long or less.
            wasted: True for only sessions in which, or below which, money was wasted: on an
                answer that was not used, or did not arrive completely.

        Returns:
            A short summary of each session, in the order of `sort`.

        Raises:
            ValueError: A state, limit, sort, cursor, time, zone, cost or duration is invalid.
            TypeError: Tags are not str -> str, or a cost or duration is not one.
        """
        conditions = conditions_of(
            model=model, agent=agent, error=error, text=text,
            min_cost=min_cost, max_cost=max_cost, slower=slower, faster=faster, wasted=wasted,
        )  # fmt: skip
        wanted = filter_of(
            self._runtime, tags, state, tactic_path, after, before, partition, tz, replays,
            annotations, conditions,
        )  # fmt: skip
        return self._reader.ask(session_list(wanted, sort, limit, cursor, reverse))

    def children(
        self, session_ids: Collection[str], *, limit: int | None = None
    ) -> dict[str, ChildSessions]:
        """List the sessions that each of some sessions called directly.

        Args:
            session_ids: The whole ids, such as those of a page of `list_sessions`.
            limit: The greatest number of children of each to return; None for all.

        Returns:
            The number of children and the first of them, by the id of their parent. Sessions
            without children, and those that do not exist, are left out.

        Raises:
            ValueError: The limit is negative.
        """
        return self._reader.ask(children_list(session_ids, limit))

    def annotations(self, session_ids: Collection[str]) -> dict[str, list[Annotation]]:
        """List what was judged of some sessions and of attempts in them.

        Args:
            session_ids: The whole ids, such as those of a page of `list_sessions`.

        Returns:
            The annotations that hold, by the id of their session; sessions without any are left
            out.
        """
        return self._reader.ask(annotations_by_session(session_ids))

    def filter_values(self) -> FilterValues:
        """Read values that a list can be filtered by, to suggest them: tactics, models, tags.

        Returns:
            At most 100 of each kind.
        """

        def read(database: RowsDatabase) -> FilterValues:
            with reading(database) as connection:
                return filter_values(connection)

        return self._reader.ask(read)

    def list_calls(
        self,
        *,
        error: int | str | None = None,
        model: str | None = None,
        provider: str | None = None,
        slower: Duration | None = None,
        state: State | None = None,
        session_id: str | None = None,
        tactic_path: str | None = None,
        tags: Mapping[str, str] | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        tz: str | dt.tzinfo = dt.UTC,
        partition: str | None = None,
        sort: CallSort = "started",
        limit: int | None = None,
        cursor: str | None = None,
    ) -> list[CallRecord]:
        """List attempts to call a model, newest first; failed attempts and retries are included.

        Use it to find the slowest calls, or last week's 429s.
        `pandas.DataFrame(store.list_calls())` has a column for each field.

        Args:
            error: Only attempts that failed with this HTTP status (429, or "5xx" for all from 500
                on), or whose error has this text in its type, code or message ("timeout", "rate
                limit"); small and capital letters are alike.
            model: Only attempts that requested or were answered by this model; `*` matches
                anything, as in "gpt-4o*" or "*claude*".
            provider: Only attempts that this provider bills, by its name in genai-prices
                ("openai").
            slower: Only attempts that took this long or longer: seconds, a timedelta, or a text as
                "5s", "500ms" or "2min".
            state: Only "success", "failure", "running" or "interrupted" attempts. It is the state
                of the attempt, not of its session.
            session_id: Only attempts of this session and its descendants.
            tactic_path: Only attempts in sessions of this tactic, at any depth.
            tags: Only attempts in sessions that have these tags, or whose root session has them.
            after: Only those that began at this time or later: a datetime, a date, or a text as
                "7d", "today" or "2026-01-31T18:00" (see `lllm.times.parse_time`).
            before: Only those that began before this time; in the same forms.
            tz: The time zone of times without an offset: UTC, or "Europe/Berlin", "local", a
                tzinfo.
            partition: Only attempts in sessions of this partition.
            sort: "started", or the largest first by "elapsed", "first_token", "cost" or "tokens";
                attempts for which it is unknown come last. "first_token" and "tokens" are slower:
                they read all attempts that the other filters select.
            limit: The greatest number of records to return; None for all.
            cursor: The `cursor` of the last record of the page before; None for the first page.

        Returns:
            The attempts, in the order of `sort`.

        Raises:
            ValueError: A filter, the order, the limit, the cursor, a time or the zone is invalid.
            TypeError: Tags are not str -> str, or `slower` is not a duration.
        """
        of = filter_of(self._runtime, tags, state, tactic_path, after, before, partition, tz)
        wanted = call_filter_of(of, error, model, provider, slower, session_id)
        return self._reader.ask(call_list(wanted, sort, limit, cursor))

    def search(
        self,
        query: str,
        *,
        role: str | Collection[str] | None = None,
        session_id: str | None = None,
        tactic_path: str | None = None,
        tags: Mapping[str, str] | None = None,
        state: State | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        tz: str | dt.tzinfo = dt.UTC,
        partition: str | None = None,
        replays: bool = False,
        sort: SearchSort = "newest",
        limit: int | None = 20,
        cursor: str | None = None,
    ) -> SearchHits:
        """Find messages by their words, newest first.

        Searched are the texts of all messages with their reasoning and tool calls, results of
        tools, tasks, tags and errors; of a text of more than 1,048,576 characters, its beginning.
        Words are compared without case and accents. Of scripts that put no spaces between words,
        and of Korean, any part of a text can be found.

        Args:
            query: Words that a message must all have; or `refund OR money`, `refund NOT late`,
                `"late delivery"` for words next to each other, `refund*` for how words begin, and
                parentheses. What is no letter or digit stands between words, so an id such as
                `order-7731` is found as the words order and 7731 next to each other.
            role: Only "system", "user", "assistant" or "tool" messages, or "task", "tag" or
                "error"; or several of these.
            session_id: Only messages of this session and those below it.
            tactic_path: Only messages of sessions of this tactic, at any depth.
            tags: Only messages of sessions that have these tags, or whose root has them.
            state: Only messages of sessions in this state.
            after: Only messages that were recorded at this time or later; in the forms of
                `list_sessions`.
            before: Only messages that were recorded before this time.
            tz: The zone of times that name no offset: UTC, or "Europe/Berlin", "local", a tzinfo.
            partition: Only messages of sessions of this partition.
            replays: True to find those of replays, too.
            sort: "newest" first; or by "relevance" (https://sqlite.org/fts5.html#the_bm25_function)
                among the newest 20,000 messages with these words.
            limit: The greatest number of hits; None for all.
            cursor: The `cursor` of the hits before; None for the first page.

        Returns:
            A list of the hits. Its `note` says what was not looked at, where there is too much.

        Raises:
            SearchQueryError: The query can't be read; the message says where.
            SearchUnavailable: The store has no search index; `rebuild(search=True)` makes one.
            ValueError: A role, a filter, the order, the limit or the cursor is invalid.
            TypeError: Tags are not str -> str.
        """
        from lllm.search.hits import search_of

        of = filter_of(
            self._runtime, tags, state, tactic_path, after, before, partition, tz, replays
        )
        ask = search_of(self.log, query, of, role, session_id, limit, sort, cursor)
        return self._reader.ask(lambda rows: ask(self._rows.with_search(rows)))
