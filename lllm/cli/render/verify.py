"""Prints the result of `lllm verify`: one line if the log is sound, else one for each damage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
import msgspec

from lllm.audit.extension import Extension
from lllm.audit.sealing import Anchor
from lllm.audit.verdict import AnchorCheck, Verdict, worst
from lllm.cli.exit_codes import Finding, NotKnown
from lllm.cli.render.events import SHORT_ID
from lllm.cli.render.formats import counted, shortened
from lllm.events.damage import Damage
from lllm.events.integrity.verify import Verified
from lllm.terminal_safe import visible

NOT_SHOWN = (
    "No check shows that what a model or a tool said is true, that a call outside of lllm "
    "happened, that the clock was right, or that nobody rewrote all of it before a seal was kept "
    "elsewhere."
)

_LINES = 50  # damages that are listed; a file may have one on each line
_LONG = 500  # characters shown of a description


def show(verified: Verified, as_json: bool, extensions: Sequence[Extension] = ()) -> None:
    """Print the result of a verification.

    Args:
        verified: The result of the verification.
        as_json: True to print one JSON object.
        extensions: The result of the check of each seal.

    Raises:
        Finding: The log or a seal is damaged; raised after everything is printed.
        NotKnown: Nothing is wrong, but a seal could not be checked.
    """
    if as_json:
        from lllm.cli.render.json_text import show_json
        from lllm.events.codec import encode

        found = msgspec.to_builtins(verified)
        found["verdicts"] = verdicts(verified, extensions)
        found["not_shown"] = NOT_SHOWN
        if extensions:
            found["checkpoints"] = [_as_json(one) for one in extensions]
        show_json(encode(found).decode())
    else:
        for line in verification_lines(verified, extensions):
            click.echo(line)
    _conclude(verified, extensions)


def verification_lines(verified: Verified, extensions: Sequence[Extension] = ()) -> Iterator[str]:
    """Describe the result of a verification: damages first, then what was checked.

    Args:
        verified: The result of the verification.
        extensions: The result of the check of each seal.

    Yields:
        The lines, without hostile characters.
    """
    damages = verified.damages
    yield from map(_damage_line, damages[:_LINES])
    if len(damages) > _LINES:
        yield f"... and {len(damages) - _LINES:,} more (use --json for all)"
    yield from _notes(verified)
    yield from _order(verified, extensions)
    if not damages:
        yield NOT_SHOWN


def _conclude(verified: Verified, extensions: Sequence[Extension]) -> None:
    """End the command with advice, if anything has to be done."""
    damages = verified.damages
    found = verdicts(verified, extensions)
    if damages:
        raise Finding(
            f"The log is damaged in {counted(len(damages), 'place')}; "
            f"{counted(verified.events, 'event')} can be read. Restore a backup, or mend "
            "what can be mended with `lllm repair`, which keeps a copy."
        )
    if found["order"] == "wrong":
        raise Finding("The log is not what it was when the seal was made. Look for a backup.")
    if "wrong" in [one.anchor.verdict for one in extensions]:
        raise Finding("A seal is not signed by the expected signer: it proves nothing.")
    if found["anchors"] == "wrong":
        raise Finding("A timestamp or a cosignature does not fit its seal, or is not trusted.")
    if not verified.is_sound:
        raise Finding("Somebody has to look at the remains of incomplete writes.")
    if "unknown" in found.values():
        raise NotKnown("Nothing wrong was found, but not every seal and anchor could be checked.")


def verdicts(verified: Verified, extensions: Sequence[Extension]) -> dict[str, Verdict | None]:
    """Sum up a verification.

    Args:
        verified: The result of checking the events.
        extensions: The result of checking each seal.

    Returns:
        The worst verdict on integrity (no event was changed), on order and completeness, and on
        anchors; None for the last two if no seal was given.
    """
    return {
        "integrity": "wrong" if verified.damages else "good",
        "order": worst([one.verdict for one in extensions]),
        "anchors": worst([verdict for one in extensions for verdict in _verdicts(one.anchor)]),
    }


def _verdicts(anchor: Anchor) -> list[Verdict]:
    return [anchor.verdict, *(one.verdict for one in anchor.outside)]


def _order(verified: Verified, extensions: Sequence[Extension]) -> Iterator[str]:
    """Describe how the order of the events and the end of the log were checked."""
    if not extensions:
        yield f"Order and completeness: {verified.not_covered}"
    for one in extensions:
        anchor = one.anchor
        yield (
            f"Order and completeness: {one.verdict}. Of {visible(anchor.file)}: "
            f"{visible(one.says)}."
        )
    for one in extensions:
        anchor = one.anchor
        yield f"Anchor: {anchor.verdict}. {visible(anchor.file)}: {visible(anchor.says)}."
        for check in anchor.outside:
            yield (
                f"Anchor: {check.verdict}. {check.kind.capitalize()} of {visible(anchor.file)}: "
                f"{visible(check.says)}."
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
        "outside": [check_as_json(one) for one in anchor.outside],
    }


def check_as_json(check: AnchorCheck) -> dict[str, object]:
    """Make the JSON form of what a timestamp or a witness shows.

    Args:
        check: The result of checking the anchor.
    """
    return {
        "kind": check.kind,
        "by": check.by,
        "verdict": check.verdict,
        "says": check.says,
        "existed_by": None if check.time is None else check.time.isoformat(),
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


def _notes(verified: Verified) -> Iterator[str]:
    if verified.damages:
        yield f"Integrity: wrong. {counted(verified.events, 'event')} can be read."
    else:
        yield (
            f"Integrity: good. {counted(verified.events, 'event')} in "
            f"{counted(verified.streams, 'stream')} (sessions, and statements about them): every "
            "digest fits, nothing is missing."
        )
    if verified.archived:
        yield (
            f"{counted(verified.archived, 'event')} left the log for an archive: their digests are "
            "here, and fit; `lllm verify --store ARCHIVE` checks their content."
        )
    if verified.lost:
        yield (
            f"{counted(verified.lost, 'event')} could not be written when they happened; the log "
            "itself says so (log.gap)."
        )
    if verified.unchecked:
        yield (
            f"{counted(verified.unchecked, 'event')} could not be checked: the first event of "
            "their stream is lost, and with it the salt of their digests."
        )
    if verified.torn_bytes:
        yield (
            f"{counted(verified.torn_bytes, 'byte')} at the end are an incomplete append, or "
            "zeros: a process died while it wrote, or somebody cut the file. The next append moves "
            "them aside."
        )
    for file in verified.set_aside:
        yield (
            f"{visible(file)}: bytes that were moved aside because they are not a complete append. "
            "Look at them, and move or remove the file; nothing else reads it."
        )
