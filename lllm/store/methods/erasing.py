"""The methods of LogStore that erase the content of sessions, or prevent that."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lllm.events.backends.location import local_path
from lllm.store import holds
from lllm.store.erasure import Eraser
from lllm.store.erasure_lock import who
from lllm.store.erasure_report import Erasure
from lllm.store.holds import LegalHold
from lllm.store.methods.listing import ListsSessions
from lllm.times import Moment

if TYPE_CHECKING:
    from lllm.archive.archive_report import ArchivedSessions
    from lllm.store.retention import Retention


class ErasesSessions(ListsSessions):
    """Methods of LogStore that erase the content of sessions, or prevent that. See LogStore."""

    def erase_session(
        self,
        session_id: str,
        *,
        reason: str,
        by: str | None = None,
        keep_derived: bool = False,
        defer_vacuum: bool = False,
    ) -> Erasure:
        """Erase the content of a session permanently; its times and costs stay.

        Erased are the payloads of the session, of its child sessions, of later statements about it
        (such as tags), and of its replays and forks. All digests of the log still match. A second
        call only finishes what the first one left.

        Args:
            session_id: The whole id of a top-level session.
            reason: The reason. It stays in the log, so it must not contain what may have to be
                erased.
            by: The name of the person or program that erases it, which stays in the log; None for
                the user of this process.
            keep_derived: True to keep replays and forks of the session, which may contain the same
                texts, and only list them.
            defer_vacuum: True to leave the VACUUM to a later `vacuum()`. Until then, unused parts
                of SQLite's pages may still have copies. In PostgreSQL, it is always left, because
                it locks tables that other machines use.

        Returns:
            A report of what was erased, and where lllm can't erase.

        Raises:
            SessionNotFound: There is no such session.
            ErasureRefused: The session runs, a legal hold protects it, it is a child session, or
                the backend can't erase. Nothing was erased.
            LogReadOnly: The store was opened for reading only.
            LogError: The log can't be written. The next process that opens the store for writing
                finishes what was begun.
        """
        return Eraser(self._host).erase(
            [session_id], by=who(by), reason=_a_reason(reason), keep_derived=keep_derived,
            defer_vacuum=defer_vacuum,
        )  # fmt: skip

    delete_session = erase_session

    def erase(
        self,
        *,
        reason: str,
        tags: Mapping[str, str] | None = None,
        before: Moment | None = None,
        tz: str | dt.tzinfo = dt.UTC,
        partition: str | None = None,
        by: str | None = None,
        keep_derived: bool = False,
        defer_vacuum: bool = False,
    ) -> Erasure:
        """Erase the content of all sessions with some tags, or before a time; see `erase_session`.

        Sessions that run or that a legal hold protects are skipped and listed.

        Args:
            reason: As in `erase_session`.
            tags: Only sessions that have all of these tags.
            before: Only sessions that began before this time; in the forms of `list_sessions`.
            tz: The time zone of times without an offset.
            partition: Only sessions of this partition.
            by: As in `erase_session`.
            keep_derived: As in `erase_session`.
            defer_vacuum: As in `erase_session`.

        Returns:
            A report of what was erased and what was skipped.

        Raises:
            ValueError: Neither tags nor a time nor a partition is given, or one of them is invalid.
            ErasureRefused: The backend can't erase.
            LogReadOnly: The store was opened for reading only.
            LogError: The log can't be written.
        """
        if not tags and before is None and partition is None:
            raise ValueError("Give tags, before or partition, to say which sessions to erase.")
        _a_reason(reason)
        found = self.list_sessions(
            tags=tags, before=before, tz=tz, partition=partition, replays=True
        )
        ids = [one.session_id for one in found if one.erased is None]
        return Eraser(self._host).erase(
            ids, by=who(by), reason=reason, keep_derived=keep_derived, defer_vacuum=defer_vacuum,
            several=True,
        )  # fmt: skip

    def retain(
        self,
        *,
        days: int,
        dry_run: bool = True,
        reason: str | None = None,
        by: str | None = None,
        defer_vacuum: bool = False,
    ) -> Retention:
        """Erase sessions that are older than a number of days, for example in a nightly job.

        Args:
            days: The number of days that sessions are kept, counted from their start.
            dry_run: True to erase nothing and only report what would be erased.
            reason: The reason, as in `erase_session`; None for a text with the number of days.
            by: As in `erase_session`.
            defer_vacuum: As in `erase_session`.

        Returns:
            The sessions that are too old, those of them that are held, and what was erased.

        Raises:
            ValueError: The number of days is below 1.
            ErasureRefused: The backend can't erase.
            LogReadOnly: The store was opened for reading only.
            LogError: The log can't be written.
        """
        from lllm.store.retention import retain

        return retain(
            self, self._host, days=days, dry_run=dry_run, reason=reason, by=by,
            defer_vacuum=defer_vacuum,
        )  # fmt: skip

    def archive(
        self,
        *,
        before: Moment,
        to: str | os.PathLike[str],
        tags: Mapping[str, str] | None = None,
        tz: str | dt.tzinfo = dt.UTC,
        partition: str | None = None,
        by: str | None = None,
        dry_run: bool = False,
        defer_vacuum: bool = False,
    ) -> ArchivedSessions:
        """Move old sessions from the store to compressed files, which are read in place.

        Each session goes with all below it and with what was said about it. Its digests stay, so
        that seals and proofs still fit, and its costs, tags and times, so that sums stay the same.
        `LogStore.open(to)` reads the files, and `import_sessions(to)` brings sessions back.
        Sessions that run, that a legal hold keeps, or that are damaged stay and are listed.

        Args:
            before: Sessions that began before this time; as in `list_sessions`.
            to: A folder outside of the store; each call adds files to it.
            tags: Only sessions that have all of these tags.
            tz: The time zone of times without an offset.
            partition: Only of this partition.
            by: Who archives them, which stays in the log; None for the user of this process.
            dry_run: Change nothing, and only say what would be.
            defer_vacuum: Leave the VACUUM, which makes the store's file smaller, for `vacuum()`.

        Returns:
            What was archived and what was left.

        Raises:
            ValueError: The time is invalid.
            ArchiveRefused: `to` can't have archives, or events can't be removed from this log.
            LogReadOnly: The store was opened to be read only.
            LogError: A file or the log can't be written. What was begun is finished or undone when
                the store is next opened to write.
            MissingExtra: The extra `archive` is not installed.
        """
        from lllm.archive.archiver import Archiver

        archiver = Archiver(self._host)
        meant = self.list_sessions(
            tags=tags, before=before, tz=tz, partition=partition, replays=True
        )
        ids = [one.session_id for one in reversed(meant)]
        return archiver.archive(
            ids, local_path(to).absolute(), by=who(by), dry_run=dry_run, defer_vacuum=defer_vacuum
        )

    def vacuum(self) -> bool:
        """Rewrite SQLite files, so that unused parts of them have no copies of erased content.

        Other writers wait during this, and the disk needs as much free space as the store takes.
        In PostgreSQL, it rewrites the tables from which something was erased, and those of the
        rows, one after the other; what reads or writes a table waits until its turn is over.

        Returns:
            False if a reader still uses an older state of a file, or in PostgreSQL of anything, or
            keeps a table locked; call it again later.

        Raises:
            LogReadOnly: The store was opened for reading only.
            ErasureRefused: The backend can't erase.
            LogUnavailable: A file can't be written.
        """
        return Eraser(self._host).vacuum()

    def hold(self, session_id: str, *, reason: str, by: str | None = None) -> str:
        """Place a legal hold on a session: until it is released, nothing of it can be erased.

        A hold on a child session protects the whole tree.

        Args:
            session_id: The whole id of the session.
            reason: The reason, for example the name of a legal case.
            by: The name of the person or program that places it; None for the user of this process.

        Returns:
            The id of the hold.

        Raises:
            SessionNotFound: There is no such session.
            SessionWasErased: The content of the session was erased already.
            LogError: The log can't be written.
        """
        return holds.place_hold(self._host, session_id, _a_reason(reason), by)

    def release(
        self, session_id: str, *, reason: str, by: str | None = None, hold: str | None = None
    ) -> int:
        """Release the legal holds on a session, or one of them.

        Args:
            session_id: The whole id of the session.
            reason: The reason for the release.
            by: The name of the person or program that releases it; None for the user of this
                process.
            hold: The id of the hold to release; None for all holds on the session.

        Returns:
            The number of holds that were released.

        Raises:
            SessionNotFound: There is no such session.
            StoreError: The session has no such hold.
            LogError: The log can't be written.
        """
        return holds.release_hold(self._host, session_id, _a_reason(reason), by, hold)

    def holds(self, session_id: str) -> list[LegalHold]:
        """List the legal holds on a session that were not released.

        Args:
            session_id: The whole id of the session.

        Raises:
            SessionNotFound: There is no such session.
        """
        return holds.holds_on(self._host, session_id)


def _a_reason(reason: str) -> str:
    if not reason.strip():
        raise ValueError("Give a reason. It stays in the log.")
    return reason
