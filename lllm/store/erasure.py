"""Erases the content of sessions in safe steps, and finishes erasures after a crash.

The steps for each session are these. The event `session.erased` is written: it says who erased the
session, when and why, and holds what stays (path, state, times, costs). Then the views process that
event, and remove the texts from lists and sums while the payloads can still be read. Then the
payloads are removed, and the salt last. Then the write-ahead logs are emptied, and a VACUUM
rewrites the SQLite files, because unused parts of their pages still have copies. On a server it is
left for `lllm vacuum`, because it locks tables that other machines use.

The note `erasures` in the database of rows says how far an erasure is. A process that opens the
store for writing and finds an unfinished erasure finishes it, except for the VACUUM.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from lllm.events import codec
from lllm.events.backend import RewritesTables, read_types
from lllm.events.envelope import Recorded
from lllm.events.errors import (
    AppendConflict,
    ErasureRefused,
    LogError,
    LogReadOnly,
    LogUnavailable,
)
from lllm.events.integrity.erasure import check_erasable, erase_events, without_payloads
from lllm.events.model import SessionErased
from lllm.projections.queries import erasures as erasure_queries
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.erasures import ErasureState
from lllm.projections.view import ERASED
from lllm.store.erasure_lock import alone
from lllm.store.erasure_plan import ErasurePlanner, PlannedErasure
from lllm.store.erasure_report import Erasure, files_out_of_reach
from lllm.store.removal_rows import rebuild_others, rows_follow
from lllm.store.rows_place import are_in_memory

if TYPE_CHECKING:
    from lllm.store.session_host import StoreSessionHost

_logger = logging.getLogger("lllm.store")

_AT_ONCE = 100  # sessions whose payloads go together
_STATEMENTS = (
    "session.tagged", "session.annotated", "session.interrupted", "session.held",
    "session.released", "session.archived", "agent.defined",
)  # fmt: skip


class Eraser:
    """Erases the content of sessions in one store.

    Args:
        host: The open store with the sessions.

    Raises:
        ErasureRefused: The backend of the store can't erase.
        LogReadOnly: The store was opened for reading only.
    """

    def __init__(self, host: StoreSessionHost) -> None:
        self._host = host
        self._backend = host.settings.backend
        self._rows = host.rows
        self._erasable = check_erasable(self._backend)
        if host.read_only or self._rows.database.read_only:
            raise LogReadOnly(f"{self._backend!r} was opened for reading only; nothing was erased.")
        self._planner = ErasurePlanner(host)

    # -- what is erased

    def erase(
        self,
        ids: Sequence[str],
        *,
        by: str,
        reason: str,
        keep_derived: bool,
        defer_vacuum: bool,
        several: bool = False,
    ) -> Erasure:
        """Erase the content of sessions and of their descendants.

        Args:
            ids: The ids of top-level sessions.
            by: The name of the person or program that erases; it stays in the log.
            reason: The reason; it stays in the log.
            keep_derived: True to keep replays and forks of the sessions, and only list them.
            defer_vacuum: True to leave the VACUUM for later.
            several: True to skip and list sessions that can't be erased; False to raise an error
                for them.

        Returns:
            A report of what was erased and what was not.

        Raises:
            SessionNotFound: One of the sessions does not exist.
            ErasureRefused: One of the sessions can't be erased; nothing was erased.
            LogError: The log or the rows can't be written.
        """
        report = Erasure()
        with alone(self._rows.database):
            self.finish()
            for start in range(0, len(ids), _AT_ONCE):
                wanted = list(ids[start : start + _AT_ONCE])
                self._take(wanted, report, by, reason, keep_derived, several)
            unvacuumed = erasure_queries.erasure_state(self._rows.database).unvacuumed
            later = defer_vacuum
            if isinstance(self._erasable, RewritesTables):
                later = True
                self._erasable.drop_emptied()
            report.pending = unvacuumed and (later or not self._vacuum())
        report.out_of_reach = (
            *(f"the archive {one}, which has the content" for one in report.archives),
            *files_out_of_reach(self._backend),
            *self._foreign_views(),
        )
        return report

    def _take(
        self,
        wanted: list[str],
        report: Erasure,
        by: str,
        reason: str,
        keep_derived: bool,
        several: bool,
    ) -> None:
        planned: list[PlannedErasure] = []
        gone: set[int] = set()
        named: set[str] = set()
        seen: set[str] = set(report.sessions)
        while wanted:
            found = self._host.reader.find(wanted.pop(0))
            if found.row.id in seen:
                continue
            seen.add(found.row.id)
            if found.row.erased is not None:
                report.already.append(found.row.id)
                continue
            refusal = self._planner.refusal(found)
            if refusal is not None:
                if not several:
                    raise ErasureRefused(refusal.text)
                (report.held if refusal.held else report.not_ended).append(found.row.id)
                continue
            derived = self._planner.derived(found)
            if keep_derived:
                report.kept += [row.id for row in derived if row.id not in seen]
            else:
                wanted += [row.id for row in derived]
            gone |= {row.number for row in found.family}
            planned.append(self._planner.plan(found, gone, named, by, reason))
        if planned:
            self._carry_out(planned)
            report.sessions += [one for plan in planned for one in plan.ids]
            report.events += sum(len(plan.erased) for plan in planned)
            archives = {plan.archive: None for plan in planned if plan.archive is not None}
            report.archives += [one for one in archives if one not in report.archives]

    # -- the steps

    def _carry_out(self, planned: Sequence[PlannedErasure]) -> None:
        database = self._rows.database
        state = erasure_queries.erasure_state(database)
        begun = msgspec.structs.replace(state, begun=True, unvacuumed=True)
        erasure_queries.keep_erasure_state(database, begun)
        step("noted")
        try:
            positions = self._backend.append([one for plan in planned for one in plan.statements])
        except AppendConflict:
            self.finish()  # another process, which has no such lock, was faster
            return
        step("said")
        last = max(positions)
        rows_follow(self._rows, last, ERASED)
        step("rows")
        erase_events(self._backend, [event for plan in planned for event in plan.erased])
        step("payloads")
        self._end(last)

    def _end(self, last: int) -> None:
        """Remove erased content from views that don't process erasures, and note the end."""
        database = self._rows.database
        rebuild_others(self._rows, last, ERASED)
        step("views")
        if not are_in_memory(database):
            database.empty_write_ahead_log()
        state = erasure_queries.erasure_state(database)
        carried_out = max(last, state.carried_out)
        erasure_queries.keep_erasure_state(database, ErasureState(False, carried_out, True))
        step("done")

    def finish(self) -> None:
        """Finish erasures that a crash interrupted. The caller must hold the lock (`alone`)."""
        database = self._rows.database
        state = erasure_queries.erasure_state(database)
        if state.begun:
            self._rows.catch_up(timeout=5.0)
        with session_queries.reading(database) as connection:
            last = erasure_queries.last_erasure(connection)
            rows = (
                erasure_queries.erased_after(connection, state.carried_out)
                if last > state.carried_out
                else []
            )
        if not rows:
            if state.begun:
                erasure_queries.keep_erasure_state(
                    database, msgspec.structs.replace(state, begun=False)
                )
            return
        rows_follow(self._rows, last, ERASED)
        erase_events(self._backend, self._left_of(rows))
        self._end(last)

    def _left_of(self, rows: Sequence[session_queries.SessionRow]) -> list[Recorded]:
        """Return the events of erased sessions that still have a payload, in erased form."""
        backend = self._backend
        left: list[Recorded] = []
        streams: set[str] = set()
        for row in rows:
            upto = row.last_position or row.erasure
            left += without_payloads(backend.read(after=row.number - 1, upto=upto, stream=row.id))
            at = row.erasure or 0
            for event in backend.read(after=at - 1, upto=at):
                said = codec.decode(event)
                if isinstance(said, SessionErased):
                    streams |= set(said.streams)
        if streams:
            for event in read_types(backend, _STATEMENTS):
                if event.stream in streams:
                    left += without_payloads([event])
        return left

    # -- files

    def vacuum(self) -> bool:
        """Remove copies of erased content from files; False if a reader still uses them."""
        with alone(self._rows.database):
            self.finish()
            return self._vacuum()

    def _vacuum(self) -> bool:
        database = self._rows.database
        # This takes as long as a VACUUM of a large search index, so it is done together with one.
        self._rows.projector.remove_deleted_words()
        done = self._erasable.vacuum()
        step("vacuum")
        if not done and isinstance(self._erasable, RewritesTables):
            return False
        if not are_in_memory(database) and not self._rows.projector.rows_in_log:
            database.vacuum()
            done = database.empty_write_ahead_log() and done
        if done:
            state = erasure_queries.erasure_state(database)
            if state.unvacuumed:
                erasure_queries.keep_erasure_state(
                    database, msgspec.structs.replace(state, unvacuumed=False)
                )
                if not are_in_memory(database):
                    database.empty_write_ahead_log()
        return done

    def _foreign_views(self) -> list[str]:
        """Return the views of other programs, whose rows this process can't change."""
        ours = {view.name for view in self._rows.views}
        return [
            f"the rows of the view {name!r}, which another program registered: they follow when it "
            "opens the store"
            for name in sorted(self._rows.projector.checkpoints())
            if name not in ours
        ]


def step(name: str) -> None:
    """Mark the end of a step of an erasure. Tests stop the process here.

    Args:
        name: The name of the step.
    """
    del name


def finish_erasures(host: StoreSessionHost) -> None:
    """Finish an erasure that a crash interrupted, when a store is opened for writing.

    Args:
        host: The store that was just opened.
    """
    database = host.rows.database
    if host.read_only or database.read_only or not host.persists:
        return
    try:
        with session_queries.reading(database) as connection:
            last = erasure_queries.last_erasure(connection)
        state = erasure_queries.erasure_state(database)
        if not state.begun and last <= state.carried_out:
            return
        with suppress(LogUnavailable), alone(database, 0):  # else another is at it just now
            Eraser(host).finish()
    except (LogError, ErasureRefused) as error:
        _logger.error("an erasure that was begun could not be finished: %s", error)
