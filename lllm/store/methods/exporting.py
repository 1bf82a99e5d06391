"""The methods of LogStore that copy sessions out of a store or into it."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lllm.durations import Duration
from lllm.events.backend import LogBackend
from lllm.events.backends.location import local_path
from lllm.events.integrity.backup import BackedUp, back_up
from lllm.events.model import State
from lllm.projections.engine.rebuild import Progress
from lllm.store.load_as_of import PointInTime
from lllm.store.methods.listing import ListsSessions
from lllm.times import Moment

if TYPE_CHECKING:
    from lllm.importing.merge import ImportedSessions
    from lllm.importing.otlp.importer import ImportedOtlp
    from lllm.importing.transcripts.import_transcripts import ImportedTranscripts
    from lllm.store.dataset import DatasetRow
    from lllm.store.list_export import ExportedLists
    from lllm.store.sql_database import StoreDatabase


class ExportsSessions(ListsSessions):
    """Methods of LogStore that copy sessions out of a store or into it. See LogStore."""

    def export_session(
        self,
        session_id: str,
        format: str = "json",  # noqa: A002 # the word of the API
        *,
        at: PointInTime | None = None,
    ) -> str:
        """Export a session as a self-contained text.

        Args:
            session_id: The whole id.
            format: "json" for one object with the session and its child sessions, in which values
                have their recorded form; "jsonl" for the events, verbatim, one a line, with all
                events that they refer to.
            at: The point in time as of which to export the session; see `load_session`. None for
                now.

        Returns:
            The text; it can always be encoded as UTF-8.

        Raises:
            ValueError: The format is neither of these.
            SessionNotFound: There is no such session.
            SessionWasErased: Its content was erased.
            StoreError: The session had not begun at `at`.
            LogDamaged: An event in the log is corrupt.
        """
        return self._reader.export(session_id, format, at=at)

    def export_dataset(
        self,
        *,
        tags: Mapping[str, str] | None = None,
        state: State | None = None,
        tactic_path: str | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        tz: str | dt.tzinfo = dt.UTC,
        partition: str | None = None,
        annotations: Mapping[str, object] | None = None,
        model: str | None = None,
        agent: str | None = None,
        error: int | str | None = None,
        text: str | None = None,
        min_cost: float | None = None,
        max_cost: float | None = None,
        slower: Duration | None = None,
        faster: Duration | None = None,
        wasted: bool = False,
        limit: int | None = None,
    ) -> Iterator[DatasetRow]:
        """Make a data set for evaluations: task, result, scores and tags of each session.

        Args:
            tags: As in `list_sessions`.
            state: As in `list_sessions`.
            tactic_path: As in `list_sessions`.
            after: As in `list_sessions`.
            before: As in `list_sessions`.
            tz: As in `list_sessions`.
            partition: As in `list_sessions`.
            annotations: As in `list_sessions`.
            model: As in `list_sessions`.
            agent: As in `list_sessions`.
            error: As in `list_sessions`.
            text: As in `list_sessions`.
            min_cost: As in `list_sessions`.
            max_cost: As in `list_sessions`.
            slower: As in `list_sessions`.
            faster: As in `list_sessions`.
            wasted: As in `list_sessions`.
            limit: The greatest number of sessions; None for all.

        Yields:
            The sessions, newest first. Those whose content was erased are left out.

        Raises:
            ValueError: A filter or the limit is invalid, as in `list_sessions`.
            LogDamaged: An event in the log is corrupt.
        """
        from lllm.store.dataset import dataset

        sessions = self.list_sessions(
            tags=tags, state=state, tactic_path=tactic_path, after=after, before=before, tz=tz,
            partition=partition, annotations=annotations, model=model, agent=agent, error=error,
            text=text, min_cost=min_cost, max_cost=max_cost, slower=slower, faster=faster,
            wasted=wasted, limit=limit,
        )  # fmt: skip
        yield from dataset(self._reader, sessions)

    def export_lists(self, path: str | os.PathLike[str]) -> ExportedLists:
        """Write the sessions, tags, calls and costs of this store to an SQLite database of yours.

        The costs are those of each top-level session, by day, tactic, model and agent.

        Args:
            path: An SQLite file, created if it does not exist. The tables `sessions`, `tags`,
                `calls` and `costs` are written to it; other tables in it stay. A second run updates
                the four tables, and several stores can be written to one file.

        Returns:
            The numbers of rows that were written to each table.

        Raises:
            StoreError: The file can't be written, is a store itself, or already has different
                tables with these names; then nothing is changed.
        """
        from lllm.store.list_export import export_lists

        target = local_path(path).resolve()
        self._rows.check_readable()
        self._reader.catch_up()
        return export_lists(self._rows, target)

    def import_sessions(
        self, *sources: str | os.PathLike[str] | LogBackend, progress: Progress | None = None
    ) -> ImportedSessions:
        """Import sessions recorded elsewhere, with their tags, agents and errors.

        Use it to merge the logs of several machines. Every event is checked against its digest, and
        gets a new position. Events that this store already has are not stored twice; a session that
        it has only in part is completed. If an event of a session is corrupt, neither that session
        nor its parents and children are imported; all other sessions are.

        Args:
            sources: Files that `export_session(..., "jsonl")` wrote, also several in one; paths and
                URLs of whole stores, which are only read; or open backends.
            progress: A function that is called with the amount read so far and the total.

        Returns:
            The numbers of sessions and events that were added.

        Raises:
            ImportRefused: Something was not imported; everything else was.
            StoreError: A source does not exist, or is this store itself; nothing was imported.
            LogError: A source can't be read, or this store can't be written.
        """
        from lllm.importing.merge import merge

        return merge(self.log, self._rows, self._reader, sources, progress)

    def import_transcripts(
        self, program: str, *places: str | os.PathLike[str], progress: Progress | None = None
    ) -> ImportedTranscripts:
        """Import the transcripts that a coding agent keeps of its sessions.

        Its sessions, sub-agents, messages, tools and costs are then in this store, also after the
        program deletes its files. What is here already is not stored twice, and sessions that have
        grown are continued, so it can be repeated at any time. A session ends here when its
        transcript has not grown for a day.

        Args:
            program: "claude-code", "codex", "gemini", "opencode", "llm" or "inspect".
            places: Files and folders; none for those in which the program keeps its transcripts.
            progress: A function that is called with the bytes read so far and the total.

        Returns:
            The numbers of sessions and events that were added, and what was left out.

        Raises:
            ValueError: lllm can't read the transcripts of this program.
            StoreError: A place does not exist.
            LogError: The store can't be written.
        """
        from lllm.importing.transcripts.import_transcripts import open_transcripts

        found = open_transcripts(self, program, places).read(progress)
        self._reader.catch_up()
        return found

    def import_otlp(
        self, *paths: str | os.PathLike[str], progress: Progress | None = None
    ) -> ImportedOtlp:
        """Import files of OpenTelemetry spans and log records: OTLP as JSON, one request a line.

        The exporter `otlp-json-file` and the collector's file exporter write such files. Each trace
        becomes a session, and each agent in it a session below. Calls of models are counted once,
        however many libraries made spans of them, and are priced here. What is here already is not
        stored twice, so a file can be imported again when it has grown.

        Args:
            paths: The files.
            progress: A function that is called with the bytes read so far and the total.

        Returns:
            The numbers of sessions, events and spans that were added, and what was left out.

        Raises:
            StoreError: A file does not exist.
            LogError: The store can't be written.
        """
        from lllm.importing.otlp.otlp_file import import_files

        found = import_files(self, [local_path(one) for one in paths], progress)
        self._reader.catch_up()
        return found

    def backup(
        self, destination: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> BackedUp:
        """Copy the log to a new place as it is at one moment, while others go on writing.

        To restore the backup, copy it back. A log that is in no file, as in PostgreSQL, is copied
        to an SQLite file, in which positions count from 1.

        Args:
            destination: A path at which nothing exists yet.
            progress: A function that is called with the amount copied so far and the total.

        Returns:
            The path of the copy, its size in bytes and its last position.

        Raises:
            LogError: Something exists at the destination, or the copy can't be made.
        """
        from lllm.store.backup_rows import build_rows

        self.log.write_held()
        return back_up(
            self.backend, local_path(destination), progress=progress, build_rows=build_rows
        )

    def database(self) -> StoreDatabase:
        """Open the store as a read-only database of sqlite-utils, for your own SQL.

        For example `store.database().query("SELECT state, count(*) FROM sessions GROUP BY state")`.
        The tables are brought up to date first. `lllm query --schema` explains them; only an SQLite
        store also has a table of the events. Nothing can be written through this database, and
        closing it does not close the store. Use it in one thread at a time.

        Returns:
            A `sqlite_utils.Database` (https://sqlite-utils.datasette.io/), read only: a statement
            that writes raises LogReadOnly.

        Raises:
            StoreError: The store is kept in memory or in PostgreSQL, or its backend keeps nothing.
            LogUnavailable: The file can't be read.
        """
        from lllm.store.sql_database import open_database

        self._reader.catch_up()
        return open_database(self, self._rows)
