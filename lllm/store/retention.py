"""Erases sessions that are older than a number of days."""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING

import msgspec

from lllm.projections.database import RowsDatabase
from lllm.projections.queries import erasures as erasure_queries
from lllm.projections.queries import sessions as session_queries
from lllm.store.erasure import Eraser
from lllm.store.erasure_lock import who
from lllm.store.erasure_report import Erasure

if TYPE_CHECKING:
    from lllm.store.methods.listing import ListsSessions
    from lllm.store.session_host import StoreSessionHost

_logger = logging.getLogger("lllm.store")


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """The result of applying a retention period.

    Attributes:
        before: Sessions that began before this time have exceeded the period.
        older: The ids of these sessions, without those that are erased already or held.
        held: The ids of these sessions that a legal hold protects.
        running: The ids of these sessions that still run.
        erasure: The report of the erasure; None for a dry run, or if no session was too old.
    """

    before: dt.datetime
    older: list[str]
    held: list[str]
    running: list[str]
    erasure: Erasure | None


def retain(
    store: ListsSessions,
    host: StoreSessionHost,
    *,
    days: int,
    dry_run: bool,
    reason: str | None,
    by: str | None,
    defer_vacuum: bool,
) -> Retention:
    """Erase sessions that are too old; see `LogStore.retain`."""
    if days < 1:
        raise ValueError(f"days must be at least 1, not {days}")
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    found = [one for one in store.list_sessions(before=before, replays=True) if one.erased is None]
    held_ids = _held(host)
    running = [one.session_id for one in found if one.state == "running"]
    held = [one.session_id for one in found if one.session_id in held_ids]
    left = {*running, *held}
    older = [one.session_id for one in found if one.session_id not in left]
    erasure = None
    if older and not dry_run:
        erasure = Eraser(host).erase(
            older, by=who(by), reason=reason or f"older than {days} days", keep_derived=False,
            defer_vacuum=defer_vacuum, several=True,
        )  # fmt: skip
    _logger.info(
        "retain: %d sessions are older than %d days, %d of them held and %d running; %s",
        len(found), days, len(held), len(running),
        f"{len(erasure.sessions)} were erased" if erasure else "nothing was erased",
    )  # fmt: skip
    return Retention(before=before, older=older, held=held, running=running, erasure=erasure)


def _held(host: StoreSessionHost) -> set[str]:
    """Return the root sessions of all trees in which a session has a hold."""

    def ask(database: RowsDatabase) -> set[str]:
        with session_queries.reading(database) as connection:
            return erasure_queries.held_roots(connection)

    return host.rows.ask(ask)
