"""Formats values for people on a terminal: safe texts, amounts of money, times.

Texts of models, tools and users are printed as plain text (see `lllm.terminal_safe`).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence

from lllm.projections.session.annotations import Annotation
from lllm.projections.session.invoke_cost import dollars
from lllm.terminal_safe import visible
from lllm.times import datetime_of, offset_of, shown_time, suffix_of
from lllm.tools.results import result_text

_VERDICT = 120  # characters of what is judged, and how
_IDS = 10  # ids that are listed
_MOST = 1 << 63  # nanoseconds or nano-dollars; more than this is nobody's time or money


def shortened(value: object, limit: int) -> str:
    """Format any value as one line of text; a value that is not text is shown as JSON.

    Args:
        value: The value to format.
        limit: The number of characters to show; the number of omitted ones is appended.

    Returns:
        A single line.
    """
    text = result_text(value)
    # a shorter cut would save nothing, because of the note about it
    if len(text) <= limit + len("… (+20 characters)"):
        return visible(text)
    return f"{visible(text[:limit])}… (+{len(text) - limit:,} characters)"


def cut(text: str, limit: int) -> str:
    """Cut a line of text to a length, ending with an ellipsis.

    Args:
        text: The line to cut.
        limit: The greatest number of characters.

    Returns:
        The line, safe to print.
    """
    return visible(text if len(text) <= limit else f"{text[: limit - 1]}…")


def annotation_line(said: Annotation, place: str | None = None) -> str:
    """Format an annotation on one line.

    Args:
        said: The annotation.
        place: The name of the attempt that it is about; None to show its number.

    Returns:
        Name and value, then the attempt, the comment and who says so.
    """
    line = shortened(said.name, _VERDICT)
    if said.value is not None:
        line += f"={shortened(said.value, _VERDICT)}"
    if said.step is not None:
        line += f" ({shortened(place or f'#{said.step}', _VERDICT)})"
    if said.comment:
        line += f": {shortened(said.comment, 2 * _VERDICT)}"
    return line if said.by is None else f"{line}, says {shortened(said.by, _VERDICT)}"


def annotation_value(value: object) -> str:
    """Format the value of an annotation as a filter takes it: "true", "0.5", "good".

    Args:
        value: The value.

    Returns:
        A text as it is if it is no JSON; else JSON.
    """
    if isinstance(value, str):
        try:
            json.loads(value)
        except (ValueError, RecursionError):
            return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return str(value)


def error_line(error: str) -> str:
    """Take the first line of an error, with the type's name but not its package.

    Args:
        error: A text such as "package.Type: message".

    Returns:
        A text such as "Type: message".
    """
    line = error.strip().partition("\n")[0]
    kind, colon, message = line.partition(": ")
    return f"{kind.rpartition('.')[2]}{colon}{message}"


def money(amount: float, unpriced: int = 0) -> str:
    """Format an amount of money.

    Args:
        amount: The amount in US dollars.
        unpriced: The number of calls of unknown price, which is appended; they don't count as zero.

    Returns:
        A text with as many digits as are significant.
    """
    if unpriced and not amount:
        return f"{unpriced:,} unpriced"
    if not amount:
        text = "$0"
    elif amount >= 100:
        text = f"${amount:,.2f}"
    elif amount >= 0.01:
        text = f"${amount:.4f}"
    elif amount >= 0.000001:
        text = f"${amount:.6f}"
    else:
        text = "<$0.000001"
    return f"{text} + {unpriced:,} unpriced" if unpriced else text


def nano_dollars(count: int) -> str:
    """Format nano-dollars as US dollars; an absurdly large amount is shown unconverted.

    Args:
        count: The amount in nano-dollars.

    Returns:
        A text in US dollars.
    """
    if abs(count) >= _MOST:
        return shortened(f"{count} nano-dollars", 40)
    return money(dollars(count))


def duration(seconds: float | None) -> str:
    """Format a duration.

    Args:
        seconds: The duration in seconds; None if it has not ended.

    Returns:
        The duration with its unit; a dash for None.
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
        count: The duration in nanoseconds; None if it has not ended.

    Returns:
        The duration with its unit; a dash for None.
    """
    if count is not None and abs(count) >= _MOST:
        return shortened(f"{count} ns", 40)
    return duration(None if count is None else count / 1_000_000_000)


def tokens(prompt: int, completion: int, cached: int = 0) -> str:
    """Format the numbers of input and output tokens.

    Args:
        prompt: The number of input tokens.
        completion: The number of output tokens.
        cached: The number of input tokens that were read from the provider's cache.

    Returns:
        A text such as "1,200 → 80 tokens".
    """
    text = f"{prompt:,} → {completion:,} tokens"
    return f"{text} ({cached:,} cached)" if cached else text


def counted(number: int, noun: str) -> str:
    """Format a count with its noun, such as "1 call" or "2 calls".

    Args:
        number: The number of things.
        noun: The name of one thing, in the singular.

    Returns:
        The number and the noun.
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_ids(ids: Sequence[str]) -> str:
    """List the first ids of sessions, for a message about all of them.

    Args:
        ids: The ids.

    Returns:
        At most ten of them, with "..." for the others.
    """
    return ", ".join(map(visible, ids[:_IDS])) + (", ..." if len(ids) > _IDS else "")


