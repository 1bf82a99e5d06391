"""Formats values for people on a terminal: safe texts, amounts of money, times.

What a model, a tool or a user said is shown as text and as nothing else (see `lllm.terminal_safe`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from lllm.projections.session.annotations import Annotation
from lllm.projections.session.invoke_cost import dollars
from lllm.terminal_safe import visible
from lllm.times import datetime_of, offset_of, shown_time, suffix_of
from lllm.tools.results import result_text

_VERDICT = 120  # characters of what is judged, and how
_MOST = 1 << 63  # nanoseconds or nano-dollars; more than this is nobody's time or money


def shortened(value: object, limit: int) -> str:
    """Format any value as one line of text; a value that is not text is shown as JSON.

    Args:
        value: The value.
        limit: Characters that are shown where it is cut; how many are left out is said.

    Returns:
        The line.
    """
    text = result_text(value)
    if len(text) <= limit + len("… (+20 characters)"):  # as long as saying that it is cut
        return visible(text)
    return f"{visible(text[:limit])}… (+{len(text) - limit:,} characters)"


def cut(text: str, limit: int) -> str:
    """Cut a line of text to a length, ending with an ellipsis.

    Args:
        text: The line.
        limit: Characters, at most.

    Returns:
        The line, safe to print.
    """
    return visible(text if len(text) <= limit else f"{text[: limit - 1]}…")


def annotation_line(said: Annotation) -> str:
    """Format an annotation on one line.

    Args:
        said: The annotation.

    Returns:
        Name and value, then the attempt, the comment and who says so.
    """
    line = shortened(said.name, _VERDICT)
    if said.value is not None:
        line += f"={shortened(said.value, _VERDICT)}"
    if said.step is not None:
        line += f" (attempt {said.step:,})"
    if said.comment:
        line += f": {shortened(said.comment, 2 * _VERDICT)}"
    return line if said.by is None else f"{line}, says {shortened(said.by, _VERDICT)}"


def error_line(error: str) -> str:
    """Take the first line of an error, with the type's name but not its package.

    Args:
        error: "package.Type: message".

    Returns:
        "Type: message".
    """
    line = error.strip().partition("\n")[0]
    kind, colon, message = line.partition(": ")
    return f"{kind.rpartition('.')[2]}{colon}{message}"


def money(amount: float, unpriced: int = 0) -> str:
    """Format an amount of money.

    Args:
        amount: US dollars.
        unpriced: How many calls have a price that nobody knows. They are named, and never count as
            zero.

    Returns:
        As many digits as tell something.
    """
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
    """Format nano-dollars as US dollars; an absurdly large amount is shown unconverted.

    Args:
        count: Nano-dollars.

    Returns:
        The amount.
    """
    if abs(count) >= _MOST:
        return shortened(f"{count} nano-dollars", 40)
    return money(dollars(count))


def duration(seconds: float | None) -> str:
    """Format a duration.

    Args:
        seconds: Seconds, None where it has not ended.

    Returns:
        The duration with its unit, a dash for None.
    """
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
    """Format nanoseconds as a duration; an absurdly large one is shown unconverted.

    Args:
        count: Nanoseconds, None where it has not ended.

    Returns:
        The duration with its unit, a dash for None.
    """
    if count is not None and abs(count) >= _MOST:
        return shortened(f"{count} ns", 40)
    return duration(None if count is None else count / 1_000_000_000)


def tokens(prompt: int, completion: int, cached: int = 0) -> str:
    """Format the numbers of input and output tokens.

    Args:
        prompt: Tokens of input.
        completion: Tokens of output.
        cached: Tokens of input that the provider had in its cache.

    Returns:
        The counts.
    """
    text = f"{prompt:,} → {completion:,} tokens"
    return f"{text} ({cached:,} cached)" if cached else text


def counted(number: int, noun: str) -> str:
    """Format a count with its noun, such as "1 call" or "2 calls".

    Args:
        number: How many.
        noun: What they are called, in the singular.

    Returns:
        The count.
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def moment(time: dt.datetime, zone: dt.tzinfo, *, seconds: bool = False) -> str:
    """Format a time with its offset, in a form that `--after` accepts.

    Args:
        time: The time.
        zone: The zone to show it in.
        seconds: True to show seconds.

    Returns:
        The text.
    """
    return shown_time(time, zone, seconds=seconds) + suffix_of(time.astimezone(zone))


def one_offset(times: Iterable[dt.datetime], zone: dt.tzinfo) -> str | None:
    """Find the UTC offset that all of some times share in a zone, for a heading.

    Args:
        times: The times.
        zone: The zone.

    Returns:
        The offset; None where the clocks change between them, so that each needs its own.
    """
    offsets = {offset_of(time.astimezone(zone)) for time in times}
    return offsets.pop() if len(offsets) == 1 else None


def moment_below(
    time: dt.datetime, zone: dt.tzinfo, offset: str | None, *, seconds: bool = False
) -> str:
    """Format a time, with its offset if the heading does not show it.

    Args:
        time: The time.
        zone: The zone to show it in.
        offset: What the heading says, None where it says nothing.
        seconds: True to show seconds.

    Returns:
        The text.
    """
    return (moment if offset is None else shown_time)(time, zone, seconds=seconds)


def clock(nanoseconds_utc: int, zone: dt.tzinfo) -> str:
    """Format the time of day to the millisecond, without its offset.

    Args:
        nanoseconds_utc: Nanoseconds UTC.
        zone: The zone to show it in.

    Returns:
        The text; the number itself, of a clock that was out of its mind.
    """
    try:
        return f"{datetime_of(nanoseconds_utc, zone).time():%H:%M:%S.%f}"[:-3]
    except OverflowError:  # a clock that was out of its mind
        return str(nanoseconds_utc)


def day(nanoseconds_utc: int, zone: dt.tzinfo) -> str:
    """Format a day and its UTC offset, as a heading above times of day.

    Args:
        nanoseconds_utc: Nanoseconds UTC.
        zone: The zone to show it in.

    Returns:
        The text; "" where there is no such day.
    """
    try:
        time = datetime_of(nanoseconds_utc, zone)
    except OverflowError:
        return ""
    return f"{time:%Y-%m-%d}, {offset_of(time)}"


def clock_suffix(nanoseconds_utc: int, zone: dt.tzinfo) -> str:
    """Format the offset after a time of day that has no heading.

    Args:
        nanoseconds_utc: Nanoseconds UTC.
        zone: The zone that it is shown in.

    Returns:
        The text; "" where there is no such day.
    """
    try:
        return suffix_of(datetime_of(nanoseconds_utc, zone), utc="Z")
    except OverflowError:
        return ""


def tag_list(tags: dict[str, str]) -> str:
    """Format tags in the way they are written on the command line.

    Args:
        tags: The tags.

    Returns:
        One line, sorted by name.
    """
    return " ".join(visible(f"{name}={value}") for name, value in sorted(tags.items()))
