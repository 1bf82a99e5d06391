"""Times as people write and read them, in any zone, also where clocks change."""

from __future__ import annotations

import datetime as dt
import io
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lllm import LogStore, SQLiteBackend
from lllm.cli import cli
from lllm.cli.render.events import EventLines
from lllm.cli.render.session_list import show_list
from lllm.doctor.advice import _gaps
from lllm.doctor.facts import Gap, LogFacts
from lllm.time_zones import zone_name, zone_of
from lllm.times import (
    datetime_of,
    in_zone,
    midnight,
    nanoseconds_of,
    offset_of,
    parse_time,
    shown_time,
    suffix_of,
)
from tests.support.histories import Attempt, History

BERLIN = ZoneInfo("Europe/Berlin")
# Clocks go forward in the first hour of 2018-11-04 there, and back in that of 2018-02-18.
SAO_PAULO = ZoneInfo("America/Sao_Paulo")
HAVANA = ZoneInfo("America/Havana")  # back from 01:00 to 00:00 on 2026-11-01
ZONES = st.sampled_from([
    "Europe/Berlin", "America/Sao_Paulo", "America/Havana", "Asia/Kathmandu", "Asia/Kolkata",
    "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati", "America/St_Johns", "UTC",
])  # fmt: skip


def utc(text: str) -> dt.datetime:
    """A moment in UTC."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


NOON = utc("2026-03-29T10:00")  # in Berlin, on the day of 23 hours


# -- what is written


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", "2026-03-29T10:00"),
        ("Today", "2026-03-28T23:00"),
        ("yesterday", "2026-03-27T23:00"),
        ("30m", "2026-03-29T09:30"),
        ("90s", "2026-03-29T09:58:30"),
        ("12h", "2026-03-28T22:00"),  # twelve hours, though clocks have changed
        ("1d", "2026-03-28T11:00"),  # noon of the day before, 23 hours ago
        ("2w", "2026-03-15T11:00"),
        ("1d12h", "2026-03-27T23:00"),
        ("0d", "2026-03-29T10:00"),
        ("2026-03-29", "2026-03-28T23:00"),
        ("2026-03-30", "2026-03-29T22:00"),
        ("2026-03-29T12:00", "2026-03-29T10:00"),
        ("2026-03-29 12:00:30", "2026-03-29T10:00:30"),
        ("2026-03-29 02:30", "2026-03-29T01:30"),  # is skipped, and is 03:30
        ("2025-10-26 02:30", "2025-10-26T00:30"),  # comes twice: the first
        ("2026-03-29T12:00Z", "2026-03-29T12:00"),
        ("2026-03-29T12:00+05:45", "2026-03-29T06:15"),
        ("2026-03-29 12:00 UTC", "2026-03-29T12:00"),
        ("2026-03-29 12:00 UTC+02:00", "2026-03-29T10:00"),
        ("2026-03-29 12:00 -03:00", "2026-03-29T15:00"),
        (" 2026-03-29T12 ", "2026-03-29T10:00"),
    ],
)
def test_what_people_write(text: str, moment: str) -> None:
    """Each form is of the zone, and of the present that is given."""
    assert parse_time(text, BERLIN, at=NOON) == utc(moment)


@pytest.mark.parametrize(
    ("day", "zone", "moment"),
    [
        ("2018-11-04", SAO_PAULO, "2018-11-04T03:00"),  # begins at 01:00
        ("2018-02-18", SAO_PAULO, "2018-02-18T03:00"),
        ("2026-11-01", HAVANA, "2026-11-01T04:00"),  # the first of two midnights
        ("2011-12-30", ZoneInfo("Pacific/Apia"), "2011-12-30T10:00"),  # a day that never was
        ("2026-05-01", ZoneInfo("Asia/Kathmandu"), "2026-04-30T18:15"),
    ],
)
def test_midnight(day: str, zone: ZoneInfo, moment: str) -> None:
    """A day begins with its first moment, also where midnight is skipped or comes twice."""
    assert parse_time(day, zone) == utc(moment)
    noon = midnight(dt.date.fromisoformat(day), zone).astimezone(dt.UTC) + dt.timedelta(hours=9)
    if day != "2011-12-30":
        assert parse_time("today", zone, at=noon) == utc(moment)


@pytest.mark.parametrize(
    "text",
    ["", "7", "7x", "d", "7d 2", "-7d", "7.5d", "\u0667d", "tomorrow", "2026-13-01", "24:00", "UTC",
     "2026-01-31T18:00+99:00", "2026-01-31+01:00", "now UTC"],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    """It is refused with the forms that there are."""
    with pytest.raises(ValueError, match="is not a time; write it as 7d, 12h"):
        parse_time(text, BERLIN)


@pytest.mark.parametrize("text", ["99999999d", f"{'9' * 400}w", "0001-01-01T00:00+02:00"])
def test_times_beyond_the_calendar(text: str) -> None:
    """What is before the year 1 is told, however far."""
    with pytest.raises(ValueError, match="before the year 1"):
        parse_time(text, BERLIN)


def test_one_meaning_of_a_time_without_offset() -> None:
    """A text, a naive datetime and a date are all of `tz`, UTC by default; an offset says more."""
    noon = dt.datetime(2026, 7, 1, 12)
    for tz, hour in (("UTC", 12), ("Europe/Berlin", 10), (BERLIN, 10), ("+05:30", 6.5)):
        expected = round(utc("2026-07-01").timestamp() + hour * 3600) * 10**9
        assert nanoseconds_of(noon, tz) == nanoseconds_of("2026-07-01T12:00", tz) == expected
        day = nanoseconds_of(dt.date(2026, 7, 1), tz)
        assert day == nanoseconds_of("2026-07-01", tz) == expected - 12 * 3600 * 10**9
        aware = in_zone(noon, ZoneInfo("Asia/Tokyo"))
        assert nanoseconds_of(aware, tz) == nanoseconds_of("2026-07-01T12:00+09:00", tz)
    assert nanoseconds_of(noon) == nanoseconds_of(noon, "UTC")
    for wrong in (5, None, dt.time()):
        with pytest.raises(TypeError, match="a moment is"):
            nanoseconds_of(wrong)  # type: ignore[arg-type] # what is tested


# -- zones


@pytest.mark.parametrize(
    "name", ["Europe/Berln", "Europe", "", "/etc/passwd", "../x", "Europe/\0", "+25:00", "+01:75"]
)
def test_a_zone_that_there_is_not(name: str) -> None:
    """The error says what to write; it leads to no file."""
    with pytest.raises(ValueError, match=r"Europe/Berlin|\+05:30"):
        zone_of(name)


def test_without_a_database_of_zones(tmp_path: Path) -> None:
    """Where the machine has none, the error says how to get one; UTC, offsets and local work."""
    program = (
        "import sys; sys.modules['tzdata'] = None\n"
        "from lllm.time_zones import zone_of\n"
        "for name in ('UTC', 'local', '+05:30'): zone_of(name)\n"
        "zone_of('Europe/Berlin')"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, timeout=60,
        env=os.environ | {"PYTHONTZPATH": str(tmp_path)},
    )  # fmt: skip
    assert "ValueError: There is no time zone 'Europe/Berlin' here" in run.stderr
    assert "pip install tzdata" in run.stderr


def test_names_of_zones() -> None:
    """A zone is called as it was asked for."""
    assert zone_name(zone_of("utc")) == "UTC"
    assert zone_name(BERLIN) == "Europe/Berlin"
    assert zone_name(zone_of("UTC-03:30")) == "UTC-03:30"
    with pytest.raises(TypeError, match="a tzinfo"):
        zone_of(5)  # type: ignore[arg-type] # what is tested


LOCAL_ZONES = """
import datetime as dt, os, pickle, time, zoneinfo
from lllm.time_zones import LOCAL, local_zone, zone_of
assert zone_of("Local") is LOCAL is pickle.loads(pickle.dumps(LOCAL))
for name in ("Europe/Berlin", "America/Sao_Paulo", "America/Havana", "Asia/Kathmandu",
             "Australia/Lord_Howe", "Pacific/Apia", "UTC"):
    os.environ["TZ"] = name
    time.tzset()
    zone = zoneinfo.ZoneInfo(name)
    assert local_zone() is (dt.UTC if name == "UTC" else LOCAL), name
    moment = dt.datetime(2011, 1, 1, tzinfo=dt.UTC)
    end = dt.datetime(2012, 1, 2, tzinfo=dt.UTC)
    while moment < end:
        here, there = moment.astimezone(LOCAL), moment.astimezone(zone)
        assert here.replace(tzinfo=zone) == there and here.fold == there.fold, (name, moment)
        assert here.utcoffset() == there.utcoffset()
        naive = moment.replace(tzinfo=None)  # among them, those that are skipped
        offsets = [naive.replace(tzinfo=one).utcoffset() for one in (LOCAL, zone)]
        assert offsets[0] == offsets[1], (name, naive)
        tomorrow = moment + dt.timedelta(days=1)
        close = tomorrow.astimezone(zone).utcoffset() != (moment - dt.timedelta(
            days=1)).astimezone(zone).utcoffset()
        moment += dt.timedelta(minutes=30) if close else dt.timedelta(hours=19)
    print(LOCAL.tzname(None))
