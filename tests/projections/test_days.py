"""What each day of any zone cost: sums of the rows that are the events' own."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lllm import LogStore, Runtime, SQLiteBackend
from lllm.cli import cli
from lllm.events import codec
from lllm.events.model import LLMFailed, LLMResponded, Usage
from lllm.pricing.cost_summary import CostSummary
from lllm.projections.days import QUARTER_HOUR, DaysOfQuarters, day_of, day_text
from lllm.time_zones import zone_of
from lllm.times import nanoseconds_of
from tests.support.histories import Attempt, History

pytestmark = pytest.mark.money

ZONES = (
    "UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/St_Johns",
    "America/Havana", "America/Sao_Paulo", "Africa/Casablanca", "Asia/Kolkata", "Asia/Kathmandu",
    "Australia/Lord_Howe", "Australia/Eucla", "Pacific/Chatham", "Pacific/Apia",
    "Pacific/Kiritimati", "Africa/Monrovia",
)  # fmt: skip
# Days on which clocks change in one of them, a day that Apia never had, and the last days on which
# an offset was no multiple of a quarter of an hour, -00:44:30 in Monrovia.
DAYS = (
    "2026-03-29", "2026-10-25", "2026-11-01", "2018-11-04", "2018-02-18", "2011-12-30",
    "2026-04-05", "1972-01-06",
)  # fmt: skip
ANY_ZONE = st.sampled_from(ZONES).map(zone_of) | st.builds(
    lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)), st.integers(-1439, 1439)
)
FILTERS: tuple[dict[str, str | dict[str, str]], ...] = (
    {}, {"partition": "p"}, {"tactic_path": "t"}, {"tags": {"k": "x"}}, {"state": "success"},
)  # fmt: skip


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogStore]:
    """A store with calls at all times of some days, many of them within a minute of midnight in
    some zone; half of its rows are made as the calls are, and half of them anew."""
    chance = random.Random(14)  # any numbers do
    path = tmp_path_factory.mktemp("days") / "runs.db"
    with (
        pytest.MonkeyPatch.context() as patch,
        LogStore(SQLiteBackend(path), runtime=Runtime()) as store,
    ):
        now = 0
        patch.setattr("lllm.events.recorder.time.time_ns", lambda: now)
        history = History(store)
        for number, day in enumerate(DAYS * 4):
            tactic = chance.choice("tu")
            now = nanoseconds_of(day)
            session = history.start(tactic, chance.choice("pq"), {"k": chance.choice("xy")}, None)
            for _ in range(6):
                near = chance.choice([0, 1, 899_999_999_999, chance.randrange(QUARTER_HOUR)])
                now = nanoseconds_of(day) + chance.randrange(-48, 150) * QUARTER_HOUR + near
                cost = chance.choice([None, chance.randrange(10**9)])
                kind = {"failed": chance.random() < 0.2, "refused": chance.random() < 0.2}
                usage = Usage(input=number, output=1)
                model = chance.choice("mn")
                history.attempt(session, Attempt(model, "a", cost, usage=usage, **kind))
            history.finish(session, number % 2 == 0)
            if number == len(DAYS) * 2:
                store.rebuild()
        yield store


def days_by_events(store: LogStore, filters: dict[str, object], zone: dt.tzinfo) -> Counter[str]:
    """The nano-dollars of each day, from the events of the sessions that a list selects."""
    spent: Counter[str] = Counter()
    for session in store.list_sessions(**filters):  # type: ignore[arg-type] # one filter
        for event in store.events(session.session_id):
            payload = codec.decode(event)
            if isinstance(payload, LLMResponded | LLMFailed) and payload.price:
                moment = dt.datetime.fromtimestamp(event.time // 10**9, dt.UTC)
                spent[f"{moment.astimezone(zone):%Y-%m-%d}"] += payload.price.nanos or 0
    return spent


def by_day(summary: CostSummary) -> dict[str, int]:
    return {str(one["key"]): round(one["total_cost_usd"] * 10**9) for one in summary["groups"]}


@given(ANY_ZONE, st.sampled_from(FILTERS))
@example(zone_of("Africa/Monrovia"), {})
@example(dt.timezone(dt.timedelta(minutes=7)), {})
@example(dt.timezone(dt.timedelta(seconds=1)), {"tags": {"k": "x"}})
@settings(max_examples=40, deadline=None)
def test_days_of_any_zone(worked: LogStore, zone: dt.tzinfo, filters: dict[str, object]) -> None:
    """Each day costs what its calls cost, and all days are the total, also where clocks change, in
    zones of 30 and 45 minutes, and in those of odd ones, which only the events can answer."""
    asked = {**filters, "tz": zone}
    summary = worked.export_cost_summary(group_by="day", **asked)  # type: ignore[arg-type] # one filter
    assert by_day(summary) == days_by_events(worked, filters, zone)
    assert sum(by_day(summary).values()) == round(summary["total_cost_usd"] * 10**9)
    for name in ("calls", "failed_calls", "unpriced_calls", "prompt_tokens", "wasted_cost_usd"):
        parts = sum(group[name] for group in summary["groups"])  # type: ignore[literal-required] # in each line
        assert parts == pytest.approx(summary[name], abs=1e-12)  # type: ignore[literal-required] # in each line


@pytest.mark.parametrize("filters", FILTERS)
def test_days_within_groups(worked: LogStore, filters: dict[str, object]) -> None:
    """A group of days adds up to the group, and a group within a day to the day; priced anew, the
    days are the same."""
    zone = "Asia/Kathmandu"
    days = by_day(worked.export_cost_summary(group_by="day", tz=zone, **filters))  # type: ignore[arg-type] # one filter
    for by in (["day", "model"], ["model", "day"], ["tag:k", "day"], ["day", "tactic", "agent"]):
        summary = worked.export_cost_summary(group_by=by, tz=zone, **filters)  # type: ignore[arg-type] # one filter
        found: Counter[str] = Counter()
        for outer in summary["groups"]:
            inner = [group["total_cost_usd"] for group in outer["groups"]]
            assert sum(inner) == pytest.approx(outer["total_cost_usd"])
            for group in (outer,) if by[0] == "day" else outer["groups"]:
                found[str(group["key"])] += round(group["total_cost_usd"] * 10**9)
        assert found == days
        anew = worked.export_cost_summary(group_by=by, tz=zone, as_model="gpt-4o", **filters)  # type: ignore[arg-type] # one filter
        assert _keys(anew) == _keys(summary)
    assert worked.rebuild(check=True).difference is None


def _keys(summary: CostSummary) -> set[tuple[object, object]]:
    return {
        (outer["key"], inner["key"]) for outer in summary["groups"] for inner in outer["groups"]
    }


def test_the_zone_of_a_summary(worked: LogStore) -> None:
    """UTC is the default; a summary says whose days it has; a zone that there isn't is refused."""
    plain = worked.export_cost_summary(group_by="day")
    assert plain["time_zone"] == "UTC"
    assert by_day(plain) == days_by_events(worked, {}, dt.UTC)
    assert worked.export_cost_summary(tz="Asia/Kolkata")["time_zone"] is None
    named = worked.export_cost_summary(group_by=["model", "day"], tz="Asia/Kolkata")
    assert named["time_zone"] == "Asia/Kolkata"
    with pytest.raises(ValueError, match="Europe/Berlin"):
        worked.export_cost_summary(group_by="day", tz="Europe/Berln")
    with pytest.raises(TypeError, match="tzinfo"):
        worked.export_cost_summary(group_by="day", tz=2)  # type: ignore[arg-type] # what is tested


