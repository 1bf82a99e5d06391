"""Erase the content of sessions, or hold it back from erasure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lllm.store import holds
from lllm.store.erasure import Eraser
from lllm.store.erasure_lock import who
from lllm.store.erasure_report import Erasure
from lllm.store.holds import LegalHold
from lllm.store.methods.listing import ListsSessions
from lllm.times import Moment

if TYPE_CHECKING:
    from lllm.store.retention import Retention


class ErasesSessions(ListsSessions):
    """Erase the content of sessions, or hold it back from erasure. See LogStore."""

    def erase_session(
        self,
        session_id: str,
        *,
        reason: str,
        by: str | None = None,
        keep_derived: bool = False,
        defer_vacuum: bool = False,
    ) -> Erasure:
        """Erase the content of a session for good; what happened when and its costs stay.

        Its payloads go, those of the sessions below it, of what was said about it later (tags), and
        of its replays and forks. Every digest of the log still fits. Doing it again does nothing
        but finish what was left.

        Args:
            session_id: The whole id of a top-level session.
            reason: Why; it stays in the log, so put nothing into it that may have to go.
            by: Who erases it, which stays too; None for the user of this process.
            keep_derived: Keep replays and forks of it, which may hold the same texts; they are
                listed.
            defer_vacuum: Leave the VACUUM for `vacuum()`. Until then the erasure is pending: copies
                may stay in the gaps of SQLite's pages.

        Returns:
            What was erased, and what lllm can't reach.

        Raises:
            SessionNotFound: There is no such session.
            ErasureRefused: It runs, a legal hold keeps it, it is a part of another session, or the
                backend can't erase. Nothing was erased.
            LogReadOnly: The store was opened to be read only.
            LogError: The log can't be written. What was begun is finished when the store is next
                opened to write.
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
        """Erase all sessions with some tags, or that began before a time; see `erase_session`.

        Sessions that run, or that a legal hold keeps, are left and listed.

        Args:
            reason: As in `erase_session`.
            tags: Only sessions that have all of these tags.
            before: Only those that began before this time; as in `list_sessions`.
            tz: The time zone of times without an offset.
            partition: Only of this partition.
            by: As in `erase_session`.
            keep_derived: As in `erase_session`.
            defer_vacuum: As in `erase_session`.

        Returns:
            What was erased and what was left.

        Raises:
            ValueError: Neither tags nor a time nor a partition is given, or one is invalid.
            ErasureRefused: The backend can't erase.
            LogReadOnly: The store was opened to be read only.
            LogError: The log can't be written.
        """
        if not tags and before is None and partition is None:
            raise ValueError("Which sessions? Give tags, before or partition.")
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
        """Erase what is older than a number of days, for a job that runs every night.

        Args:
            days: How many days sessions are kept, counted from their start.
            dry_run: Erase nothing, and only say what would be.
            reason: As in `erase_session`; None to say the number of days.
            by: As in `erase_session`.
            defer_vacuum: As in `erase_session`.

        Returns:
            How many sessions are older, which of them are held, and what was erased.

        Raises:
            ValueError: The number of days is below 1.
            ErasureRefused: The backend can't erase.
            LogReadOnly: The store was opened to be read only.
            LogError: The log can't be written.
        """
        from lllm.store.retention import retain

        return retain(
            self, self._host, days=days, dry_run=dry_run, reason=reason, by=by,
            defer_vacuum=defer_vacuum,
        )  # fmt: skip

    def vacuum(self) -> bool:
        """Write SQLite files anew, so that no copy of what was erased stays in their gaps.

        Other writers wait meanwhile, and as much free space is needed as the store takes.

        Returns:
            False if a reader keeps an older state of a file in use: do it again.

        Raises:
            LogReadOnly: The store was opened to be read only.
            ErasureRefused: The backend can't erase.
            LogUnavailable: A file can't be written.
        """
        return Eraser(self._host).vacuum()

    def hold(self, session_id: str, *, reason: str, by: str | None = None) -> str:
        """Place a legal hold on a session: until it is released, nothing of it can be erased.

        A hold on a session below another one keeps the whole tree.

        Args:
            session_id: The whole id.
            reason: Why, as the name of a case.
            by: Who places it; None for the user of this process.

        Returns:
            The id of the hold.

        Raises:
            SessionNotFound: There is no such session.
            SessionWasErased: It was erased.
            LogError: The log can't be written.
        """
        return holds.place_hold(self._host, session_id, _a_reason(reason), by)

    def release(
        self, session_id: str, *, reason: str, by: str | None = None, hold: str | None = None
    ) -> int:
        """Lift a legal hold.

        Args:
            session_id: The whole id of the session that it is on.
            reason: Why.
            by: Who lifts it; None for the user of this process.
            hold: The id of the one hold to lift, None for all that the session has.

        Returns:
            How many holds were lifted.

        Raises:
            SessionNotFound: There is no such session.
            StoreError: It has no such hold.
            LogError: The log can't be written.
        """
        return holds.release_hold(self._host, session_id, _a_reason(reason), by, hold)

    def holds(self, session_id: str) -> list[LegalHold]:
        """List the legal holds on a session that are not lifted.

        Args:
            session_id: The whole id.

        Raises:
            SessionNotFound: There is no such session.
        """
        return holds.holds_on(self._host, session_id)


def _a_reason(reason: str) -> str:
    if not reason.strip():
        raise ValueError("Give a reason; it stays in the log.")
    return reason
