"""Reads the exported file of a session, so that it can be replayed without its store."""

from __future__ import annotations

import os
from pathlib import Path

from lllm.events import codec
from lllm.events.digest import check_digest
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged, ReplayError
from lllm.events.exported_lines import NoEvent, read_lines
from lllm.events.integrity.session_root import ENDS, check_root

_MOST_BYTES = 1 << 30  # of a file, since the whole file is held in memory


def is_file(session: str | os.PathLike[str]) -> bool:
    """True if an argument is the path of an exported file, and not the id of a session.

    Args:
        session: A path or an id. Ids contain neither dots nor slashes.
    """
    return not isinstance(session, str) or "." in session or os.sep in session


def read_file(path: str | os.PathLike[str]) -> list[Recorded]:
    """Read the events of an exported session, and check each against its digest.

    Args:
        path: The path of the file that `lllm export ID --format jsonl` wrote.

    Returns:
        The events in the order of the file.

    Raises:
        ReplayError: The file does not exist, can't be read, or was changed after the export.
    """
    file = Path(path)
    try:
        size = file.stat().st_size
        if size > _MOST_BYTES:
            raise ReplayError(f"{file} has more than {_MOST_BYTES:,} bytes; it is no session's.")
        with file.open("rb") as opened:
            events = list(read_lines(opened, size))
    except OSError as error:
        raise ReplayError(
            f"{file} can't be read: {error.strerror or error}. An exported session is made by "
            "`lllm export ID --format jsonl -o FILE`."
        ) from error
    except NoEvent as error:
        raise ReplayError(
            f"{file} can't be replayed: in line {error.number}, {error}. Export the session anew."
        ) from error
    if not events:
        raise ReplayError(f"{file} is empty, so it holds no session.")
    salts: dict[str, bytes] = {}
    streams: dict[str, list[Recorded]] = {}
    for event in events:
        if event.stream not in salts and event.seq != 1:
            raise ReplayError(
                f"{file} can't be replayed: the first event of {event.stream!r} is missing."
            )
        salt = salts.setdefault(event.stream, codec.salt_of(event))
        streams.setdefault(event.stream, []).append(event)
        try:
            check_digest(event, salt)
            check_root(streams[event.stream] if event.type in ENDS else ())
        except LogDamaged as damage:
            raise ReplayError(f"{file} can't be replayed: {damage}") from damage
    return events
