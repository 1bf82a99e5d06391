"""The view of calls: one row for each attempt to call a model, with its outcome and cost.

What many attempts have in common (the agent, the models, the provider) is stored once, as a kind
with a small number. So rows are small, and each such filter is the first column of an index.

An index by duration or cost would change in random places for each batch. So durations and costs
are sorted into size classes, sixteen for each power of two, and the index is by size class and
start time: new entries then go to the ends of some dozens of runs. The slowest calls are found in
the largest classes, by the duration that is in the index, too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lllm.events.model import (
    Error,
    LLMFailed,
    LLMRefused,
    LLMRequested,
    LLMResponded,
    Price,
    SessionArchived,
    SessionErased,
    SessionResidue,
    Usage,
)
from lllm.projections.database import Value
from lllm.projections.view import (
    ARCHIVED,
    ERASED,
    Index,
    Key,
    Rows,
    SessionContext,
    Table,
    ViewEvent,
    storable,
)
from lllm.projections.views import readable_views
from lllm.projections.views.dispatch import Handlers, hand_out, number_of

# characters of an error's message that a row stores; the log has the whole message
MESSAGE_LENGTH = 500

_LEADING = 5  # leading bits of an amount that its size class depends on; the first is always 1
LARGEST_SIZE = 64 << _LEADING - 1

_KIND = ("tactic", "agent", "provider", "host", "asked", "model")
_CALLS = Table(
    "calls",
    {
        "session": "INTEGER",
        "request": "INTEGER",
        "call": "INTEGER",
        "step": "INTEGER",
        "attempt": "INTEGER",
        "kind": "INTEGER",
        "state": "TEXT",
        "status": "INTEGER",
        "error_type": "TEXT",
        "error_code": "TEXT",
        "error_message": "TEXT",
        "started": "INTEGER",
        "elapsed": "INTEGER",
        "elapsed_size": "INTEGER",
        "first_token": "INTEGER",
        "input_tokens": "INTEGER",
        "output_tokens": "INTEGER",
        "cache_read_tokens": "INTEGER",
        "cache_write_tokens": "INTEGER",
        "reasoning_tokens": "INTEGER",
        "price": "TEXT",
        "price_reason": "TEXT",
        "cost_nanos": "INTEGER",
        "cost_size": "INTEGER",
        "wasted": "INTEGER",
    },
    key=("session", "request"),
    indexes=(
        Index(("started",)),
        Index(("kind", "started")),
        Index(("elapsed_size", "started", "elapsed")),
        Index(("cost_size", "started", "cost_nanos")),
        Index(("status", "started"), where="status IS NOT NULL"),
        Index(("state", "started"), where="state <> 'success'"),
    ),
    about=(
        "Every attempt to call a model, including failed and repeated ones. session is the "
        "session's number, kind the number of agent, model and provider (call_kinds). Times are in "
        "nanoseconds, costs in nano-dollars."
    ),
)
_KIND_NUMBERS = Table(
    "call_kind_numbers",
    {**dict.fromkeys(_KIND, "TEXT"), "kind": "INTEGER"},
    key=_KIND,
    about="The number of each kind, by its values; call_kinds has the same by the number.",
    is_glossary=True,
)
_KINDS = Table(
    "call_kinds",
    {"kind": "INTEGER", **dict.fromkeys(_KIND, "TEXT")},
    key=("kind",),
    about="Tactic, agent, provider, host and model of calls, by the number of the kind.",
    is_glossary=True,
)
_NO_ERROR: dict[str, Value] = dict.fromkeys(("status", "error_type", "error_code", "error_message"))
_NO_USAGE: dict[str, Value] = dict.fromkeys(
    ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
)
_NOT_ENDED: dict[str, Value] = {
    **_NO_ERROR,
    **_NO_USAGE,
    "elapsed": None,
    "elapsed_size": 0,
    "first_token": None,
    "price": None,
    "price_reason": None,
    "cost_nanos": None,
    "cost_size": 0,
    "wasted": 0,
}


class CallsView:
    """One row for each attempt to call a model, with its outcome."""

    name = "calls"
    version = 3
    tables: Sequence[Table] = (_CALLS, _KIND_NUMBERS, _KINDS)
    readable = readable_views.CALLS
    types: Collection[str] = (
        "llm.requested",
        "llm.responded",
        "llm.failed",
        "llm.refused",
        ERASED,
        ARCHIVED,
    )

    def apply(self, rows: Rows, batch: Sequence[ViewEvent]) -> None:
        """Update the rows of attempts for some events; see `View.apply`."""
        attempts = _Attempts(rows)
        handlers: Handlers = {
            LLMRequested: attempts.begin,
            LLMResponded: attempts.end,
            LLMFailed: attempts.end,
            LLMRefused: attempts.refuse,
            SessionErased: attempts.erase,
            SessionArchived: attempts.erase,
        }
        hand_out([one for one in batch if one.session and not one.session.is_replay], handlers)
        attempts.write()


class _Attempts:
    """The attempts of one batch.

    Most attempts end in the batch in which they begin: their rows are complete when they are
    written, and none is read.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._kinds = _Kinds(rows)
        self._new: dict[Key, dict[str, Value]] = {}

    def erase(self, session: SessionContext, _: SessionResidue, __: ViewEvent) -> None:
        self._rows.delete_under("calls", session.number)
        self._new = {key: row for key, row in self._new.items() if key[0] != session.number}

    def begin(self, session: SessionContext, asked: LLMRequested, one: ViewEvent) -> None:
        host = asked.host or ""
        kind = self._kinds.of(session.tactic_path, "", asked.provider, host, asked.model, "")
        self._new[session.number, asked.request] = {
            "call": asked.call,
            "step": asked.step,
            "attempt": asked.attempt,
            "kind": kind,
            "state": "running",
            "started": one.event.time,
            **_NOT_ENDED,
        }

    def end(self, session: SessionContext, end: LLMResponded | LLMFailed, one: ViewEvent) -> None:
        key = (session.number, end.request)
        row = self._new.get(key) or self._rows.get("calls", key)
        if row is None:  # the request can't be read; the attempt counts all the same
            # A forged event may have an impossible duration.
            started = min(max(one.event.time - end.elapsed, -(2**63)), 2**63 - 1)
            begun: dict[str, Value] = {"started": started, "step": 0, "attempt": 1}
            self._new[key] = {**_NOT_ENDED, "call": None, "kind": 0, "state": "running", **begun}
        provider, host = self._kinds.place(row["kind"]) if row else ("", "")
        model = end.model or ""
        kind = self._kinds.of(session.tactic_path, end.agent, provider, host, end.asked, model)
        self._put(key, {"kind": kind, **_end_columns(end)})

    def refuse(self, session: SessionContext, refused: LLMRefused, _: ViewEvent) -> None:
        key = (session.number, refused.request)
        if key in self._new or self._rows.get("calls", key) is not None:
            self._put(key, {"wasted": 1})

    def _put(self, key: Key, columns: dict[str, Value]) -> None:
        begun = self._new.get(key)
        if begun is None:
            self._rows.put("calls", key, **columns)
        else:
            begun.update(columns)

    def write(self) -> None:
        """Write the attempts that began in this batch."""
        for key, columns in self._new.items():
            self._rows.put("calls", key, **columns)


