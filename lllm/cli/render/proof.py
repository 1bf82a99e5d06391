"""Prints the result of checking a proof."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import click

from lllm.audit.check_proof import CheckedProof, ProvenStream
from lllm.cli.exit_codes import Finding, NotKnown
from lllm.cli.render.formats import counted
from lllm.cli.render.verify import check_as_json
from lllm.terminal_safe import visible
from lllm.times import datetime_of, shown_time

NOT_SHOWN = (
    "What this does not show: that what a model or a tool said is true, that a call outside of "
    "lllm did not happen, that the clock of the recording machine was right, or, without an anchor "
    "outside, that whoever has the log and the key did not make both anew."
)


def show(checked: CheckedProof, as_json: bool) -> None:
    """Print the result of a check.

    Args:
        checked: The result of the check.
        as_json: True to print one JSON object.

    Raises:
        Finding: The check found something wrong. It is raised after everything is printed.
        NotKnown: Nothing is wrong, but nothing from outside of the file vouches for the checkpoint.
    """
    if as_json:
        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        show_json(encode(_as_json(checked)).decode())
    else:
        for line in _lines(checked):
            click.echo(visible(line))
    verdicts = [checked.verdict, checked.signature, *(one.verdict for one in checked.outside)]
    if "wrong" in verdicts:
        raise Finding("The proof is not what it should be.")
    if checked.signature == "unknown":
        raise NotKnown(
            "Nothing wrong was found, and nothing from outside of the file vouches for its "
            "checkpoint: give --key KEY.pub, or --checkpoint FILE."
        )
    if "unknown" in verdicts:
        raise NotKnown("Nothing wrong was found, but not every anchor could be checked.")


def _lines(checked: CheckedProof) -> Iterator[str]:
    yield f"events: {checked.verdict}: {checked.says}"
    for one in checked.streams:
        yield _stream_line(one)
    if checked.checkpoint is not None:
        yield (
            f"checkpoint: of the log {checked.checkpoint.origin}, with "
            f"{counted(checked.checkpoint.size, 'event')}."
        )
    yield f"signature: {checked.signature}: {checked.signature_says}"
    for check in checked.outside:
        yield f"{check.kind}: {check.verdict}: {check.says}."
    yield NOT_SHOWN


def _stream_line(stream: ProvenStream) -> str:
    times = _time(stream.first_time)
    if stream.last_time != stream.first_time:
        times += f" to {_time(stream.last_time)}"
    hidden = stream.events - stream.shown
    content = "" if not hidden else f", {hidden:,} without content"
    complete = (
        "nothing of it is missing"
        if stream.complete
        else "whether there are more of it is not proven"
    )
    return f"{stream.stream}: {counted(stream.events, 'event')}{content}, {times}; {complete}."


def _time(nanoseconds_utc: int) -> str:
    return shown_time(datetime_of(nanoseconds_utc), dt.UTC, seconds=True)


def _as_json(checked: CheckedProof) -> dict[str, object]:
    checkpoint = checked.checkpoint
    return {
        "events": checked.verdict,
        "events_say": checked.says,
        "signature": checked.signature,
        "signature_says": checked.signature_says,
        "outside": [check_as_json(one) for one in checked.outside],
        "checkpoint": None
        if checkpoint is None
        else {
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": checkpoint.root.hex(),
        },
        "streams": [
            {name: getattr(one, name) for name in one.__struct_fields__} for one in checked.streams
        ],
    }
