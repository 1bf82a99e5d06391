"""Lists single attempts to call a model, and checks the arguments of such a list."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import get_args

import msgspec

from lllm.durations import Duration, duration_nanoseconds
from lllm.events.dataframe_rows import TableRow
from lllm.events.model import State
from lllm.projections.database import RowsDatabase
from lllm.projections.queries.calls import CallRow, FoundCall, list_calls
from lllm.projections.queries.cursor_sql import CallCursor
from lllm.projections.queries.filters import CallFilter, CallSort, Filter
from lllm.projections.queries.sessions import reading
from lllm.projections.session.invoke_cost import dollars
from lllm.store.filters import error_of
from lllm.times import datetime_of

CALL_SORTS: tuple[CallSort, ...] = get_args(CallSort)
_LAST = 2**63


class CallRecord(msgspec.Struct, TableRow, frozen=True, kw_only=True):
    """One attempt to call a model; an answer that took three attempts has three records.

    Token counts are None if the provider sent no usage.

    Attributes:
        session_id: The id of the session that made the attempt.
        tactic_path: The stable path of that session.
        agent: The name of the agent that called the model; "" in a captured session.
        request: The number of the attempt within its session.
        call: The number of the agent call within the session; None outside of an agent.
        step: The number of the model's turn within the agent call.
        attempt: The number of the try within that turn.
        provider: The provider that bills the call, by its name in genai-prices.
        host: The host that the request was sent to.
        asked: The model that was requested.
        model: The model that answered, by the provider's name for it; None without an answer.
        state: "success", "failure", "running", or "interrupted" if the session ended first.
        status: The HTTP status of a failed attempt.
        error: The first 500 characters of "Type: message".
        error_type: The name of the exception's class.
        error_code: The provider's error code.
        timestamp: The time at which the request was sent, UTC.
        elapsed: Seconds from the request to the end of the answer.
        first_token: Seconds from the request to the first piece of a streamed answer.
        prompt_tokens: Input tokens, including cached ones.
        completion_tokens: Output tokens, including reasoning.
        cached_prompt_tokens: Input tokens that were read from a cache.
        cache_write_tokens: Input tokens that were written to a cache.
        reasoning_tokens: Output tokens that were used for reasoning.
        cost: US dollars; None if unknown.
        price: "priced", "provider", "free" or "unpriced".
        price_reason: The reason why an "unpriced" attempt has no price.
        wasted: True if the answer was not used, or did not arrive completely.
        tags: The tags of the session, and of its root session.
        task: The first line of the session's task, cut at 200 characters; None without one.
        cursor: Pass it to `list_calls` with the same `sort` to get the records after this one.
    """

    session_id: str
    tactic_path: str
    agent: str
    request: int
    call: int | None
    step: int
    attempt: int
    provider: str
    host: str
    asked: str
    model: str | None
    state: State
    status: int | None
    error: str | None
    error_type: str | None
    error_code: str | None
    timestamp: dt.datetime
    elapsed: float | None
    first_token: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_prompt_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost: float | None
    price: str | None
    price_reason: str | None
    wasted: bool
    tags: dict[str, str]
    task: str | None
    cursor: str


def record_of(found: FoundCall, sort: CallSort) -> CallRecord:
    """Make the CallRecord of an attempt from its row.

    Args:
        found: The row, with the tags of its session.
        sort: The order of the list; the record's cursor is valid for that order.

    Returns:
        The record for the list.
    """
    row = found.row
    return CallRecord(
        session_id=row.session_id,
        tactic_path=row.tactic,
        agent=row.agent,
        request=row.request,
        call=row.call,
        step=row.step,
        attempt=row.attempt,
        provider=row.provider,
        host=row.host,
        asked=row.asked,
        model=row.model or None,
        state=row.state,
        status=row.status,
        error=_error(row),
        error_type=row.error_type,
        error_code=row.error_code,
        timestamp=datetime_of(row.started),
        elapsed=_seconds(row.elapsed),
        first_token=_seconds(row.first_token),
        prompt_tokens=row.input_tokens,
        completion_tokens=row.output_tokens,
        cached_prompt_tokens=row.cache_read_tokens,
        cache_write_tokens=row.cache_write_tokens,
        reasoning_tokens=row.reasoning_tokens,
        cost=None if row.cost_nanos is None else dollars(row.cost_nanos),
        price=row.price,
        price_reason=row.price_reason,
        wasted=bool(row.wasted),
        tags=found.tags,
        task=row.task,
        cursor=f"{sort}.{'.'.join(map(str, found.cursor))}",
    )


def _error(row: CallRow) -> str | None:
    if row.error_type is None:
        return None
    return f"{row.error_type}: {row.error_message}" if row.error_message else row.error_type


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1_000_000_000


def call_filter_of(
    of: Filter,
    error: int | str | None,
    model: str | None,
    provider: str | None,
    slower: Duration | None,
    session_id: str | None,
) -> CallFilter:
    """Make the filter of a list of attempts; see `LogStore.list_calls`.

    Args:
        of: The filter of the sessions that made the attempts.
        error: An HTTP status, or a part of the error's text.
        model: A model; `*` matches anything.
        provider: The provider that bills.
        slower: The least time that an attempt took.
        session_id: A session; its child sessions are included.

    Returns:
        The filter, in the terms of the rows.

    Raises:
        TypeError: `slower` is not a duration.
        ValueError: The error or the duration is invalid.
    """
    statuses, said = (None, None) if error is None else error_of(error)
    return CallFilter(
        of=of,
        statuses=statuses,
        error=said,
        model=model,
        provider=provider,
        slower=None if slower is None else duration_nanoseconds(slower),
        session=session_id,
    )


def call_list(
    wanted: CallFilter, sort: CallSort, limit: int | None, cursor: str | None
) -> Callable[[RowsDatabase], list[CallRecord]]:
    """Check the arguments of a list of attempts before anything is read.

    Args:
        wanted: The filter of the attempts.
        sort: The order of the list.
        limit: The greatest number of records; None for all.
        cursor: The cursor of the last record of the page before; None for the first page.

    Returns:
        A function that reads the list from the database of rows.

    Raises:
        ValueError: The order, the limit or the cursor is invalid.
    """
    if sort not in CALL_SORTS:
        raise ValueError(f"sort is one of {', '.join(CALL_SORTS)}; not {sort!r}")
    if limit is not None and limit < 0:
        raise ValueError(f"limit is a number of calls, not {limit}")
    behind = None if cursor is None else _cursor(cursor, sort)

    def read(database: RowsDatabase) -> list[CallRecord]:
        with reading(database) as connection:
            found = list_calls(connection, wanted, limit, behind, sort)
        return [record_of(one, sort) for one in found]

    return read


def _cursor(text: str, sort: CallSort) -> CallCursor:
    found = re.fullmatch(r"(\w+)\.(-?[0-9]{1,19})\.([0-9]{1,19})\.(-?[0-9]{1,19})", text, re.ASCII)
    if found is None or found[1] != sort:
        raise ValueError(
            f"{text!r} is not a cursor of a list of calls by {sort}; take one from `cursor` of a "
            "record there."
        )
    value, session, request = (int(number) for number in found.groups()[1:])
    if not all(-_LAST <= number < _LAST for number in (value, session, request)):
        raise ValueError(f"{text!r} is not a cursor: its numbers are too large.")
    return value, session, request
