"""Values as the command line shows them, on both sides of every bound."""

from __future__ import annotations

import datetime as dt

import pytest

from lllm.cli.render import formats as shown
from lllm.durations import duration_nanoseconds

ZONE = dt.timezone(dt.timedelta(hours=2))
SECOND = 10**9


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0.0 ms"),
        (0.009, "9.0 ms"),
        (0.01, "10 ms"),
        (0.9994, "999 ms"),
        (0.9995, "1.0 s"),
        (59.94, "59.9 s"),
        (59.95, "1 min 00 s"),
        (61.4, "1 min 01 s"),
        (3599.0, "59 min 59 s"),
        (3600.0, "1 h 00 min"),
        (7384.0, "2 h 03 min"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    """Times are rounded into the unit that fits them, and never to sixty of one."""
    assert shown.duration(seconds) == text


def test_numbers_beyond_any_clock() -> None:
    """What is no time and no money is shown as the number that it is."""
    most = 1 << 63
    assert shown.nanoseconds(None) == "-"
    assert shown.nanoseconds(1_500_000_000) == "1.5 s"
    assert shown.nanoseconds(most) == f"{most} ns"
    assert "h" in shown.nanoseconds(most - 1)
    assert shown.nano_dollars(2_500_000_000) == "$2.5000"
    assert shown.nano_dollars(-most) == f"{-most} nano-dollars"
    assert shown.nano_dollars(most - 1).startswith("$9,223,372,036.85")
    assert shown.nanoseconds(10**60) == f"{'1' + '0' * 39}… (+24 characters)"
    assert shown.nano_dollars(10**60) == f"{'1' + '0' * 39}… (+34 characters)"


@pytest.mark.parametrize(
    ("amount", "unpriced", "text"),
    [
        (0, 0, "$0"),
        (0, 2, "2 unpriced"),
        (1, 1_000, "$1.0000 + 1,000 unpriced"),
        (100, 0, "$100.00"),
        (99.99999, 0, "$100.0000"),
        (1234.5, 0, "$1,234.50"),
        (0.01, 0, "$0.0100"),
        (0.009999, 0, "$0.009999"),
        (0.000001, 0, "$0.000001"),
        (0.0000009, 0, "<$0.000001"),
    ],
)
def test_money(amount: float, unpriced: int, text: str) -> None:
    """Small amounts keep their digits, and what nobody knows is said."""
    assert shown.money(amount, unpriced) == text


def test_long_texts() -> None:
    """A text is cut where that makes it shorter, and what is left out is said."""
    assert shown.shortened("x" * 28, 10) == "x" * 28
    assert shown.shortened("x" * 29, 10) == f"{'x' * 10}… (+19 characters)"
    assert shown.shortened({"a": 1}, 10) == '{"a":1}'
    assert shown.cut("x" * 10, 10) == "x" * 10
    assert shown.cut("x" * 11, 10) == f"{'x' * 9}…"
    assert shown.error_line(" a.b.Kind: of.it: x\nmore") == "Kind: of.it: x"
    assert shown.error_line("a.b.Kind") == "Kind"


def test_counts() -> None:
    """Numbers have their nouns, and tags are written as they are given."""
    assert [shown.counted(number, "call") for number in (0, 1, 2, 1_000)] == [
        "0 calls", "1 call", "2 calls", "1,000 calls",
    ]  # fmt: skip
    assert shown.tokens(1_000, 2) == "1,000 → 2 tokens"
    assert shown.tokens(1_000, 2, 3_000) == "1,000 → 2 tokens (3,000 cached)"
    assert shown.tag_list({"b": "2", "a": "1\x1b"}) == "a=1\\x1b b=2"


def test_moments() -> None:
    """Clocks say their offset where no heading does; a clock out of its mind is a number."""
    time = dt.datetime(2026, 3, 1, 12, 30, 5, 678_900, tzinfo=dt.UTC)
    nanoseconds = int(time.timestamp()) * SECOND + 678_900_000
    assert shown.clock(nanoseconds, ZONE) == "14:30:05.678"
    assert shown.day(nanoseconds, ZONE) == "2026-03-01, UTC+02:00"
    assert shown.clock_suffix(nanoseconds, ZONE) == "+02:00"
    assert shown.clock_suffix(nanoseconds, dt.UTC) == "Z"
    for wrong in (10**40, -(10**40)):
        assert shown.clock(wrong, ZONE) == str(wrong)
        assert shown.day(wrong, ZONE) == shown.clock_suffix(wrong, ZONE) == ""
    assert shown.one_offset([time, time], ZONE) == "UTC+02:00"
    assert shown.one_offset([], ZONE) is None
    below = shown.moment_below(time, ZONE, "UTC+02:00")
    assert shown.moment_below(time, ZONE, None) == f"{below}+02:00" == shown.moment(time, ZONE)


@pytest.mark.parametrize(
    ("given", "nanoseconds"),
    [
        ("500ms", 500_000_000),
        ("5s", 5 * SECOND),
        (" 5 ", 5 * SECOND),
        ("1.5 min", 90 * SECOND),
        ("2m", 120 * SECOND),
        ("2h", 7_200 * SECOND),
        (0, 0),
        (1, SECOND),
        (0.25, SECOND // 4),
        (dt.timedelta(microseconds=3), 3_000),
        (10.0**30, 2**63 - 1),
    ],
)
def test_lengths_of_time(given: str | float | dt.timedelta, nanoseconds: int) -> None:
    """What a user says is exact to the nanosecond."""
    assert duration_nanoseconds(given) == nanoseconds


@pytest.mark.parametrize("given", [-1, float("inf"), float("nan"), "", "5 days", "-1s", "1e3"])
def test_no_length_of_time(given: str | float) -> None:
    """What is no length of time is refused."""
    with pytest.raises(ValueError, match="a duration is"):
        duration_nanoseconds(given)


def test_a_bool_is_no_length_of_time() -> None:
    """Nor is anything of another type."""
    with pytest.raises(TypeError, match="not True"):
        duration_nanoseconds(True)
