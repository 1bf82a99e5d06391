"""What an erasure did, what it could not reach, and the sentence that readers get afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from lllm.events.backend import LogBackend
from lllm.events.errors import SessionWasErased
from lllm.projections.queries.sessions import SessionRow
from lllm.times import datetime_of

OUT_OF_REACH = (
    "backups and copies of the store",
    "exported sessions and lists, and other stores that imported them",
    "proofs and checkpoint files that were given away",
    "spans and log lines that were sent elsewhere",
    "snapshots of file systems that copy on write (btrfs, ZFS, APFS), and spare blocks of flash "
    "drives",
)
_LEFT_BY_REPAIR = (".torn", ".damaged", ".kept")


class Erasure(msgspec.Struct, kw_only=True):
    """The result of an erasure.

    Attributes:
        sessions: The ids of the sessions that were erased, those below others included.
        events: How many payloads were erased.
        already: Of the sessions that were asked for, those that had been erased before.
        kept: Replays and forks of them that were kept, and may hold the same texts.
        held: Sessions that were left because a legal hold keeps them.
        not_ended: Sessions that were left because they still run, or are a part of another.
        pending: True until a VACUUM has run: copies may stay in the gaps of SQLite's pages.
        out_of_reach: Where else the same content may be, which lllm can't erase.
    """

    sessions: list[str] = []
    events: int = 0
    already: list[str] = []
    kept: list[str] = []
    held: list[str] = []
    not_ended: list[str] = []
    pending: bool = False
    out_of_reach: tuple[str, ...] = OUT_OF_REACH


def files_out_of_reach(backend: LogBackend) -> tuple[str, ...]:
    """List where else the content of a log may be, files beside it included.

    Args:
        backend: The log.
    """
    path = getattr(backend, "path", None)
    if not isinstance(path, Path):
        return OUT_OF_REACH
    folder = path if path.is_dir() else path.parent
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return OUT_OF_REACH
    found = [
        f"{folder / name}, which a repair set aside"
        for name in names
        if any(mark in name for mark in _LEFT_BY_REPAIR)
        and (path.is_dir() or name.startswith(path.name))
    ]
    return (*OUT_OF_REACH, *found)


def erased_text(row: SessionRow) -> str | None:
    """Say when, by whom and why a session was erased; None if it was not.

    Args:
        row: Of the session.
    """
    if row.erased is None:
        return None
    when = datetime_of(row.erased).strftime("%Y-%m-%d %H:%M UTC")
    return f"erased on {when} by {row.erased_by} because: {row.erased_reason}"


def refuse_erased(row: SessionRow) -> None:
    """Raise the error for a session whose content is asked for and was erased.

    Args:
        row: Of the session.

    Raises:
        SessionWasErased: It was.
    """
    text = erased_text(row)
    if text is not None:
        raise SessionWasErased(f"Session {row.id} was {text}.")
