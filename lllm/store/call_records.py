"""Lists single attempts to call a model, and checks the arguments of such a list."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import get_args

import msgspec

from lllm.durations import Duration, duration_nanoseconds
from lllm.events.backends.sqlite.database import Database
from lllm.events.model import State
from lllm.events.table_rows import TableRow
from lllm.projections.queries.calls import CallRow, FoundCall, list_calls
from lllm.projections.queries.cursors import CallCursor
from lllm.projections.queries.filters import CallFilter, CallSort, Filter
from lllm.projections.queries.sessions import reading
from lllm.projections.session.invoke_cost import dollars
from lllm.times import datetime_of

CALL_SORTS: tuple[CallSort, ...] = get_args(CallSort)
_LAST = 2**63


class CallRecord(msgspec.Struct, TableRow, frozen=True, kw_only=True):
    """One attempt to call a model; an answer that needed three attempts is three of them.

    Tokens are None where nobody said what was used.

    Attributes:
        session_id: The session that it was made in.
        tactic_path: Of that session.
        agent: Who asked, "" in a captured session.
        request: The ordinal of the attempt in its session.
        call: The ordinal of the agent's call, None outside of an agent.
        step: The model's turns within the agent's call.
        attempt: The tries of that turn.
        provider: Who bills it, by the names of genai-prices.
        host: Where it was sent.
        asked: The model that was asked.
        model: The one that answered, by the provider's name; None where none did.
        state: "success", "failure", "running", or "interrupted" where its session ended before it.
        status: Of an HTTP answer that is an error.
        error: "Type: message", of which the first 500 characters.
        error_type: The name of the exception's class.
        error_code: The provider's word for it.
        timestamp: When it was sent, UTC.
        elapsed: Seconds to the end of the answer.
        first_token: Seconds to the first piece of a stream.
        prompt_tokens: Of the input, cached ones among them.
        completion_tokens: Of the output, reasoning among them.
        cached_prompt_tokens: Of the input, those read from a cache.
        cache_write_tokens: Of the input, those written to a cache.
        reasoning_tokens: Of the output, those of reasoning.
        cost: US dollars, None where nobody knows.
        price: "priced", "provider", "free" or "unpriced".
        price_reason: Why there is no price.
        wasted: True if its answer was thrown away, or never came whole.
        tags: Of its session, with those of the root.
        cursor: Give it to `list_calls`, asked for the same order, to go on behind this one.
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
    cursor: str


def record_of(found: FoundCall, sort: CallSort) -> CallRecord:
    """Make the CallRecord of an attempt from its row.

    Args:
        found: The row with the tags of its session.
        sort: The list's order, which its cursor is for.

    Returns:
        The line.
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
        of: What is also asked of their sessions.
        error: A status, or text of an error.
        model: A model, with `*` for anything.
        provider: Who bills.
        slower: The shortest time taken.
        session_id: A session, with those below it.

    Returns:
        The filter, in the terms of the rows.

    Raises:
        TypeError: `slower` is no length of time.
        ValueError: The error or the duration can't be.
    """
    statuses, said = (None, None) if error is None else _error_asked(error)
    return CallFilter(
        of=of,
        statuses=statuses,
        error=said,
        model=model,
        provider=provider,
        slower=None if slower is None else duration_nanoseconds(slower),
        session=session_id,
    )


def _error_asked(error: int | str) -> tuple[tuple[int, int] | None, str | None]:
    """Split the user's `error` filter into statuses or a text."""
    if isinstance(error, int) and not isinstance(error, bool):
        return (error, error), None
    if not isinstance(error, str) or not error.strip():
        raise ValueError(f"error is an HTTP status, 5xx, or part of what it says; not {error!r}")
    text = error.strip()
    if re.fullmatch(r"[1-9][0-9]{2}", text):
        return (int(text), int(text)), None
    if re.fullmatch(r"[1-9][xX]{2}", text):
        return (int(text[0]) * 100, int(text[0]) * 100 + 99), None
    return None, re.sub("[A-Z]+", lambda upper: upper[0].lower(), text)  # as SQLite's lower() does


def call_list(
    wanted: CallFilter, sort: CallSort, limit: int | None, cursor: str | None
) -> Callable[[Database], list[CallRecord]]:
    """Check the arguments of a list of attempts before anything is read.

    Args:
        wanted: Which attempts.
        sort: Their order.
        limit: How many at most, None for all there are.
        cursor: Of the last record seen.

    Returns:
        What reads the list from the rows.

    Raises:
        ValueError: The order, the limit or the cursor can't be.
    """
    if sort not in CALL_SORTS:
        raise ValueError(f"sort is one of {', '.join(CALL_SORTS)}; not {sort!r}")
    if limit is not None and limit < 0:
        raise ValueError(f"limit is a number of calls, not {limit}")
    behind = None if cursor is None else _cursor(cursor, sort)

    def read(database: Database) -> list[CallRecord]:
        with reading(database) as connection:
            found = list_calls(connection, wanted, limit, behind, sort)
        return [record_of(one, sort) for one in found]

    return read


def _cursor(text: str, sort: CallSort) -> CallCursor:
    found = re.fullmatch(r"(\w+)\.(-?[0-9]{1,19})\.([0-9]{1,19})\.(-?[0-9]{1,19})", text, re.ASCII)
    if found is None or found[1] != sort:
        raise ValueError(
            f"{text!r} is no cursor of a list of calls by {sort}; take one from the `cursor` of a "
            "record there."
        )
    value, session, request = (int(number) for number in found.groups()[1:])
    if not all(-_LAST <= number < _LAST for number in (value, session, request)):
        raise ValueError(f"{text!r} is no cursor: its numbers are too large.")
    return value, session, request