def moment(time: dt.datetime, zone: dt.tzinfo, *, seconds: bool = False) -> str:
    """Format a time with its offset, in a form that `--after` accepts.

    Args:
        time: The time to format.
        zone: The time zone in which it is shown.
        seconds: True to show seconds.

    Returns:
        A text that `--after` accepts.
    """
    return shown_time(time, zone, seconds=seconds) + suffix_of(time.astimezone(zone))


def one_offset(times: Iterable[dt.datetime], zone: dt.tzinfo) -> str | None:
    """Find the UTC offset that several times share in a zone, to show it once in a heading.

    Args:
        times: The times that the rows show.
        zone: The time zone in which they are shown.

    Returns:
        The offset; None if they have different ones, because clocks changed in between.
    """
    offsets = {offset_of(time.astimezone(zone)) for time in times}
    return offsets.pop() if len(offsets) == 1 else None


def moment_below(
    time: dt.datetime, zone: dt.tzinfo, offset: str | None, *, seconds: bool = False
) -> str:
    """Format a time, with its offset if the heading does not show it.

    Args:
        time: The time to format.
        zone: The time zone in which it is shown.
        offset: The UTC offset in the heading; None if the heading has none.
        seconds: True to show seconds.

    Returns:
        The time, with its offset unless the heading shows it.
    """
    return (moment if offset is None else shown_time)(time, zone, seconds=seconds)


def clock(nanoseconds_utc: int, zone: dt.tzinfo) -> str:
    """Format the time of day to the millisecond, without its offset.

    Args:
        nanoseconds_utc: The time in nanoseconds UTC.
        zone: The time zone in which it is shown.

    Returns:
        The time of day; the plain number if no date can express it.
    """
    try:
        return f"{datetime_of(nanoseconds_utc, zone).time():%H:%M:%S.%f}"[:-3]
    except OverflowError:  # the clock was set to an impossible time
        return str(nanoseconds_utc)


def day(nanoseconds_utc: int, zone: dt.tzinfo) -> str:
    """Format a day and its UTC offset, as a heading above times of day.

    Args:
        nanoseconds_utc: The time in nanoseconds UTC.
        zone: The time zone in which it is shown.

    Returns:
        The day and the offset; "" if no date can express the time.
    """
    try:
        time = datetime_of(nanoseconds_utc, zone)
    except OverflowError:
        return ""
    return f"{time:%Y-%m-%d}, {offset_of(time)}"


def clock_suffix(nanoseconds_utc: int, zone: dt.tzinfo) -> str:
    """Format the offset after a time of day that has no heading.

    Args:
        nanoseconds_utc: The time in nanoseconds UTC.
        zone: The time zone in which it is shown.

    Returns:
        The offset; "" if no date can express the time.
    """
    try:
        return suffix_of(datetime_of(nanoseconds_utc, zone), utc="Z")
    except OverflowError:
        return ""


def tag_list(tags: dict[str, str]) -> str:
    """Format tags in the way they are written on the command line.

    Args:
        tags: The tags, by name.

    Returns:
        A single line, sorted by name.
    """
    return " ".join(visible(f"{name}={value}") for name, value in sorted(tags.items()))
