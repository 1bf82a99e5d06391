"""Statistics of calls: what a reader who has the whole list works out, in every grouping."""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lllm.projections.queries.call_statistics
from lllm import LogStore
from lllm.events.backends.memory import MemoryBackend
from lllm.events.model import Usage
from lllm.projections.queries.call_statistics import CALL_GROUPS, CallStatistics
from lllm.store.call_records import CallRecord
from tests.support.histories import Attempt, History
from tests.support.random_histories import write

BERLIN = ZoneInfo("Europe/Berlin")


def percentile(times: Sequence[float], percent: int) -> float | None:
    """Nearest rank, in the words of its definition."""
    for time in sorted(times):
        if sum(one <= time for one in times) * 100 >= percent * len(times):
            return time
    return None


def is_of(found: CallStatistics, records: Sequence[CallRecord]) -> None:
    """The statistics are those of these records."""
    answered = [one for one in records if one.state == "success"]
    elapsed = [one.elapsed for one in answered if one.elapsed is not None]
    first = [one.first_token for one in answered if one.first_token is not None]
    assert found.calls == len(records)
    assert found.failed_calls == sum(one.state == "failure" for one in records)
    assert found.rate_limited_calls == sum(one.status == 429 for one in records)
    assert found.retries == sum(one.attempt > 1 for one in records)
    for percent in (50, 95, 99):
        assert getattr(found, f"elapsed_p{percent}") == percentile(elapsed, percent)
    for percent in (50, 95):
        assert getattr(found, f"first_token_p{percent}") == percentile(first, percent)


def key_of(record: CallRecord, group: str) -> str:
    """The group that a record belongs to."""
    if group == "model":
        return record.model or record.asked
    if group == "tactic":
        return record.tactic_path
    if group in ("day", "hour"):
        local = record.timestamp.astimezone(BERLIN)
        return f"{local:%Y-%m-%d}" if group == "day" else f"{local:%Y-%m-%d %H}:00"
    return str(getattr(record, group))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), tagged=st.booleans())
def test_they_are_those_of_the_list(seed: int, tagged: bool) -> None:
    with LogStore(MemoryBackend()) as store:
        chance = random.Random(seed)
        for _ in range(3):
            write(store, chance)
        tags = {"env": "x"} if tagged else None
        records = store.list_calls(tags=tags)
        for group in CALL_GROUPS:
            summary = store.summarize_calls(group_by=group, tags=tags, tz=BERLIN)
            assert summary.complete
            is_of(summary.total, records)
            assert [one.key for one in summary.groups] == list(
                dict.fromkeys(one.key for one in summary.groups)
            )
            assert {one.key for one in summary.groups} == {key_of(one, group) for one in records}
            for one in summary.groups:
                is_of(one, [record for record in records if key_of(record, group) == one.key])


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    return LogStore.open(tmp_path / "runs.db")


def attempts(store: LogStore, *given: Attempt) -> None:
    """A session with some attempts."""
    history = History(store)
    session = history.start("p::a", "", {}, None)
    for one in given:
        history.attempt(session, one)


def answered(seconds: float, **given: object) -> Attempt:
    """An attempt that took some seconds."""
    usage = Usage(input=1, output=1)
    elapsed = round(seconds * 10**9)
    return Attempt("m", "a", 1, False, usage, elapsed=elapsed, **given)  # type: ignore[arg-type]


def test_percentiles_count_answers_only(store: LogStore) -> None:
    with store:
        failed = Attempt("m", "a", None, True, None, status=429, elapsed=10**12)
        attempts(store, *(answered(number) for number in range(1, 101)), failed)
        total = store.summarize_calls().total
    assert (total.calls, total.failed_calls, total.rate_limited_calls) == (101, 1, 1)
    assert (total.elapsed_p50, total.elapsed_p95, total.elapsed_p99) == (50, 95, 99)
    assert total.first_token_p50 is None


def test_nothing_is_summed_up_as_nothing(store: LogStore) -> None:
    with store:
        summary = store.summarize_calls(group_by="model")
    assert summary.groups == []
    assert (summary.total.calls, summary.total.elapsed_p50) == (0, None)


def test_more_than_are_read_is_said(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lllm.projections.queries.call_statistics, "MOST", 3)
    with store:
        attempts(store, *(answered(number) for number in (100, 1, 2, 3)))
        summary = store.summarize_calls(group_by="model")
        assert not summary.complete
        assert (summary.total.calls, summary.total.elapsed_p99) == (3, 3)  # the newest


def test_days_and_hours_are_of_the_zone_and_in_their_order(store: LogStore) -> None:
    with store:
        attempts(store, answered(1))
        now = dt.datetime.now(dt.UTC)
        offset = dt.timezone(dt.timedelta(hours=11))
        (day,) = store.summarize_calls(group_by="day", tz=offset).groups
    began = (now - dt.timedelta(minutes=1)).astimezone(offset)
    assert day.key in (f"{began:%Y-%m-%d}", f"{now.astimezone(offset):%Y-%m-%d}")
    assert not math.isnan(day.elapsed_p50 or 0)


def test_what_can_not_be_asked(store: LogStore) -> None:
    with store:
        with pytest.raises(ValueError, match="group_by is one of model"):
            store.summarize_calls(group_by="tag:x")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="error is an HTTP status"):
            store.summarize_calls(error="")