for far in (dt.datetime.max, dt.datetime.min):
    far.replace(tzinfo=LOCAL).utcoffset()
import logging
from lllm.logging import ColoredFormatter
record = logging.LogRecord("lllm.tactic", logging.INFO, "x", 1, "said", (), None)
os.environ["TZ"] = "Asia/Kathmandu"
time.tzset()
print(ColoredFormatter(colors=False).format(record))
"""


def test_the_local_zone() -> None:
    """It is the one that TZ names, with all its changes of offset, hours that come twice and hours
    that never come; a line of the terminal's log says its offset."""
    run = subprocess.run(
        [sys.executable, "-c", LOCAL_ZONES], text=True, capture_output=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[:4] == ["CET/CEST", "UTC-03", "CST/CDT", "UTC+0545"]
    assert re.match(r"\d\d:\d\d:\d\d\+05:45 ", lines[-1])


def test_the_local_zone_of_the_command_line(path: str) -> None:
    """Without --utc and --tz, times are shown and read in the local zone."""
    program = "import sys; from lllm.cli import main; sys.exit(main())"
    run = subprocess.run(
        [sys.executable, "-c", program, "ls", "--after", "2026-03-29", "--store", path],
        text=True, capture_output=True, timeout=60, env=os.environ | {"TZ": "Asia/Kathmandu"},
    )  # fmt: skip
    assert "STARTED (UTC+05:45)" in run.stdout
    assert run.stdout.count("success") == 2  # the first began at 23:30 UTC of the day before


# -- what is shown


@given(st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2200, 1, 1)), ZONES)
def test_what_is_shown_is_read_back(naive: dt.datetime, name: str) -> None:
    """A time as it is shown, with its offset, is the same moment when it is written."""
    zone = zone_of(name)
    moment = naive.replace(microsecond=0, tzinfo=dt.UTC)
    there = moment.astimezone(zone)
    shown = shown_time(moment, zone, seconds=True)
    for offset in (suffix_of(there), f" {offset_of(there)}"):
        if not (there.utcoffset() or dt.timedelta()).seconds % 60:
            assert parse_time(shown + offset, dt.UTC) == moment
    assert datetime_of(nanoseconds_of(moment), zone) == moment


