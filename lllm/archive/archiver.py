"""Moves sessions from a store to archive files: the order of its steps, and what a crash leaves.

For some hundred sessions at once: a note says which file is being written. The file is written,
synced, read again and named. Then one append says of every session that it is there now. Then the
rows follow, the events are removed from the log, and the note is removed.

A process that finds the note when it opens the store to write finishes what was begun: if the log
says that the sessions are in the file, their events are removed, once the file was read again. If
it does not say so yet, the file is removed, and all sessions stay.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from lllm.archive.archive_plan import ArchivePlanner, Leaf, LeavingSession, statements_of
from lllm.archive.archive_report import ArchivedSessions
from lllm.archive.write_archive import draft_of, write_archive
from lllm.events import codec
from lllm.events.backend import (
    ErasesPayloads,
    RemovesEvents,
    RewritesTables,
    read_digests,
    read_types,
)
from lllm.events.backends.archive.archive_file import SUFFIX, state_of
from lllm.events.backends.sqlite.errors import FileErrors
from lllm.events.envelope import Recorded
from lllm.events.errors import ArchiveRefused, LogError, LogReadOnly, LogUnavailable
from lllm.events.files.own_files import make_folder, sync_folder
from lllm.events.ids import new_id
from lllm.projections.engine.rebuild import only_rebuild
from lllm.projections.queries import archivals
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.load_session import FoundSession
from lllm.projections.queries.sessions import SessionRow
from lllm.projections.view import ARCHIVED
from lllm.store.erasure_lock import alone
from lllm.store.removal_rows import rebuild_others, rows_follow
from lllm.store.residue import archived_at

if TYPE_CHECKING:
    from lllm.projections.database import RowsDatabase
    from lllm.store.session_host import StoreSessionHost

_logger = logging.getLogger("lllm.store")

_SESSIONS = 1_000  # at the top, in one file
_BYTES = 64 << 20  # of payloads in one file, about
_TRIES = 5  # times in a row that others change the sessions for one file meanwhile
_STATEMENTS = (
    "session.tagged", "session.annotated", "session.interrupted", "session.held",
    "session.released",
)  # fmt: skip
_AT_ONCE = 2_000  # events that one transaction removes, during which other writers wait


class Archiver:
    """Moves sessions of one store to archive files.

    Args:
        host: The open store.

    Raises:
        ArchiveRefused: Events can't be removed from its log.
        LogReadOnly: It was opened to be read only.
    """

    def __init__(self, host: StoreSessionHost) -> None:
        self._host = host
        self._rows = host.rows
        backend = host.settings.backend
        if host.read_only or self._rows.database.read_only:
            raise LogReadOnly(f"{backend!r} was opened to be read only; nothing is archived.")
        if not isinstance(backend, RemovesEvents):
            raise ArchiveRefused(
                f"Nothing can be archived from {backend!r}: events leave an SQLite or PostgreSQL "
                "store only, since elsewhere the others would change their positions. `lllm "
                "import` copies sessions into such a store."
            )
        self._backend = backend
        self._planner = ArchivePlanner(host)

    def archive(
        self, ids: Sequence[str], folder: Path, *, by: str, dry_run: bool, defer_vacuum: bool
    ) -> ArchivedSessions:
        """Move sessions to new files in a folder.

        Args:
            ids: Of sessions at the top.
            folder: The folder; created if it does not exist.
            by: Who archives them.
            dry_run: Change nothing.
            defer_vacuum: Leave the VACUUM for later.

        Returns:
            What was done, or would be.

        Raises:
            ArchiveRefused: The folder can't have archives.
            LogError: A file or the log can't be written.
            MissingExtra: The extra `archive` is not installed.
        """
        why_not = getattr(self._backend, "why_not_removable", None)
        if why_not is not None:
            raise ArchiveRefused(f"Nothing can be archived from {self._backend!r}: {why_not}")
        report = ArchivedSessions(dry_run=dry_run)
        with alone(self._rows.database):
            self.finish()
            self._check_folder(folder)
            wanted = self._movable(ids, report)
            if dry_run:
                report.sessions += [found.row.id for found in wanted]
                return report
            tries = _TRIES
            since = self._caught_up()
            while (first := next(wanted, None)) is not None:
                with FileErrors(folder):
                    make_folder(folder, parents=True)
                again = self._move(chain([first], wanted), folder, report, by, since)
                wanted = chain(self._movable(again, report), wanted)
                tries = tries - 1 if again else _TRIES
                if not tries:
                    raise LogUnavailable(
                        f"Others keep tagging the sessions that are to be archived, as {again[0]}. "
                        "They stay; try again later."
                    )
                since = self._caught_up()
            if report.sessions:
                if isinstance(self._backend, RewritesTables):  # others would wait
                    self._backend.drop_emptied()
                    defer_vacuum = True
                report.pending = defer_vacuum or not self._vacuum()
        return report

    def _vacuum(self) -> bool:
        return isinstance(self._backend, ErasesPayloads) and self._backend.vacuum()

    def _movable(self, ids: Sequence[str], report: ArchivedSessions) -> Iterator[FoundSession]:
        """Find the sessions that may leave, and note why others stay."""
        stay = {"held": report.held, "running": report.running, "in use": report.in_use}
        for session_id in ids:
            found = self._planner.find(session_id)
            if isinstance(found, FoundSession):
                yield found
            elif found in stay:
                stay[found].append(session_id)

    def _check_folder(self, folder: Path) -> None:
        """Refuse a folder that is no place for archives.

        Raises:
            ArchiveRefused: It is a file, or belongs to a store.
        """
        if folder.exists() and not folder.is_dir():
            raise ArchiveRefused(
                f"{folder} is a file. Name a folder, in which each archive is a file of its own."
            )
        own = self._rows.database.lock_folder
        places = [folder.resolve(), *folder.resolve().parents]
        if own is not None and own.resolve() in places:
            raise ArchiveRefused(
                f"{folder} is inside of the store, which removes and replaces its own files. Name "
                "a folder outside of it."
            )
        if any((place / "log.json").exists() for place in places[:2]):
            raise ArchiveRefused(
                f"{folder} belongs to a JSONL store. Name a folder outside of stores."
            )

    # -- the steps

    def _move(
        self,
        wanted: Iterator[FoundSession],
        folder: Path,
        report: ArchivedSessions,
        by: str,
        since: int,
    ) -> list[str]:
        """Move the next sessions to one file.

        It returns the ids of sessions that stay for now, because others said something of them
        after the position `since`, from which on they were read.
        """
        database = self._rows.database
        leaving: list[LeavingSession] = []
        path = folder / f"{new_id()}{SUFFIX}"
        archivals.note_archive(database, str(path))
        step("noted")
        try:
            written = write_archive(
                path, self._read(wanted, leaving, report), written=lambda: step("written")
            )
        except Exception:
            archivals.note_archive(database, None)
            raise
        step("named")
        statements = statements_of(leaving, written, by)
        # Known trade-off (accepted): a tag that is set in the instant between this look and the
        # append is in the log, but not among the tags of the archived session.
        if not leaving or self._spoken_of(leaving, since):
            self._undo(path)
            return [one.found.row.id for one in leaving]
        with self._no_rebuild():
            try:
                last = max(self._backend.append(statements))
            except LogError:
                self._undo(path)
                raise
            step("said")
            self._follow(last)
            step("rows")
            self._remove([leaf for one in leaving for leaf in one.leaves])
            step("removed")
        archivals.note_archive(database, None)
        step("done")
        rebuild_others(self._rows, last, ARCHIVED)
        report.sessions += [one.found.row.id for one in leaving]
        report.files.append(str(path))
        report.bytes += written.bytes
        report.events += sum(len(one.events) for one in leaving)
        report.payload_bytes += sum(one.size for one in leaving)
        return []

    def _spoken_of(self, leaving: Sequence[LeavingSession], since: int) -> bool:
        """True if the log has statements about sessions, after a position."""
        ids = {row.id for one in leaving for row in one.found.family}
        late = map(codec.decode, read_types(self._backend, _STATEMENTS, after=since))
        return any(getattr(said, "about", None) in ids for said in late)

    def _read(
        self,
        wanted: Iterator[FoundSession],
        leaving: list[LeavingSession],
        report: ArchivedSessions,
    ) -> Iterator[list[Recorded]]:
        """Read the events of the sessions for one file."""
        size = 0
        for found in wanted:
            session = self._planner.read(found)
            if session is None:
                report.damaged.append(found.row.id)
            else:
                leaving.append(session)
                size += session.size
                yield [*session.related, *session.events]
            if len(leaving) >= _SESSIONS or size >= _BYTES:
                return

    @contextmanager
    def _no_rebuild(self) -> Iterator[None]:
        """Keep others from a rebuild, which would find a part of a session's events."""
        with only_rebuild(self._rows.database.process_lock("rebuild.lock")):
            yield

    def _caught_up(self) -> int:
        """Have the rows follow the log, and tell up to where."""
        head = self._backend.head()
        self._follow(head)
        return head

    def _follow(self, position: int) -> None:
        """Wait for the rows.

        Raises:
            LogUnavailable: They could not follow.
        """
        if not rows_follow(self._rows, position, ARCHIVED):
            raise LogUnavailable(
                "The lists and sums could not follow the log, so no event was removed from it. "
                "What was begun is finished when the store is next opened to write."
            )

    def _remove(self, leaves: Sequence[Leaf]) -> None:
        """Remove events from the log, some at once."""
        ordered = sorted(leaves)
        for start in range(0, len(ordered), _AT_ONCE):
            self._backend.remove_events(ordered[start : start + _AT_ONCE])
            step("some")

    # -- after a crash

    def finish(self) -> None:
        """Finish or undo what a crash interrupted; the caller holds the lock (`alone`).

        Raises:
            LogUnavailable: That is not possible now.
            LogError: The log can't be read or written.
        """
        begun = archivals.begun_archive(self._rows.database)
        if begun is None:
            return
        self._follow(self._backend.head())

        def ask(database: RowsDatabase) -> list[SessionRow]:
            with session_queries.reading(database) as connection:
                return archivals.archived_in(connection, begun)

        rows = self._rows.ask(ask)
        if rows:
            self._finish_removal(Path(begun), rows)
        else:
            self._undo(Path(begun))

    def _finish_removal(self, path: Path, rows: Sequence[SessionRow]) -> None:
        said = [archived_at(self._backend, row.id, row.archival or 0) for row in rows]
        state = state_of(path, bytes.fromhex(said[0].sha256))
        if state != "whole":
            what = "is not there" if state == "missing" else "is not what was written"
            raise LogUnavailable(
                f"{path} {what}, so the events of {len(rows):,} sessions that belong in it are not "
                "removed from the log. Put the file back in its place, and open the store again."
            )
        with self._no_rebuild():
            for one in said:
                self._remove([leaf for part in one.positions for leaf in self._leaves(*part)])
        archivals.note_archive(self._rows.database, None)

    def _leaves(self, first: int, last: int) -> Iterator[Leaf]:
        for page in read_digests(self._backend, after=first - 1, upto=last):
            yield from page

    def _undo(self, path: Path) -> None:
        """Remove a file whose sessions are all in the store."""
        with FileErrors(path):
            if not path.parent.is_dir():
                raise LogUnavailable(
                    f"{path.parent} is not there, and may have the file {path.name}, which is of "
                    "no use: its sessions are in the store. It is removed when the folder is there "
                    "and the store is next opened."
                )
            draft_of(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            sync_folder(path.parent)
        archivals.note_archive(self._rows.database, None)


def step(name: str) -> None:
    """Mark the end of a step; tests stop a process there.

    Args:
        name: Of the step.
    """
    del name


def finish_archives(host: StoreSessionHost) -> None:
    """Finish or undo what a crash left, when a store is opened to write.

    Args:
        host: The store, just opened.
    """
    try:
        with suppress(LogUnavailable), alone(host.rows.database, 0):  # else another is at it now
            try:
                Archiver(host).finish()
            except LogUnavailable as error:
                _logger.error("sessions that were being archived: %s", error)
    except (LogError, ArchiveRefused) as error:
        _logger.error("the archiving that was begun could not be finished: %s", error)
