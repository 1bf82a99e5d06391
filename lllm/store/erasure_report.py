"""Reports the result of an erasure, and tells readers that a session was erased."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from lllm.events.backend import LeavesCopies, LogBackend
from lllm.events.errors import SessionWasArchived, SessionWasErased
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
        sessions: The ids of the erased sessions, child sessions included.
        events: The number of payloads that were erased.
        already: The ids of selected sessions that were erased earlier.
        kept: The ids of replays and forks that were kept. They may contain the same texts.
        held: The ids of sessions that were not erased because of a legal hold.
        not_ended: The ids of sessions that were not erased because they still run, or belong to
            another session.
        archives: The archive files that still have the content of erased sessions.
        pending: True until a VACUUM has run: unused parts of the files may still have copies. In
            PostgreSQL, only `vacuum()` runs it.
        out_of_reach: Places where the same content may still be, and where lllm can't erase it.
    """

    sessions: list[str] = []
    events: int = 0
    already: list[str] = []
    kept: list[str] = []
    held: list[str] = []
    not_ended: list[str] = []
    archives: list[str] = []
    pending: bool = False
    out_of_reach: tuple[str, ...] = OUT_OF_REACH


def files_out_of_reach(backend: LogBackend) -> tuple[str, ...]:
    """List places outside of a log that may have copies of its content.

    Args:
        backend: The backend of the log.
    """
    if isinstance(backend, LeavesCopies):
        return (*OUT_OF_REACH, *backend.copies_elsewhere)
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
    """Return a text that says when, by whom and why a session was erased; None if it was not.

    Args:
        row: The row of the session.
    """
    if row.erased is None:
        return None
    when = datetime_of(row.erased).strftime("%Y-%m-%d %H:%M UTC")
    return f"erased on {when} by {row.erased_by} because: {row.erased_reason}"


def archived_text(row: SessionRow) -> str | None:
    """Say when a session was archived, and where it is; None if it was not.

    Args:
        row: Of the session.
    """
    if row.archived is None:
        return None
    when = datetime_of(row.archived).strftime("%Y-%m-%d %H:%M UTC")
    return f"archived on {when} to {row.archive}"


def refuse_gone(row: SessionRow) -> None:
    """Raise the error for a session whose content is asked for and is not in the store any more.

    Args:
        row: The row of the session.

    Raises:
        SessionWasErased: The content of the session was erased.
        SessionWasArchived: The session was archived.
    """
    text = erased_text(row)
    if text is not None:
        raise SessionWasErased(f"Session {row.id} was {text}.")
    refuse_archived(row)


def refuse_archived(row: SessionRow) -> None:
    """Raise the error for a session whose events were archived.

    Args:
        row: Of the session.

    Raises:
        SessionWasArchived: It was archived.
    """
    text = archived_text(row)
    if text is not None:
        raise SessionWasArchived(
            f"Session {row.id} was {text}. Read it there, with `--store`, or bring it back with "
            "`lllm import`."
        )