def test_times_of_a_checkup() -> None:
    """What the doctor says of lost events is of the zone asked for."""
    log = LogFacts(
        kind="sqlite", read_only=False, head=1, erased=0, held=0,
        gaps=(Gap(1, 12, 0, 5 * 10**9, "full"),),
    )  # fmt: skip
    (remark,) = _gaps(log, ZoneInfo("Asia/Kathmandu"))
    assert "from 1970-01-01 05:30:00+05:30 to 1970-01-01 05:30:05+05:30" in remark.says


# -- on the command line


class Clock:
    """Has each event written at the time that it is set to."""

    def __init__(self) -> None:
        self.at = 0

    def __call__(self) -> int:
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the recorders."""
    clock = Clock()
    monkeypatch.setattr("lllm.events.recorder.time.time_ns", clock)
    return clock


@pytest.fixture
def path(tmp_path: Path, clock: Clock) -> str:
    """A store with a session before and one after the clocks changed in Berlin, at 01:00 UTC."""
    path = str(tmp_path / "runs.db")
    with LogStore(SQLiteBackend(path)) as store:
        history = History(store)
        for moment in ("2026-03-28T23:30", "2026-03-29T08:00"):
            clock.at = nanoseconds_of(utc(moment))
            session = history.start("t", "", {}, None)
            history.attempt(session, Attempt("gpt-4o-mini", "a", 10, False, None))
            history.finish(session, True)
    return path


def lllm(*arguments: str, columns: int = 80) -> str:
    """What a command prints."""
    run = CliRunner().invoke(cli, list(arguments), env={"COLUMNS": str(columns)})
    return run.output


@pytest.mark.parametrize(
    ("options", "started"),
    [
        (["--utc"], ["(UTC)", "2026-03-29 08:00 ", "2026-03-28 23:30 "]),
        (["--tz", "Asia/Tokyo"], ["(UTC+09:00)", "2026-03-29 17:00 ", "2026-03-29 08:30 "]),
        (["--tz", "Europe/Berlin"], [" 2026-03-29 10:00+02:00 ", " 2026-03-29 00:30+01:00 "]),
    ],
)
def test_times_of_a_list(path: str, options: list[str], started: list[str]) -> None:
    """The heading says the offset; where clocks changed between two lines, each says its own."""
    shown = lllm("ls", *options, "--store", path)
    places = [shown.index(one) for one in started]
    assert places == sorted(places)
    assert ("(UTC" in shown) == (started[0][0] == "(")
    assert shown == lllm(*options, "ls", "--store", path)  # before the command, too


@pytest.mark.parametrize(
    ("when", "count"),
    [
        (["--after", "2026-03-29"], 2),
        (["--after", "2026-03-29", "--utc"], 1),
        (["--utc", "--before", "2026-03-29T08:00"], 1),
        (["--before", "2026-03-29T10:00"], 1),
        (["--before", "2026-03-29T10:01"], 2),
        (["--after", "today"], 2),
        (["--after", "yesterday", "--before", "today"], 0),
        (["--after", "yesterday", "--before", "today", "--utc"], 1),
        (["--after", "1d"], 2),
        (["--after", "3h"], 1),
    ],
)
def test_times_that_select(
    path: str, monkeypatch: pytest.MonkeyPatch, when: list[str], count: int
) -> None:
    """They are read in the zone in which times are shown, wherever it stands among the options."""
    monkeypatch.setattr("lllm.times.now", lambda: NOON)
    zone = [] if "--utc" in when else ["--tz", "Europe/Berlin"]
    shown = lllm("ls", *when, *zone, "--store", path)
    assert shown.count("success") == count
    with LogStore(SQLiteBackend(path)) as store:
        filters = {
            name[2:]: text for name, text in pairwise(when) if name in ("--after", "--before")
        }
        tz = zone[-1] if zone else "UTC"
        assert len(store.list_sessions(**filters, tz=tz)) == count  # type: ignore[arg-type] # two texts
        assert store.export_cost_summary(**filters, tz=tz)["session_count"] == count  # type: ignore[arg-type] # two texts


def test_times_of_a_session_and_its_events(path: str) -> None:
    """A session says its start with the offset, and each event in a pipe."""
    with LogStore(SQLiteBackend(path)) as store:
        first = store.list_sessions()[-1].session_id
    shown = lllm("show", first, "--tz", "Europe/Berlin", "--store", path)
    assert "started 2026-03-29 00:30:00+01:00" in shown
    assert "started 2026-03-28 23:30:00 UTC" in lllm("show", first, "--utc", "--store", path)
    for options, time in (
        (["--tz", "Asia/Kathmandu"], "05:15:00.000+05:45"), (["--utc"], "23:30:00.000Z"),
    ):  # fmt: skip
        lines = lllm("events", first, *options, "--store", path).splitlines()
        assert {line.split()[2] for line in lines} == {time}


def test_days_of_events_on_a_terminal(path: str) -> None:
    """The day and its offset stand above the events, and again where another begins or clocks
    change."""
    with LogStore(SQLiteBackend(path)) as store:
        events = list(store.log.read())
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, color_system=None)
    lines = EventLines(console, ZoneInfo("Europe/London"), with_session=True)
    for event in events:
        lines.show(event)
    printed = file.getvalue().splitlines()
    assert [line for line in printed if line.startswith("--")] == [
        "-- 2026-03-28, UTC", "-- 2026-03-29, UTC+01:00",
    ]  # fmt: skip
    assert printed[0].startswith("--")
    assert {len(line) <= 80 for line in printed} == {True}
    assert printed[1].split()[3] == "23:30:00.000"


def test_a_list_on_a_narrow_terminal(path: str) -> None:
    """Where there is no room for a table, the offset stands above the lines."""
    with LogStore(SQLiteBackend(path)) as store:
        sessions = store.list_sessions()
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, color_system=None)
    for zone in (zone_of("+05:45"), BERLIN):
        show_list(console, sessions, zone)
    first, *lines = file.getvalue().splitlines()
    assert first == "times are UTC+05:45"
    assert "2026-03-29 13:45 " in lines[0]
    assert "2026-03-29 10:00+02:00" in lines[4]
    assert {len(line.rstrip()) <= 80 for line in lines} == {True}


def test_programs_get_utc(path: str) -> None:
    """--json says nanoseconds or UTC, whatever the zone of people."""
    with LogStore(SQLiteBackend(path)) as store:
        first = store.list_sessions()[-1].session_id
    for command in (["ls"], ["events", first], ["show", first]):
        plain, there = (
            lllm(*command, "--json", "--store", path, *zone)
            for zone in ([], ["--tz", "Asia/Kathmandu"])
        )
        assert plain == there
    assert "2026-03-28T23:30:00Z" in lllm("ls", "--json", "--store", path)


def test_zones_that_are_asked_for_wrongly(path: str) -> None:
    """A zone that there isn't, and two at once, are bad input."""
    for options in (["--tz", "Europe/Berln"], ["--utc", "--tz", "UTC"]):
        run = CliRunner().invoke(cli, ["ls", *options, "--store", path])
        assert run.exit_code == 2
