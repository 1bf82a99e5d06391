"""Prints the result of `lllm verify`: one line if the log is sound, else one for each damage."""

from __future__ import annotations

from collections.abc import Iterator

import click

from lllm.cli.exit_codes import Finding
from lllm.cli.render.events import SHORT_ID
from lllm.cli.render.formats import counted, shortened
from lllm.events.damage import Damage
from lllm.events.integrity.verify import Verified
from lllm.terminal_safe import visible

_LINES = 50  # damages that are listed; a file may have as many as it has lines
_LONG = 500  # characters of what is wrong


def show(verified: Verified, as_json: bool) -> None:
    """Print the result of a verification.

    Args:
        verified: What it found.
        as_json: True for one JSON object.

    Raises:
        Finding: There is something to look at; raised once all is printed.
    """
    damages = verified.damages
    if as_json:
        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        show_json(encode(verified).decode())
    else:
        for damage in damages[:_LINES]:
            click.echo(_damage_line(damage))
        if len(damages) > _LINES:
            click.echo(f"... and {len(damages) - _LINES:,} more (use --json for all)")
        for line in _notes(verified):
            click.echo(line)
    if not damages and not verified.is_sound:
        raise Finding("Somebody has to look at what is left of writes that were cut short.")
    if damages:
        raise Finding(
            f"The log is damaged in {counted(len(damages), 'place')}; "
            f"{counted(verified.events, 'event')} can be read. Restore a backup, or mend "
            "what can be mended with `lllm repair`, which keeps a copy."
        )


def _damage_line(damage: Damage) -> str:
    place = [f"position {damage.position}"] if damage.position else []
    if damage.stream:
        place.append(_stream_name(damage.stream))
    if damage.seq:
        place.append(f"event {damage.seq}")
    what = shortened(damage.what, _LONG)
    return f"{', '.join(place)}: {what}" if place else what


def _stream_name(stream: str) -> str:
    """Name a session for `lllm show`; statements have a dash in their names."""
    if "-" in stream:
        return f"statement {shortened(stream, 3 * SHORT_ID)}"
    return f"session {visible(stream[:SHORT_ID])}"


def _notes(verified: Verified) -> Iterator[str]:
    if not verified.damages:
        yield (
            f"{counted(verified.events, 'event')} in {counted(verified.streams, 'stream')} "
            "(sessions, and statements about them): every digest fits, nothing is missing."
        )
    if verified.lost:
        yield (
            f"{counted(verified.lost, 'event')} could not be written when they happened; the log "
            "itself says so (log.gap)."
        )
    if verified.unchecked:
        yield (
            f"{counted(verified.unchecked, 'event')} could not be checked: the first event of "
            "their stream is lost, and the salt of their digests with it."
        )
    if verified.torn_bytes:
        yield (
            f"{counted(verified.torn_bytes, 'byte')} at the end are the beginning of an append, or "
            "zeros: a process died while it wrote, or somebody cut the file. The next append moves "
            "them aside."
        )
    for file in verified.set_aside:
        yield (
            f"{visible(file)}: bytes that were moved aside since they are no whole append. Look at "
            "them, and move or remove the file; nothing else reads it."
        )
    yield verified.not_covered
