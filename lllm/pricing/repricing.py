"""Calculates what recorded work would cost at other prices or with another model.

The recorded usage of each attempt is priced again, one event at a time: nothing is written, and
memory use is small. The usual filters and groups select the events, and the recorded costs are
summed beside the new ones.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, TypeVar

import msgspec

from lllm.events import codec
from lllm.events.backend import LogBackend, read_types
from lllm.events.envelope import Recorded
from lllm.events.errors import ConfigError
from lllm.events.model import (
    LLMFailed,
    LLMRefused,
    LLMRequested,
    LLMResponded,
    Price,
    SessionArchived,
    SessionRestored,
    Usage,
)
from lllm.pricing.cost_summary import SummarySums, leading_tags
from lllm.pricing.local_models import why_free
from lllm.pricing.price import price
from lllm.pricing.request_media import NOTHING, Sent
from lllm.pricing.user_prices import Prices, PriceTable
from lllm.projections.database import RowsDatabase
from lllm.projections.days import QUARTER_HOUR, day_of, day_text
from lllm.projections.queries import cost_groups
from lllm.projections.queries import costs as cost_queries
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.cost_groups import Group, Keys
from lllm.projections.queries.filters import Filter
from lllm.projections.queries.selected_sessions import SelectedSession, SelectedSessions
from lllm.projections.view import storable
from lllm.projections.views.cost_totals import Billed, CostTotals

OtherPrices = Literal["recorded", "current"] | Prices | PriceTable

_TYPES = tuple(kind.type for kind in (LLMRequested, LLMResponded, LLMFailed, LLMRefused))
# Built once: `X | Y` in the loop would make a new type for each event.
_ATTEMPTS = (LLMResponded, LLMFailed)
_FEW = 4  # below 1 session in 4, reading each by itself is faster than reading the whole log
_KEPT = 10_000  # requests remembered until their answer; the oldest is forgotten beyond that

T = TypeVar("T")


class Repricing:
    """Prices attempts again: by recorded costs, today's prices, or given prices.

    Args:
        prices: "recorded", "current", or prices for `PriceTable.of`.
        as_model: The model as which all attempts are priced; None to price each as its own.
        own: The prices that the store was opened with; they apply to "current".

    Attributes:
        as_model: The model as which all attempts are priced; None to price each as its own.
        asked: The kind of prices: "recorded", "current" or "given".
        as_recorded: True if every attempt costs what was recorded.

    Raises:
        ConfigError: The prices are not valid, or `as_model` has no known price.
    """

    def __init__(self, prices: OtherPrices, as_model: str | None, own: PriceTable | None) -> None:
        self.as_model = as_model
        self.asked = prices if prices in ("recorded", "current") else "given"
        if isinstance(prices, str) and self.asked == "given":
            raise ConfigError(f'prices is "recorded", "current" or a table; not {prices!r}.')
        self._given = None if isinstance(prices, str) else PriceTable.of(prices)
        self._own = own
        self._now = time.time_ns()
        self.as_recorded = self.asked == "recorded" and as_model is None
        if as_model is not None:
            probe = self._priced(Usage(input=1), _NOWHERE, as_model, None, None, self._now)
            if probe.nanos is None:
                raise ConfigError(f"Nothing can be priced as {as_model!r}: {probe.reason}")

    def of(
        self,
        attempt: LLMResponded | LLMFailed,
        provider: str,
        began: int,
        *,
        host: str | None = None,
        port: int | None = None,
        region: str | None = None,
        sent: Sent = NOTHING,
    ) -> Price | None:
        """Price one recorded attempt.

        Args:
            attempt: The event that ended the attempt.
            provider: The provider that bills.
            began: The time at which the attempt began, nanoseconds UTC.
            host: The host that the request was sent to; None if unknown.
            port: The port that the request was sent to; None if unknown.
            region: The region in the path of the address; None if there is none.
            sent: The media and the service tier of the request.

        Returns:
            The price; None for a failed attempt without a recorded price or usage.
        """
        usage, was = attempt.usage, attempt.price
        if (was is None and usage is None) or self.as_recorded:
            return was
        where = _Destination(provider, host, port, region, sent)
        model = attempt.model or attempt.asked
        # The usage of an unfinished answer is unknown, so no prices can say what it cost.
        is_unfinished = isinstance(attempt, LLMFailed) and attempt.unfinished
        if was is not None and (is_unfinished or _from_cache(was, where, model)):
            return was
        if self.as_model is not None:
            at = began if self.asked == "recorded" else self._now
            nowhere = _NOWHERE._replace(sent=sent)
            return self._priced(usage, nowhere, self.as_model, None, attempt, at)
        return self._priced(usage, where, model, attempt.asked, attempt, self._now)

    def _priced(
        self,
        usage: Usage | None,
        where: _Destination,
        model: str,
        asked: str | None,
        attempt: LLMResponded | LLMFailed | None,
        at: int,
    ) -> Price:
        content = attempt.content if isinstance(attempt, LLMResponded) else None
        for prices in (self._given, self._own) if self._given else (self._own,):
            found = price(
                usage,
                provider=where.provider,
                model=model,
                at=at,
                service_tier=attempt.service_tier if attempt else None,
                prices=prices,
                asked=asked,
                usage_raw=attempt.usage_raw if attempt else None,
                content=content,
                host=where.host,
                port=where.port,
                region=where.region,
                sent=where.sent,
            )
            if found.source == "user" or prices is self._own:
                break
        return found


class _Destination(NamedTuple):
    """The provider that bills an attempt, the address it was sent to, and what it asked for."""

    provider: str
    host: str | None
    port: int | None
    region: str | None
    sent: Sent


# With the provider "", the model's name decides.
_NOWHERE = _Destination("", None, None, None, NOTHING)


def _from_cache(was: Price, where: _Destination, model: str) -> bool:
    """True if an answer was free for a reason other than its model, such as a cache."""
    is_free = was.status == "free" and was.source is None
    return is_free and why_free(where.provider, model, host=where.host, port=where.port) is None


class _Sums(CostTotals, gc=False):
    """The costs of attempts at other prices, and the recorded costs."""

    recorded_nanos: int = 0


def repriced(
    log: LogBackend,
    database: RowsDatabase,
    wanted: Filter,
    by: Sequence[Group],
    zone: dt.tzinfo,
    new: Repricing,
) -> SummarySums:
    """Sum what the selected sessions would cost at other prices, and what is recorded.

    Args:
        log: The log with the events.
        database: The database of rows, which selects the sessions.
        wanted: The filter of the sessions.
        by: The groups, outermost first.
        zone: The time zone of groups by day.
        new: The prices to use.

    Returns:
        The sums at the new prices, and the recorded costs.

    Raises:
        LogDamaged: The log can't be read.
    """
    with session_queries.reading(database) as connection:
        with_tags = any(group.tag for group in by)
        chosen = SelectedSessions(database, connection, wanted, with_tags=with_tags)
        tags = leading_tags(by)
        counts = cost_groups.sum_costs_by_tags(connection, wanted, tags)[1] if tags else {}
        archived = cost_queries.archived_costs(connection, wanted)
        few = len(chosen.numbers) * _FEW <= session_queries.count_all(connection)
    groups: dict[Keys, _Sums] = {}
    attempts = _Attempts(new)
    events = (
        _one_by_one(log, chosen) if few else read_types(log, _TYPES, after=chosen.numbers[0] - 1)
    )
    for event in events:
        place = chosen.place(event.stream)
        if place is None:
            continue
        taken = attempts.take(event)
        if taken is not None:
            billed, recorded = taken
            asked, agent = billed.asked, billed.agent
            keys = (*(_key(group, place, event.time, asked, agent, zone) for group in by),)
            sums = groups.get(keys)
            if sums is None:
                sums = groups[keys] = _Sums()
            sums.count(billed)
            sums.recorded_nanos += recorded
    if archived[0] and new.as_recorded:
        for keys, sums in _of_archived(log, chosen, by, zone):
            before = groups.get(keys, _Sums())
            groups[keys] = _Sums(
                *(one + two for one, two in zip(before.sums(), sums.sums(), strict=True))
            )
    found = {keys: msgspec.structs.asdict(sums) for keys, sums in groups.items()}
    total = {name: sum(sums[name] for sums in found.values()) for name in _Sums.__struct_fields__}
    return SummarySums(total, len(chosen.numbers), found if by else {}, counts, archived)


def _of_archived(
    log: LogBackend, chosen: SelectedSessions, by: Sequence[Group], zone: dt.tzinfo
) -> Iterator[tuple[Keys, _Sums]]:
    """Sum what archived sessions cost, which the log keeps by quarters of an hour."""
    archived: dict[str, SessionArchived] = {}
    for event in read_types(log, [SessionArchived.type, SessionRestored.type]):
        said = codec.decode(event)
        if isinstance(said, SessionArchived):
            archived[said.about] = said
        elif isinstance(said, SessionRestored):
            archived.pop(said.about, None)
    for session_id, said in archived.items():
        place = chosen.place(session_id)
        if place is None:
            continue
        for cell in said.cost:
            time_ = (cell.quarter or 0) * QUARTER_HOUR
            keys = (*(_key(group, place, time_, cell.model, cell.agent, zone) for group in by),)
            sums = CostTotals.of(cell)
            found = _Sums(*sums.sums())
            found.recorded_nanos = sums.cost_nanos
            yield keys, found


def _one_by_one(log: LogBackend, chosen: SelectedSessions) -> Iterator[Recorded]:
    head = log.head()
    for row in chosen.families():
        upto = head if row.last_position is None else row.last_position
        for event in log.read(after=row.number - 1, upto=upto, stream=row.id):
            if event.type in _TYPES:
                yield event


class _Attempts:
    """Finds and prices the attempts among the events of many sessions."""

    def __init__(self, new: Repricing) -> None:
        self._new = new
        self._requests: dict[tuple[str, int], LLMRequested] = {}
        self._answered: dict[tuple[str, int], int | None] = {}

    def take(self, event: Recorded) -> tuple[Billed, int] | None:
        """Handle the next event, and price it if it ends an attempt.

        Returns:
            The event with its price at the new prices, and its recorded cost in nano-dollars; None
            if the event is not billed.
        """
        payload = codec.decode(event)
        if isinstance(payload, LLMRequested):
            _remember(self._requests, (event.stream, payload.request), payload)
        elif isinstance(payload, _ATTEMPTS):
            request = (event.stream, payload.request)
            asked = self._requests.pop(request, None)
            began = event.time - payload.elapsed
            if asked is None:
                cost = self._new.of(payload, "", began)
            else:
                cost = self._new.of(
                    payload, asked.provider, began,
                    host=asked.host, port=asked.port, region=asked.region,
                    sent=Sent(asked.media, asked.service_tier),
                )  # fmt: skip
            if isinstance(payload, LLMResponded):
                _remember(self._answered, request, cost.nanos if cost else None)
            was = payload.price.nanos if payload.price else None
            return msgspec.structs.replace(payload, price=cost), was or 0
        elif isinstance(payload, LLMRefused):
            cost_of = self._answered.pop((event.stream, payload.request), None)
            return msgspec.structs.replace(payload, cost=cost_of), 0
        return None


def _remember(kept: dict[tuple[str, int], T], request: tuple[str, int], value: T) -> None:
    kept[request] = value
    if len(kept) > _KEPT:
        del kept[next(iter(kept))]


def _key(
    group: Group, place: SelectedSession, when: int, model: str, agent: str, zone: dt.tzinfo
) -> str | None:
    if group.tag:
        return place.tags.get(group.tag)
    if group.column == "tactic":
        return place.tactic
    if group.column == "day":
        return day_text(day_of(when, zone))
    return storable(model if group.column == "model" else agent)