def test_days_on_the_command_line(worked: LogStore) -> None:
    """People see local days, or those asked for, under their name; programs get days of UTC unless
    they ask for others."""
    store = ["--store", str(worked.backend.path)]  # type: ignore[attr-defined] # an SQLite file

    def cost(*options: str) -> str:
        return CliRunner().invoke(cli, ["cost", "--by", "day", *options, *store]).output

    there = by_day(worked.export_cost_summary(group_by="day", tz="Asia/Kolkata"))
    lines = cost("--tz", "Asia/Kolkata").splitlines()
    assert lines[0].startswith("day (Asia/Kolkata) ")
    assert {line.split()[0] for line in lines[1:-1]} == {*there}
    assert cost("--tz", "local").splitlines()[0] == cost().splitlines()[0]
    utc = by_day(worked.export_cost_summary(group_by="day"))
    assert by_day(json.loads(cost("--json"))) == utc != there
    assert by_day(json.loads(cost("--json", "--tz", "Asia/Kolkata"))) == there
    csv_days = {line.partition(",")[0] for line in cost("--csv").splitlines()[1:]}
    assert csv_days == {*utc}


@pytest.mark.parametrize("zone", [ZoneInfo("Europe/Berlin"), dt.timezone(dt.timedelta(hours=-9))])
def test_clocks_that_are_out_of_their_mind(zone: dt.tzinfo) -> None:
    """The nearest day that there is stands for a time before the year 1 or after 9999."""
    for time in (-(10**30), 10**30):
        assert day_text(day_of(time, zone))[:4] == day_text(day_of(time))[:4]
        days = DaysOfQuarters(zone)
        assert day_text(days[time // QUARTER_HOUR])[:4] == day_text(day_of(time))[:4]
    assert DaysOfQuarters(zone)["not a number"] == "not a number"


def test_quarters_are_of_one_day_or_told() -> None:
    """A zone whose midnight is within a quarter of an hour is found out, and only there."""
    odd = dt.timezone(dt.timedelta(minutes=7))
    for zone, divided in ((odd, True), (ZoneInfo("Asia/Kathmandu"), False)):
        days = DaysOfQuarters(zone)
        for quarter in itertools.chain(range(8, 88), range(-88, -8)):
            days[quarter]
        assert not days.divided
        for quarter in range(96):
            days[quarter]
        assert days.divided == divided


@pytest.mark.parametrize(
    ("time", "day"),
    [
        (-1, 19691231),
        (0, 19700101),
        (86_400 * 10**9 - 1, 19700101),
        (86_400 * 10**9, 19700102),
        (1_709_164_800 * 10**9, 20240229),
        (-(2**63), 16770921),
        (2**63 - 1, 22620411),
        (-(2**70), 10103),  # a clock that is out of its mind
        (2**70, 99991229),
    ],
)
def test_the_day_of_a_cost(time: int, day: int) -> None:
    """It is that of UTC, and can be read in the rows."""
    assert day_of(time) == day


class Broken(dt.tzinfo):
    def utcoffset(self, _: object) -> dt.timedelta:
        raise KeyboardInterrupt


def test_an_interrupt_while_days_are_looked_up(worked: LogStore) -> None:
    """It comes as itself, as does any error of a zone that a program made."""
    for filters in ({}, {"tags": {"k": "x"}}):
        with pytest.raises(KeyboardInterrupt):
            worked.export_cost_summary(group_by="day", tz=Broken(), **filters)  # type: ignore[arg-type] # one filter
    assert worked.export_cost_summary(group_by="day", tz="Asia/Kolkata")["groups"]