class _Kinds:
    """The numbers of the kinds of attempts in one batch."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._numbers: dict[Key, int] = {}
        self._places: dict[Value, tuple[str, str]] = {}

    def of(self, *names: str) -> int:
        """Find the number of the kind with these values, in the order of _KIND."""
        found = self._numbers.get(names)
        if found is None:
            key = (*map(storable, names),)
            found, new = number_of(self._rows, _KIND_NUMBERS.name, key, "kind")
            self._numbers[names] = found
            if new:
                self._rows.put("call_kinds", (found,), **dict(zip(_KIND, key, strict=True)))
        return found

    def place(self, kind: Value) -> tuple[str, str]:
        """Find the provider and the host of a kind."""
        found = self._places.get(kind)
        if found is None:
            row = self._rows.get("call_kinds", (kind,))
            found = (str(row["provider"]), str(row["host"])) if row else ("", "")
            self._places[kind] = found
        return found


def _end_columns(end: LLMResponded | LLMFailed) -> dict[str, Value]:
    """Make the columns that the end of an attempt changes in its row."""
    price, elapsed = end.price, end.elapsed
    nanos = None if price is None else price.nanos
    columns: dict[str, Value] = {
        "state": "success",
        "elapsed": elapsed,
        "elapsed_size": size_of(elapsed),
        "wasted": 0,
        "cost_nanos": nanos,
        "cost_size": size_of(nanos),
        **_price_columns(price, end.usage),
        **_usage_columns(end.usage),
    }
    if isinstance(end, LLMFailed):
        return {
            **columns,
            "state": "failure",
            "wasted": 1,
            "first_token": None,
            **_error_columns(end.error),
        }
    return {**columns, "first_token": end.first_token, **_NO_ERROR}


def _price_columns(price: Price | None, usage: Usage | None) -> dict[str, Value]:
    if price is None:  # a failure for which an older version recorded only the usage
        return {"price": None if usage is None else "unpriced", "price_reason": None}
    reason = None if price.reason is None else storable(price.reason)
    return {"price": price.status, "price_reason": reason}


def _usage_columns(usage: Usage | None) -> dict[str, Value]:
    if usage is None:
        return _NO_USAGE
    return {
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cache_read_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "reasoning_tokens": usage.reasoning,
    }


def _error_columns(error: Error) -> dict[str, Value]:
    message = error.message
    if len(message) > MESSAGE_LENGTH:
        message = f"{message[:MESSAGE_LENGTH]}…"
    return {
        "status": error.status,
        "error_type": storable(error.type),
        "error_code": None if error.code is None else storable(error.code),
        "error_message": storable(message),
    }


def size_of(amount: int | None) -> int:
    """Map an amount to a size class, by which an index is cheap to maintain.

    Args:
        amount: Nanoseconds or nano-dollars; None if unknown.

    Returns:
        The number of the class, which never decreases as the amount grows; 0 for None and for
        amounts below 1.
    """
    if amount is None or amount <= 0:
        return 0
    bits = amount.bit_length()
    leading = amount >> bits - _LEADING if bits >= _LEADING else amount << _LEADING - bits
    return bits << _LEADING - 1 | leading & ~(1 << _LEADING - 1)
