"""Prints the result of `lllm verify`: one line if the log is sound, else one for each damage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
import msgspec

from lllm.audit.sealing import Extension
from lllm.cli.exit_codes import Finding, NotKnown
from lllm.cli.render.events import SHORT_ID
from lllm.cli.render.formats import counted, shortened
from lllm.events.damage import Damage
from lllm.events.integrity.verify import Verified
from lllm.terminal_safe import visible

_LINES = 50  # damages that are listed; a file may have as many as it has lines
_LONG = 500  # characters of what is wrong


def show(verified: Verified, as_json: bool, extensions: Sequence[Extension] = ()) -> None:
    """Print the result of a verification.

    Args:
        verified: What it found.
        as_json: True for one JSON object.
        extensions: What it found of each seal.

    Raises:
        Finding: There is something to look at; raised once all is printed.
        NotKnown: Nothing is wrong, and a seal could not be checked.
    """
    damages = verified.damages
    if as_json:
        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        found = msgspec.to_builtins(verified)
        if extensions:
            found["checkpoints"] = [_as_json(one) for one in extensions]
        show_json(encode(found).decode())
    else:
        for damage in damages[:_LINES]:
            click.echo(_damage_line(damage))
        if len(damages) > _LINES:
            click.echo(f"... and {len(damages) - _LINES:,} more (use --json for all)")
        for line in _notes(verified, sealed=bool(extensions)):
            click.echo(line)
        for one in extensions:
            click.echo(_extension_line(one))
    _conclude(verified, extensions)


def _conclude(verified: Verified, extensions: Sequence[Extension]) -> None:
    """End the command with what is to be done, if anything is."""
    damages = verified.damages
    if not damages and not verified.is_sound:
        raise Finding("Somebody has to look at what is left of writes that were cut short.")
    if damages:
        raise Finding(
            f"The log is damaged in {counted(len(damages), 'place')}; "
            f"{counted(verified.events, 'event')} can be read. Restore a backup, or mend "
            "what can be mended with `lllm repair`, which keeps a copy."
        )
    verdicts = {verdict for one in extensions for verdict in (one.verdict, one.anchor.verdict)}
    if "wrong" in verdicts:
        raise Finding("The log is not what a seal says, or a seal is not of whom it should be.")
    if "unknown" in verdicts:
        raise NotKnown("Nothing wrong was found, and not every seal could be checked.")


def _extension_line(extension: Extension) -> str:
    anchor = extension.anchor
    return (
        f"{visible(anchor.file)}: order and completeness {extension.verdict}: "
        f"{visible(extension.says)}; signature {anchor.verdict}: {visible(anchor.says)}."
    )


def _as_json(extension: Extension) -> dict[str, object]:
    anchor = extension.anchor
    return {
        "file": anchor.file,
        "origin": anchor.checkpoint.origin,
        "size": anchor.checkpoint.size,
        "root": anchor.checkpoint.root.hex(),
        "order": extension.verdict,
        "order_says": extension.says,
        "signature": anchor.verdict,
        "signature_says": anchor.says,
    }


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


def _notes(verified: Verified, *, sealed: bool) -> Iterator[str]:
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
    if not sealed:
        yield verified.not_covered
