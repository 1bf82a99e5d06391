"""The SQL views for people: sessions, model calls, costs, annotations and events."""

from __future__ import annotations

from lllm.projections.readable_view import (
    ReadableView,
    iso_time,
    known_dollars,
    milliseconds,
)

_UNITS = {
    "started": "nanoseconds UTC",
    "ended": "nanoseconds UTC",
    "time": "nanoseconds UTC",
    "elapsed": "nanoseconds",
    "first_token": "nanoseconds",
    "elapsed_ms": "milliseconds",
    "first_token_ms": "milliseconds",
    "cost_usd": "US dollars; empty if no price is known; unpriced calls add nothing",
    "wasted_usd": "US dollars, of the cost: answers that were thrown away or never came whole",
    "cost_nanos": "nano-dollars",
    "wasted_nanos": "nano-dollars",
}
_COUNTS = (
    "calls", "failed_calls", "unpriced_calls", "input_tokens", "cache_read_tokens",
    "output_tokens", "reasoning_tokens", "cost_nanos", "wasted_nanos",
)  # fmt: skip
# a session without any call has no sums
_SUMS = ", ".join((
    f"coalesce({known_dollars('c.cost_nanos', 'c.unpriced_calls')}, "
    "CASE WHEN c.calls IS NULL THEN 0.0 END) AS cost_usd",
    "coalesce(c.wasted_nanos, 0) / 1e9 AS wasted_usd",
    *(f"coalesce(c.{name}, 0) AS {name}" for name in _COUNTS),
))  # fmt: skip
_DATE = " || '-' || ".join(
    f"substr(CAST(c.day AS text), {first}, {length})" for first, length in ((1, 4), (5, 2), (7, 2))
)
_SESSION = f"""s.tactic, {iso_time("s.started")} AS started_at,
    {iso_time("s.ended")} AS ended_at, {milliseconds("s.elapsed")} AS elapsed_ms,
    s.error_type, s.error_message, s.agent_calls, {_SUMS}, s.partition, s.replays, s.forks,
    {iso_time("s.erased")} AS erased_at, s.number, s.started, s.ended, s.elapsed"""
_OF_SESSIONS = "FROM sessions AS s LEFT JOIN session_totals AS c ON c.session = s.number"


def _units(*names: str) -> dict[str, str]:
    return {name: _UNITS[name] for name in names}


_MONEY = _units("cost_usd", "wasted_usd", "cost_nanos", "wasted_nanos")
_TIMES = _units("started", "ended", "elapsed", "elapsed_ms")

SESSIONS = (
    ReadableView(
        name="readable_sessions",
        select=f"""SELECT s.id, s.state, s.task, c.tags, {_SESSION} {_OF_SESSIONS}
            WHERE s.parent IS NULL""",
        about="The sessions at the top, as `lllm ls` lists them, with all that happened below them "
        "in their costs.",
        columns={"tags": "JSON", **_TIMES, **_MONEY},
    ),
    ReadableView(
        name="readable_child_sessions",
        select=f"""SELECT s.id, p.id AS parent_id, r.id AS root_id, s.ordinal, s.state, s.task,
            {_SESSION} {_OF_SESSIONS}
            JOIN sessions AS p ON p.number = s.parent JOIN sessions AS r ON r.number = s.root""",
        about="The sessions that other sessions called. Their costs are a part of those of the "
        "sessions above.",
        columns={
            "parent_id": "the session that called it",
            "root_id": "the session at the top",
            **_TIMES,
            **_MONEY,
        },
    ),
    ReadableView(
        name="readable_events",
        select=f"""SELECT position, stream AS session_id, seq, {iso_time("time")} AS time_at, type,
            version, data, time FROM events""",
        postgres=f"""SELECT e.position, e.stream AS session_id, e.seq,
            {iso_time("e.time")} AS time_at, e.type, e.version,
            convert_from(p.data, 'UTF8') AS data, e.time
            FROM events AS e LEFT JOIN payloads AS p ON p.position = e.position""",
        about="The log: all events, in their order.",
        columns={
            "session_id": "the session that wrote it; a later statement has a stream of its own",
            "seq": "its number in the session",
            "data": "JSON",
            **_units("time"),
        },
        needs="events",
    ),
)
PAYLOADS = (
    ReadableView(
        name="readable_payloads",
        select=f"""SELECT p.position, s.id AS session_id, {iso_time("e.time")} AS time_at, e.type,
            e.version, p.payload, e.time
            FROM event_payloads AS p JOIN events AS e ON e.position = p.position
            JOIN sessions AS s ON s.number = p.session""",
        about="The events of sessions with their payloads as jsonb, where that was asked for.",
        columns={
            "session_id": "the session that it is about",
            "payload": "jsonb; NULL where that can't hold the payload",
            **_units("time"),
        },
    ),
)
CALLS = (
    ReadableView(
        name="readable_calls",
        select=f"""SELECT s.id AS session_id, r.id AS root_id, c.request, k.tactic, k.agent, c.step,
            c.attempt, k.provider, coalesce(k.model, k.asked) AS model, c.state, c.status,
            c.error_type, c.error_message, {iso_time("c.started")} AS started_at,
            {milliseconds("c.elapsed")} AS elapsed_ms,
            {milliseconds("c.first_token")} AS first_token_ms, c.input_tokens, c.cache_read_tokens,
            c.output_tokens, c.reasoning_tokens, c.price, c.price_reason,
            CASE WHEN c.price = 'priced' THEN c.cost_nanos / 1e9 END AS cost_usd, c.wasted,
            c.cost_nanos, c.started, c.elapsed, c.first_token
            FROM calls AS c JOIN call_kinds AS k ON k.kind = c.kind
            JOIN sessions AS s ON s.number = c.session JOIN sessions AS r ON r.number = s.root""",
        about="Every attempt to call a model, including failed and repeated ones.",
        columns={
            "session_id": "the session that made it",
            "root_id": "the session at the top",
            "request": "its number in the session",
            "status": "the HTTP status of an error",
            "wasted": "1 if its answer was thrown away or never came whole",
            **_units("started", "elapsed", "elapsed_ms", "first_token", "first_token_ms"),
            **_units("cost_usd", "cost_nanos"),
        },
    ),
)
COSTS = (
    ReadableView(
        name="readable_costs",
        select=f"""SELECT {_DATE} AS date, c.tactic, c.model, c.agent, {_SUMS}, c.partition, c.day
            FROM costs AS c WHERE c.scope = ''""",
        about="The cost of all model calls, each once, by day, tactic, model and agent.",
        columns={"date": "a day, UTC", **_MONEY},
    ),
    ReadableView(
        name="readable_tag_costs",
        select=f"""SELECT c.name, c.value, c.sessions, {_SUMS}, c.partition
            FROM tag_costs AS c""",
        about="The cost of the sessions at the top with each tag.",
        columns=_MONEY,
    ),
)
ANNOTATIONS = (
    ReadableView(
        name="readable_annotations",
        select=f"""SELECT s.id AS session_id, a.name, a.value, a.comment, a.said_by,
            nullif(a.step, 0) AS step, {iso_time("a.time")} AS time_at, a.time
            FROM annotations AS a JOIN sessions AS s ON s.number = a.session""",
        about="What somebody or something judged of sessions, and of attempts in them.",
        columns={
            "value": "JSON",
            "step": "the number of the attempt (request); empty for the whole session",
            **_units("time"),
        },
    ),
)
