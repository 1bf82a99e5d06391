"""Values as people read them on a terminal: texts that can't harm it, amounts, times, counts.

What a model, a tool or a user said is shown as text and as nothing else (see `lllm.terminal_safe`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from lllm.projections.session.invoke_cost import dollars
from lllm.terminal_safe import visible
from lllm.times import datetime_of, offset_of, shown_time, suffix_of
from lllm.tools.results import result_text

_MOST = 1 << 63  # nanoseconds or nano-dollars; more than this is nobody's time or money


def shortened(value: object, limit: int) -> str:
    """Any value as one line of text, JSON where it is no text itself.

    limit: characters that are shown where it is cut; how many are left out is said.
    """
    text = result_text(value)
    if len(text) <= limit + len("… (+20 characters)"):  # as long as saying that it is cut
        return visible(text)
    return f"{visible(text[:limit])}… (+{len(text) - limit:,} characters)"


def cut(text: str, limit: int) -> str:
    """A line of text, its end an ellipsis where it has more characters than `limit`."""
    return visible(text if len(text) <= limit else f"{text[: limit - 1]}…")


def error_line(error: str) -> str:
    """The first line of "package.Type: message", without the package."""
    line = error.strip().partition("\n")[0]
    kind, colon, message = line.partition(": ")
    return f"{kind.rpartition('.')[2]}{colon}{message}"


def money(amount: float, unpriced: int = 0) -> str:
    """US dollars. unpriced: calls whose price nobody knows; they are said, and are never zero."""
    if unpriced and not amount:
        return f"{unpriced:,} unpriced"
    if amount >= 100:
        text = f"${amount:,.2f}"
    elif amount >= 0.01 or not amount:
        text = f"${amount:.4f}"
    elif amount >= 0.000001:
        text = f"${amount:.6f}"
    else:
        text = "<$0.000001"
    return f"{text} + {unpriced:,} unpriced" if unpriced else text


def nano_dollars(count: int) -> str:
    """US dollars from nano-dollars; what nobody pays is shown as the number that it is."""
    if abs(count) >= _MOST:
        return shortened(f"{count} nano-dollars", 40)
    return money(dollars(count))


def duration(seconds: float | None) -> str:
    """How long something took; a dash where it has not ended."""
    if seconds is None:
        return "-"
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def nanoseconds(count: int | None) -> str:
    """The same from nanoseconds; what no clock counts is shown as the number that it is."""
    if count is not None and abs(count) >= _MOST:
        return shortened(f"{count} ns", 40)
    return duration(None if count is None else count / 1_000_000_000)


def tokens(prompt: int, completion: int, cached: int = 0) -> str:
    """What went in and what came out."""
    text = f"{prompt:,} → {completion:,} tokens"
    return f"{text} ({cached:,} cached)" if cached else text


def counted(number: int, noun: str) -> str:
    """ "1 call", "2 calls"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def moment(time: dt.datetime, zone: dt.tzinfo, *, seconds: bool = False) -> str:
    """A time in a zone, with its offset, in a form that `--after` takes back."""
    return shown_time(time, zone, seconds=seconds) + suffix_of(time.astimezone(zone))


def one_offset(times: Iterable[dt.datetime], zone: dt.tzinfo) -> str | None:
    """The offset that all of some times have in a zone, for a heading; None where the clocks change
    between them, so that each needs its own."""
    offsets = {offset_of(time.astimezone(zone)) for time in times}
    return offsets.pop() if len(offsets) == 1 else None


def moment_below(
    time: dt.datetime, zone: dt.tzinfo, offset: str | None, *, seconds: bool = False
) -> str:
    """A time in a zone; with its offset, where no heading has said it."""
    return (moment if offset is None else shown_time)(time, zone, seconds=seconds)


def clock(nanoseconds_utc: int, zone: dt.tzinfo) -> str:
    """The time of day in a zone, to the millisecond, without its offset."""
    try:
        return f"{datetime_of(nanoseconds_utc, zone).time():%H:%M:%S.%f}"[:-3]
    except OverflowError:  # a clock that was out of its mind
        return str(nanoseconds_utc)


def day(nanoseconds_utc: int, zone: dt.tzinfo) -> str:
    """The day in a zone and its offset, for a heading above clocks; "" where there is none."""
    try:
        time = datetime_of(nanoseconds_utc, zone)
    except OverflowError:
        return ""
    return f"{time:%Y-%m-%d}, {offset_of(time)}"


def clock_suffix(nanoseconds_utc: int, zone: dt.tzinfo) -> str:
    """The offset to stand behind a clock that has no heading."""
    try:
        return suffix_of(datetime_of(nanoseconds_utc, zone), utc="Z")
    except OverflowError:
        return ""


def tag_list(tags: dict[str, str]) -> str:
    """Tags as they are given on the command line."""
    return " ".join(visible(f"{name}={value}") for name, value in sorted(tags.items()))
