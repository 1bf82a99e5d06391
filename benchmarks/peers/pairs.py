"""Which work of lllm's stands beside which of a peer's, and what is promised of it.

SQLite has WAL and synchronous=NORMAL on both sides, so that what is written survives the death of
the process, unless the figure says otherwise. Where a peer does less than lllm, or is durable only
later, the figure says that too.
"""

from __future__ import annotations

import msgspec

from benchmarks.measure import Bar

LLLM = "lllm"
OTEL = "opentelemetry-sdk"
BARE = "bare"  # the operation that is no library's


class Pair(msgspec.Struct, frozen=True):
    """One comparison.

    ours, theirs: operations of the two workers. note: in what they differ. rate: the figure is the
    ratio of rates, peer's time over lllm's; else it is lllm's time over the peer's.
    """

    what: str
    ours: str
    peer: str
    theirs: str
    note: str = ""
    bar: Bar | None = None
    rate: bool = False


_QUARTER = Bar(1 / 4, "at most")
_FIFTIETH = Bar(1 / 50, "at most")
_FLOOR = Bar(1.2, "at most")
_FOURFOLD = Bar(4, "at least")
_AT_END = "it saves once, at the end"
_BOTH_AT_END = "both save once, at the end"
_LINES = "no index, no digests"
_SPANS = f"to a file; {_LINES}"

SESSIONS = (
    Pair("a session, SQLite", "session", "lllm-core", "session", _AT_END, _QUARTER),
    Pair(
        "a session in one append, SQLite", "session at once", "lllm-core", "session", _BOTH_AT_END
    ),
    Pair(
        "a session, SQLite, lllm-core as it comes", "session", "lllm-core", "session, as it comes",
        f"{_AT_END}, with synchronous=FULL",
    ),
    Pair("a session, files", "session, files", "lllm-core", "session, files", _AT_END, _QUARTER),
    Pair(
        "a session in one append, files", "session at once, files", "lllm-core", "session, files",
        _BOTH_AT_END,
    ),
    Pair("a session, SQLite", "session", "mlflow", "session", "until durable", _FIFTIETH),
    Pair(
        "a session, SQLite", "session", "llm", "session",
        "durable after each answer; no tags, prices or failed attempts",
    ),
    Pair(
        "a session, SQLite, SimpleSpanProcessor", "session", OTEL, "session",
        f"{_SPANS}; a span is durable when it ends",
    ),
    Pair(
        "a session, SQLite, BatchSpanProcessor until flushed", "session", OTEL, "session, batch",
        _SPANS,
    ),
    Pair(
        "a session, SQLite, BatchSpanProcessor not awaited", "session", OTEL,
        "session, batch not awaited", f"{_SPANS}; nothing is durable yet",
    ),
    Pair("a session, SQLite", "session", "structlog", "session", _LINES, _FLOOR),
    Pair("a session's events, SQLite", "events", "structlog", "session", _LINES),
    Pair("a session, files", "session, files", "structlog", "session", _LINES),
    Pair("a session's events, files", "events, files", "structlog", "session", _LINES),
)  # fmt: skip

# What no log in SQLite that is durable at every moment can be faster than.
LIMITS = (
    Pair("a session's bare transactions", BARE, "lllm-core", "session", _AT_END),
    Pair("a session's bare transactions", BARE, "structlog", "session", _LINES),
)

_LOADED = "lllm checks the digests; lllm-core's has no tools and no retry, which it can't load"
QUESTIONS = tuple(
    Pair(f"{shown}, {place}", f"{name}{suffix}", "lllm-core", f"{name}{suffix}", note)
    for place, suffix in (("SQLite", ""), ("files", ", files"))
    for shown, name, note in (
        ("list with two tags", "list", ""),
        ("cost of all sessions", "cost", ""),
        ("load one session", "load", _LOADED),
    )
)

EVENTS = tuple(
    Pair(what, name, "eventsourcing", name, bar=bar, rate=True)
    for what, name, bar in (
        ("append one event, as the log takes it", "append 1", _FOURFOLD),
        ("append one event from its object", "append 1 object", None),
        ("append 1,000, as the log takes them", "append 1,000", None),
        ("append 1,000 from their objects", "append 1,000 objects", None),
        ("scan and decode", "scan", _FOURFOLD),
    )
)
