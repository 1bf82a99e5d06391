"""The class LogStore: records sessions, and lists, loads, sums up and exports them."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from lllm.durations import Duration
from lllm.events import log as logs
from lllm.events.backend import LogBackend
from lllm.events.backends import open_log
from lllm.events.backends.location import local_path
from lllm.events.backends.sqlite.database import Database
from lllm.events.buffered import OnError
from lllm.events.envelope import Recorded
from lllm.events.errors import ConfigError, LogUnavailable
from lllm.events.ids import new_id, new_salt
from lllm.events.integrity.backup import BackedUp, back_up
from lllm.events.model import ErrorRecorded, SessionAnnotated, SessionTagged, State
from lllm.events.redaction.redact import Redact, checked
from lllm.events.statements import append_statement
from lllm.events.values.json_values import to_plain
from lllm.packages.registry import Runtime, default_runtime
from lllm.pricing.cost_summary import CostSummary, SummarySums, grouping, recorded, summary_of_costs
from lllm.pricing.repricing import OtherPrices, Repricing, repriced
from lllm.pricing.user_prices import Prices, PriceTable
from lllm.projections.engine.rebuild import Progress, Rebuilt
from lllm.projections.queries import sessions as session_queries
from lllm.projections.queries.cost_groups import DividedQuarter
from lllm.projections.queries.filters import CallSort
from lllm.projections.session.call_session import TacticCallSession
from lllm.projections.view import View
from lllm.sessions.budget import OnUnpriced, budget_of
from lllm.sessions.decorator import tactic_decorator
from lllm.sessions.error_details import describe
from lllm.sessions.new_session import open_session
from lllm.sessions.session import SessionScope
from lllm.sessions.session_start import check_tags
from lllm.store import holds
from lllm.store.call_records import CallRecord, call_filter_of, call_list
from lllm.store.call_statistics import CallGroup, CallSummary, call_summary
from lllm.store.erasure import Eraser
from lllm.store.erasure_lock import who
from lllm.store.erasure_report import Erasure, refuse_erased
from lllm.store.filters import filter_of
from lllm.store.holds import LegalHold
from lllm.store.point_in_time import PointInTime
from lllm.store.session_host import StoreSessionHost, StoreSettings
from lllm.store.summaries import SessionRecord, SessionSummary, Sort, session_list
from lllm.time_zones import zone_of
from lllm.times import Moment, datetime_of

if TYPE_CHECKING:
    from lllm.agents.fork_edits import Edit
    from lllm.audit.keys import PrivateKey, PublicKey
    from lllm.audit.periodic_seals import SealPlan
    from lllm.audit.proof import Proof
    from lllm.importing.merge import ImportedSessions
    from lllm.replay.divergence import OnDivergence
    from lllm.replay.fork import Fork
    from lllm.replay.fork_point import ForkAt
    from lllm.replay.ignored_parts import Ignore
    from lllm.replay.replay import Replay
    from lllm.replay.session_diff import SessionDiff
    from lllm.search.hits import SearchHits, SearchSort
    from lllm.store.dataset import DatasetRow
    from lllm.store.list_export import ExportedLists
    from lllm.store.retention import Retention
    from lllm.store.sql_database import StoreDatabase


P = ParamSpec("P")
R = TypeVar("R")


class LogStore:
    """Record sessions, and list, load, sum up and export them.

    Args:
        backend: Where the events are kept.
        runtime: The packages in which tactic paths are looked up; None for the packages loaded in
            this process.
        partition: The name of the owner (a team or customer) of all sessions that this store
            writes; lists and sums can be filtered by it.
        on_error: "hold" keeps events in memory while the log can't be written; "raise" raises
            LogUnavailable instead.
        redact: A function that gets the type and the payload of every event and returns the payload
            to write; or a list of patterns (EMAIL, CARD, BEARER, or your own Pattern) and
            functions, applied in their order. Known API keys are always removed.
        views: Your own projections, which are kept up to date like lllm's.
        prices: Your own prices, for models that are missing from the price data or that cost you
            something else: US dollars for a million tokens, as
            {"my-model": {"input": 0.5, "output": 1.5}}, or a function of model, usage and provider;
            see `PriceTable.of`.
        seal_every: How long to wait between two checkpoints of the log, which are written while the
            store is open and once more when it is closed: seconds, a timedelta, or a text as
            "10min". None for no checkpoints; see `seal`.
        seal_to: The folder for these files, outside of the store; created if it does not exist.
        seal_key: The private key that signs them, or the path of its file; None for no signature.

    Raises:
        LogError: The backend can't be read or written.
        ConfigError: The backend is not a LogBackend, or `prices`, `redact` or `seal_every` is
            invalid.
        AuditError: The folder or key for seals is beside the store, or the key can't be read.
        MissingExtra: `seal_key` is given, and the extra `audit` is not installed.
    """

    def __init__(
        self,
        backend: LogBackend,
        *,
        runtime: Runtime | None = None,
        partition: str = "",
        on_error: OnError = "hold",
        redact: Redact | None = None,
        views: Iterable[View] = (),
        prices: Prices | PriceTable | None = None,
        seal_every: Duration | None = None,
        seal_to: str | os.PathLike[str] | None = None,
        seal_key: PrivateKey | str | os.PathLike[str] | None = None,
    ) -> None:
        if not isinstance(backend, LogBackend):
            raise ConfigError(
                f"A LogStore is made on a backend, as LogStore(SQLiteBackend('runs.db')); "
                f"{backend!r} is none."
            )
        self._attach(
            StoreSessionHost(
                StoreSettings(
                    backend, runtime, partition, on_error, checked(redact), tuple(views),
                    None if prices is None else PriceTable.of(prices),
                    _plan_of(seal_every, seal_to, seal_key, backend),
                )
            )
        )  # fmt: skip

    def _attach(self, host: StoreSessionHost) -> None:
        self._host = host
        self._rows = host.rows
        self._reader = host.reader
        self._runtime = host.settings.runtime or default_runtime
        self.backend = host.settings.backend
        self.log = host.log
        self.partition = host.partition
        self.redact = host.redact
        self.prices = host.prices
        self.read_only = host.read_only

    @classmethod
    def open(
        cls,
        location: str | os.PathLike[str],
        *,
        read_only: bool | None = None,
        make: bool = True,
        runtime: Runtime | None = None,
        partition: str = "",
        on_error: OnError = "hold",
        redact: Redact | None = None,
        views: Iterable[View] = (),
        prices: Prices | PriceTable | None = None,
        seal_every: Duration | None = None,
        seal_to: str | os.PathLike[str] | None = None,
        seal_key: PrivateKey | str | os.PathLike[str] | None = None,
    ) -> LogStore:
        """Open the store at a path or URL; the location decides which backend is used.

        Args:
            location: For example `runs.db`, `logs/` or a URL; see `lllm.events.backends.open_log`.
            read_only: True to open it for reading only; None to open it for writing if this user
                is allowed to.
            make: True to create the store if it does not exist.
            runtime: As in `LogStore`.
            partition: As in `LogStore`.
            on_error: As in `LogStore`.
            redact: As in `LogStore`.
            views: As in `LogStore`.
            prices: As in `LogStore`.
            seal_every: As in `LogStore`.
            seal_to: As in `LogStore`.
            seal_key: As in `LogStore`.

        Returns:
            The store.

        Raises:
            ConfigError: No backend knows the scheme of the URL, or an option is invalid.
            StoreError: The store does not exist, and `make` is False.
            LogError: The file or folder at that location can't be opened as a store.
        """
        backend = open_log(location, read_only=read_only, make=make)
        try:
            return cls(
                backend, runtime=runtime, partition=partition, on_error=on_error, redact=redact,
                views=views, prices=prices, seal_every=seal_every, seal_to=seal_to,
                seal_key=seal_key,
            )  # fmt: skip
        except BaseException:
            backend.close()
            raise

    def __repr__(self) -> str:
        return f"LogStore({self.backend!r})"

    def __reduce__(self) -> tuple[Callable[..., LogStore], tuple[StoreSessionHost]]:
        """Pickle only the settings of the store; a process that unpickles them opens it once."""
        return _store_on, (self._host,)

    # -- writing

    def session(
        self,
        name: str,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        task: object = None,
        partition: str | None = None,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced = "warn",
    ) -> SessionScope:
        """Record a block of code as a session, without writing a Tactic.

        Use it as `with store.session("my_project::script") as recorder:`, or with `async with`.
        Tactics called inside become its children.

        Args:
            name: The stable path of the session; the part after the last `::` is its short name.
            tags: Names and values (both str) by which the session can be found in lists.
            metadata: Any value to keep with the session.
            task: The input of the session. Record its result with `recorder.deliver(value)`.
            partition: The owner of the session; None for the store's partition.
            budget_usd: The most that all model calls inside the session may cost together, in US
                dollars; None for no limit.
            budget_unpriced: What to do under a budget when the cost of a call is unknown: "warn"
                once, or "stop" before the next call of a model.

        Returns:
            The session; it begins when the `with` block is entered.

        Raises:
            TypeError: Tags are not str -> str.
            ValueError: The name is empty.
            ConfigError: The budget is invalid.
        """
        return open_session(
            self._host, name, task=task, tags=tags, metadata=metadata, partition=partition,
            budget=budget_of(budget_usd, budget_unpriced),
        )  # fmt: skip

    def tactic(
        self,
        name: str,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        partition: str | None = None,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced = "warn",
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Record each call of a function as a session, with the decorator `@store.tactic("name")`.

        It works on a `def` and an `async def`. The first argument of a call is recorded as the
        task, and the return value as the delivery. A call made inside another session becomes a
        child of that session.

        It also works on sync and async generators, such as a streaming handler of a web server: the
        items are recorded as the delivery. The session is current only while the generator itself
        runs, in whichever thread or task that is. Items beyond 16 MiB in all are counted, but not
        recorded. A generator that is closed before its end is recorded as cancelled, with the items
        so far.

        Args:
            name: A stable path with `::`; or a short name, which is prefixed with the package that
                the nearest lllm.toml above the file names.
            tags: Names and values (both str) that every call gets.
            metadata: Any value to keep with every call.
            partition: The owner of the calls; None for the store's partition.
            budget_usd: The most that one call may cost, in US dollars; None for no limit.
            budget_unpriced: What to do under a budget when the cost of a model call is unknown:
                "warn" once, or "stop" before the next call of a model.

        Returns:
            The decorator.

        Raises:
            ConfigError: The name or the budget is invalid.
            PackageError: The lllm.toml has an error.
        """
        return tactic_decorator(
            self._host, name, tags=tags, metadata=metadata, partition=partition,
            budget_usd=budget_usd, budget_unpriced=budget_unpriced,
        )  # fmt: skip

    def replay(
        self,
        session_id: str | os.PathLike[str],
        *,
        on_divergence: OnDivergence = "raise",
        ignore: Iterable[Ignore] = (),
        live_tools: Collection[str] = (),
        record: bool = True,
    ) -> Replay:
        """Run a recorded session again: `with store.replay(session_id): tactic(task)`.

        Inside the block, agents get their answers from the log. No model is called, no tool runs,
        there are no waits and no costs. Every request is compared with the recorded one.

        Args:
            session_id: The whole id, or the path of a file that `lllm export --format jsonl` wrote.
            on_divergence: "raise" raises ReplayDivergence at the first difference. "report"
                continues with the recorded answer, and the replay's `divergences` lists all
                differences. "live" calls the real model from the first difference on, in that
                dialog and in all that begin later; the session is then a fork, and its new calls
                cost money.
            ignore: Parts of requests that are not compared: key paths, as "params.seed" or
                "messages.*.parts.*.text", and patterns (`re.Pattern`, or those of `redact`).
            live_tools: The names of tools that run; their results are compared with the recorded
                ones.
            record: True to record the replay as a session of its own, whose `origin` names the
                original; False to write nothing.

        Returns:
            The replay, for a `with` statement. Differences are raised at the end of the block at
            the latest.

        Raises:
            SessionNotFound: There is no such session.
            LogDamaged: An event in the log is corrupt.
            ReplayError: The session can't be replayed.
            ConfigError: An option is invalid.
            LogReadOnly: The store is read-only, and `record` is True.
        """
        from lllm.replay.open_replay import open_replay

        return open_replay(
            session_id, self._host, on_divergence=on_divergence, ignore=ignore,
            live_tools=live_tools, record=record,
        )  # fmt: skip

    def fork(
        self,
        session_id: str | os.PathLike[str],
        *,
        at: ForkAt = None,
        edit: Edit | None = None,
        on_divergence: OnDivergence = "raise",
        ignore: Iterable[Ignore] = (),
        live_tools: Collection[str] = (),
    ) -> Fork:
        """Continue from a point of a recorded session: `with store.fork(session_id): tactic(task)`.

        Before that point, agents and captured clients are answered from the log, and no tool runs.
        After it, models are called and tools run, in all threads and tasks. The recorded part is
        not billed again.

        Args:
            session_id: The whole id, or the path of a file that `lllm export --format jsonl` wrote.
            at: The point to continue from. A ReplayPlace names one turn of the model (or, with
                `tool`, one tool), and means the point before it. A position of the log is a number
                that `lllm events` shows (in a file, the number of the line). A datetime, date or
                text is a time; see `lllm.times.parse_time`. None means the point where the session
                broke; in a failed session, that is before the turn that failed.
            edit: A change to an agent at that point; None for no change.
            on_divergence: What to do if the code makes another request before the point: "raise",
                "report" or "live", as for `replay`.
            ignore: Parts of requests that are not compared: key paths and patterns, as for
                `replay`.
            live_tools: The names of tools that run before the point, too.

        Returns:
            The fork, for a `with` statement.

        Raises:
            SessionNotFound: There is no such session.
            LogDamaged: An event in the log is corrupt.
            ReplayError: The session can't be forked, or not at that point.
            ConfigError: An option is invalid.
            TypeError: `at` has another type.
            ValueError: `at` is a text that is not a time.
            LogReadOnly: The store is read-only.
        """
        from lllm.replay.open_replay import open_fork

        return open_fork(
            session_id, self._host, at=at, edit=edit, on_divergence=on_divergence, ignore=ignore,
            live_tools=live_tools,
        )  # fmt: skip

    def diff(self, a: str | os.PathLike[str], b: str | os.PathLike[str]) -> SessionDiff:
        """Compare two recorded sessions: their steps, results and figures.

        Two sessions are the same if their requests, answers and deliveries are the same, in the
        same places; ids, tags, times and costs are ignored.

        Args:
            a: The whole id of a session, or the path of a file that `lllm export --format jsonl`
                wrote.
            b: The id or the path of the other session.

        Returns:
            The first difference, and the figures of both sessions.

        Raises:
            SessionNotFound: There is no such session.
            LogDamaged: An event in the log is corrupt.
            ReplayError: One of them is incomplete, erased, or recorded by a newer lllm.
        """
        from lllm.replay.open_replay import read_session
        from lllm.replay.session_diff import ReadSession, diff_sessions

        return diff_sessions(
            ReadSession(*read_session(a, self._host)), ReadSession(*read_session(b, self._host))
        )

    def carry(self, function: Callable[P, R]) -> Callable[P, R]:
        """Make a function run in the current session, whichever thread calls it.

        For example `pool.map(store.carry(work), items)`. Costs count towards the budget of the
        session.

        Args:
            function: A function or a coroutine function. It can be called any number of times, also
                in many threads at once.

        Returns:
            A function with the same name, arguments, result and errors. If no session is current
            when `carry` is called, the function runs outside of any session.
        """
        from lllm.sessions.threads import carry

        return carry(function)

    def tag(
        self,
        session_id: str,
        tags: Mapping[str, str] | None = None,
        *,
        remove: Iterable[str] = (),
        by: str | None = None,
    ) -> None:
        """Add, change or remove tags of a session after it began.

        The recorded events of the session are not changed; the new tags are one more event.

        Args:
            session_id: The whole id.
            tags: Tags to add or change.
            remove: Names of tags to remove.
            by: The person or program that makes this change; it is recorded.

        Raises:
            TypeError: Tags are not str -> str.
            SessionNotFound: There is no such session.
            SessionWasErased: It was erased.
        """
        changes = check_tags(tags)
        refuse_erased(self._reader.find(session_id, below=False).row)
        event = SessionTagged(
            about=session_id, set=changes, removed=tuple(remove), by=by, salt=new_salt()
        )
        self._append_statement("tagged", event)

    def annotate(
        self,
        session_id: str,
        *,
        name: str,
        value: object = None,
        step: int | None = None,
        comment: str | None = None,
        by: str | None = None,
    ) -> None:
        """Judge a session, or an attempt in it: a score, a label, a comment.

        The recorded events of the session are not changed; this is one more event. It takes the
        place of an earlier one with the same name, step and `by`; without value and comment, it
        takes that back.

        Args:
            session_id: The whole id.
            name: What is judged, as "correct".
            value: The verdict: True or False, a number, a text, or any value; None for a comment
                alone.
            step: The number of the attempt in the session, as `request` of `list_calls`; None for
                the whole session.
            comment: Why, in words.
            by: The person or program that judges.

        Raises:
            ValueError: The name is empty, or the step is not a number from 1.
            SessionNotFound: There is no such session.
            SessionWasErased: It was erased.
        """
        if not name:
            raise ValueError("an annotation needs a name, as 'correct'")
        if step is not None and not 0 < step < 2**63:
            raise ValueError(f"step is the number of an attempt, from 1; not {step}")
        refuse_erased(self._reader.find(session_id, below=False).row)
        event = SessionAnnotated(
            about=session_id, step=step, name=name, value=to_plain(value), comment=comment, by=by,
            salt=new_salt(),
        )  # fmt: skip
        self._append_statement("annotated", event)

    def save_error(self, error: BaseException, *, context: object = None) -> str:
        """Record an error that was raised outside of any session.

        Args:
            error: The exception.
            context: Any value that helps to understand the error.

        Returns:
            An id; `events(id)` reads the error back.
        """
        event = ErrorRecorded(
            error=describe(error),
            context=to_plain(context),
            partition=self.partition,
            salt=new_salt(),
        )
        return self._append_statement("error", event)

    def _append_statement(
        self, kind: str, event: SessionTagged | SessionAnnotated | ErrorRecorded
    ) -> str:
        stream = f"{kind}-{new_id()}"
        append_statement(self.log, stream, event, salt=event.salt, redact=self.redact)
        return stream

    # -- erasing

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

    # -- reading

    def list_sessions(
        self,
        *,
        tags: Mapping[str, str] | None = None,
        state: State | None = None,
        tactic_path: str | None = None,
        limit: int | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        tz: str | dt.tzinfo = dt.UTC,
        partition: str | None = None,
        cursor: str | None = None,
        sort: Sort = "started",
        replays: bool = False,
        annotations: Mapping[str, object] | None = None,
    ) -> list[SessionSummary]:
        """List the top-level calls, newest first (by start, then id).

        Args:
            tags: Only sessions that have all of these tags.
            state: Only "success", "failure", "running" or "interrupted" ones.
            tactic_path: Only calls of this tactic, at any depth; a call of it inside another one is
                not listed.
            limit: The greatest number of sessions to return; None for all.
            after: Only those that began at this time or later: a datetime, a date, or a text as
                "7d", "today" or "2026-01-31T18:00" (see `lllm.times.parse_time`).
            before: Only those that began before this time; in the same forms.
            tz: The time zone of times without an offset, also of naive datetimes: UTC, or
                "Europe/Berlin", "local", a tzinfo.
            partition: Only sessions of this partition.
            cursor: The `cursor` of the last summary of the page before; None for the first page.
            sort: "started", or "cost" for the most expensive first, children included, and the
                newer of two that cost the same. A list by cost reads all sessions that the filters
                select: half a second for a million.
            replays: True to list top-level replays, too.
            annotations: Only sessions that have annotations with all of these names, with these
                values; None for any value.

        Returns:
            A short summary of each session, in the order of `sort`.

        Raises:
            ValueError: A state, limit, sort, cursor, time or zone is invalid.
            TypeError: Tags are not str -> str.
        """
        wanted = filter_of(
            self._runtime, tags, state, tactic_path, after, before, partition, tz, replays,
            annotations,
        )  # fmt: skip
        return self._reader.ask(session_list(wanted, sort, limit, cursor))

    def list_calls(
        self,
        *,
        error: int | str | None = None,
        model: str | None = None,
        provider: str | None = None,
        slower: Duration | None = None,
        state: State | None = None,
        session_id: str | None = None,
        tactic_path: str | None = None,
        tags: Mapping[str, str] | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        tz: str | dt.tzinfo = dt.UTC,
        partition: str | None = None,
        sort: CallSort = "started",
        limit: int | None = None,
        cursor: str | None = None,
    ) -> list[CallRecord]:
        """List attempts to call a model, newest first; failed attempts and retries are included.

        Use it to find the slowest calls, or last week's 429s.
        `pandas.DataFrame(store.list_calls())` has a column for each field.

        Args:
            error: Only attempts that failed with this HTTP status (429, or "5xx" for all from 500
                on), or whose error has this text in its type, code or message ("timeout", "rate
                limit"); small and capital letters are alike.
            model: Only attempts that requested or were answered by this model; `*` matches
                anything, as in "gpt-4o*" or "*claude*".
            provider: Only attempts that this provider bills, by its name in genai-prices
                ("openai").
            slower: Only attempts that took this long or longer: seconds, a timedelta, or a text as
                "5s", "500ms" or "2min".
            state: Only "success", "failure", "running" or "interrupted" attempts. It is the state
                of the attempt, not of its session.
            session_id: Only attempts of this session and its descendants.
            tactic_path: Only attempts in sessions of this tactic, at any depth.
            tags: Only attempts in sessions that have these tags, or whose root session has them.
            after: Only those that began at this time or later: a datetime, a date, or a text as
                "7d", "today" or "2026-01-31T18:00" (see `lllm.times.parse_time`).
            before: Only those that began before this time; in the same forms.
            tz: The time zone of times without an offset: UTC, or "Europe/Berlin", "local", a
                tzinfo.
            partition: Only attempts in sessions of this partition.
            sort: "started", or the largest first by "elapsed", "first_token", "cost" or "tokens";
                attempts for which it is unknown come last. "first_token" and "tokens" are slower:
                they read all attempts that the other filters select.
            limit: The greatest number of records to return; None for all.
            cursor: The `cursor` of the last record of the page before; None for the first page.

        Returns:
            The attempts, in the order of `sort`.

        Raises:
            ValueError: A filter, the order, the limit, the cursor, a time or the zone is invalid.
            TypeError: Tags are not str -> str, or `slower` is not a duration.
        """
        of = filter_of(self._runtime, tags, state, tactic_path, after, before, partition, tz)
        wanted = call_filter_of(of, error, model, provider, slower, session_id)
        return self._reader.ask(call_list(wanted, sort, limit, cursor))

    def search(
        self,
        query: str,
        *,
        role: str | Collection[str] | None = None,
        session_id: str | None = None,
        tactic_path: str | None = None,
        tags: Mapping[str, str] | None = None,
        state: State | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        tz: str | dt.tzinfo = dt.UTC,
        partition: str | None = None,
        replays: bool = False,
        sort: SearchSort = "newest",
        limit: int | None = 20,
        cursor: str | None = None,
    ) -> SearchHits:
        """Find messages by their words, newest first.

        Searched are the texts of all messages with their reasoning and tool calls, results of
        tools, tasks, tags and errors; of a text of more than 1,048,576 characters, its beginning.
        Words are compared without case and accents. Of scripts that put no spaces between words,
        and of Korean, any part of a text can be found.

        Args:
            query: Words that a message must all have; or `refund OR money`, `refund NOT late`,
                `"late delivery"` for words next to each other, `refund*` for how words begin, and
                parentheses. What is no letter or digit stands between words, so an id such as
                `order-7731` is found as the words order and 7731 next to each other.
            role: Only "system", "user", "assistant" or "tool" messages, or "task", "tag" or
                "error"; or several of these.
            session_id: Only messages of this session and those below it.
            tactic_path: Only messages of sessions of this tactic, at any depth.
            tags: Only messages of sessions that have these tags, or whose root has them.
            state: Only messages of sessions in this state.
            after: Only messages that were recorded at this time or later; in the forms of
                `list_sessions`.
            before: Only messages that were recorded before this time.
            tz: The zone of times that name no offset: UTC, or "Europe/Berlin", "local", a tzinfo.
            partition: Only messages of sessions of this partition.
            replays: True to find those of replays, too.
            sort: "newest" first; or by "relevance" (https://sqlite.org/fts5.html#the_bm25_function)
                among the newest 20,000 messages with these words.
            limit: The greatest number of hits; None for all.
            cursor: The `cursor` of the hits before; None for the first page.

        Returns:
            A list of the hits. Its `note` says what was not looked at, where there is too much.

        Raises:
            SearchQueryError: The query can't be read; the message says where.
            SearchUnavailable: The store has no search index; `rebuild(search=True)` makes one.
            ValueError: A role, a filter, the order, the limit or the cursor is invalid.
            TypeError: Tags are not str -> str.
        """
        from lllm.search.hits import search_of

        of = filter_of(
            self._runtime, tags, state, tactic_path, after, before, partition, tz, replays
        )
        ask = search_of(self.log, query, of, role, session_id, limit, sort, cursor)
        return self._reader.ask(lambda rows: ask(self._rows.with_search(rows)))

    def summarize_calls(
        self,
        *,
        group_by: CallGroup | None = None,
        error: int | str | None = None,
        model: str | None = None,
        provider: str | None = None,
        tactic_path: str | None = None,
        tags: Mapping[str, str] | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        tz: str | dt.tzinfo = dt.UTC,
        partition: str | None = None,
    ) -> CallSummary:
        """Sum up attempts to call a model: errors, retries, and percentiles of their times.

        Args:
            group_by: "model", "provider", "tactic", "agent", "day" or "hour"; None for the total
                alone.
            error: As in `list_calls`.
            model: As in `list_calls`.
            provider: As in `list_calls`.
            tactic_path: As in `list_calls`.
            tags: As in `list_calls`.
            after: As in `list_calls`.
            before: As in `list_calls`.
            tz: The zone of days and hours, and of times that name no offset: UTC, or
                "Europe/Berlin", "local", a tzinfo.
            partition: As in `list_calls`.

        Returns:
            The statistics. They are made of the newest 200,000 attempts that the filters select,
            and say so where there are more.

        Raises:
            ValueError: The group, a filter, a time or the zone is invalid.
            TypeError: Tags are not str -> str.
        """
        of = filter_of(self._runtime, tags, None, tactic_path, after, before, partition, tz)
        wanted = call_filter_of(of, error, model, provider, None, None)
        return self._reader.ask(call_summary(wanted, group_by, zone_of(tz)))

    def find_id(self, prefix: str) -> str:
        """Find the one session id that begins with a prefix.

        Args:
            prefix: The first characters of the id.

        Returns:
            The whole id.

        Raises:
            SessionNotFound: No session id begins with it.
            AmbiguousId: Several session ids begin with it.
        """
        return self._reader.find_id(prefix)

    def load_session(self, session_id: str, *, at: PointInTime | None = None) -> TacticCallSession:
        """Load a session with its calls, and with its child sessions at any depth.

        Args:
            session_id: The whole id.
            at: The point in time as of which to load the session: a position of the log, or a time
                as a datetime, a date or a text such as "5m" (see `lllm.times.parse_time`; without
                an offset it is UTC). None for now.

        Returns:
            The session.

        Raises:
            SessionNotFound: There is no such session.
            SessionWasErased: Its content was erased.
            StoreError: The session had not begun at `at`.
            LogDamaged: An event in the log is corrupt.
        """
        return self._reader.load(session_id, at=at)[1]

    def load_session_record(
        self, session_id: str, *, at: PointInTime | None = None
    ) -> SessionRecord:
        """Load a session with its tags, metadata, start and, where it failed, the traceback.

        Args:
            session_id: The whole id.
            at: The point in time as of which to load the session and its tags; see `load_session`.

        Returns:
            The session and what the store knows about it.

        Raises:
            SessionNotFound: There is no such session.
            SessionWasErased: Its content was erased.
            StoreError: The session had not begun at `at`.
            LogDamaged: An event in the log is corrupt.
        """
        found, session = self._reader.load(session_id, at=at)
        return SessionRecord(
            session_id=session_id,
            session=session,
            task=session.task,
            tags=found.tags,
            metadata=session.metadata,
            timestamp=datetime_of(session.started),
            traceback=session.traceback,
            annotations=self._reader.annotations(session_id, at=at),
        )

    def events(self, session_id: str, *, at: PointInTime | None = None) -> Iterator[Recorded]:
        """Read the events of one session, and later events about it, such as changes of tags.

        Those of a session that was erased have no payloads; the last one says who erased it.

        Args:
            session_id: The whole id of the session, or an id that `save_error` returned.
            at: The point in time after which events are left out; see `load_session`. None for all.

        Returns:
            The events, in the order of the log.

        Raises:
            SessionNotFound: There is no such session.
            SessionWasErased: Its content was erased.
            StoreError: The session had not begun at `at`.
            LogDamaged: An event in the log is corrupt.
        """
        return self._reader.events(session_id, at=at)

    def follow(self, *, after: int | None = None, poll: float = 0.1) -> Iterator[Recorded]:
        """Iterate over the events of all sessions as any process writes them, without end.

        Args:
            after: Begin with the event after this position; None for events written from now on.
            poll: Seconds between two checks for new events.

        Yields:
            Each event once, in the order of the log.

        Raises:
            LogDamaged: The log ends before a position that was read, as an older copy does.
        """
        # `yield from` keeps the store open
        yield from logs.follow(self.log, after=after, poll=poll)

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
        limit: int | None = None,
    ) -> Iterator[DatasetRow]:
        """Make a data set for evaluations: task, delivery, scores and tags of each session.

        Args:
            tags: As in `list_sessions`.
            state: As in `list_sessions`.
            tactic_path: As in `list_sessions`.
            after: As in `list_sessions`.
            before: As in `list_sessions`.
            tz: As in `list_sessions`.
            partition: As in `list_sessions`.
            annotations: As in `list_sessions`.
            limit: The greatest number of sessions; None for all.

        Yields:
            The sessions, newest first. Those whose content was erased are left out.

        Raises:
            ValueError: As of `list_sessions`.
            LogDamaged: An event in the log is corrupt.
        """
        from lllm.store.dataset import dataset

        sessions = self.list_sessions(
            tags=tags, state=state, tactic_path=tactic_path, after=after, before=before, tz=tz,
            partition=partition, annotations=annotations, limit=limit,
        )  # fmt: skip
        yield from dataset(self._reader, sessions)

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

    def export_cost_summary(
        self,
        *,
        tactic_path: str | None = None,
        tags: Mapping[str, str] | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        tz: str | dt.tzinfo = dt.UTC,
        partition: str | None = None,
        state: State | None = None,
        group_by: str | Sequence[str] | None = None,
        prices: OtherPrices = "recorded",
        as_model: str | None = None,
    ) -> CostSummary:
        """Sum the costs of the selected sessions and of all their child sessions.

        Args:
            tactic_path: Only sessions of this tactic, at any depth.
            tags: Only sessions that have all of these tags.
            after: Only sessions that began at this time or later; see `list_sessions`.
            before: Only sessions that began before this time; see `list_sessions`.
            tz: The time zone of days, and of times without an offset: UTC, or "Europe/Berlin",
                "local", a tzinfo. A day lasts from midnight to midnight there, and has 23 or 25
                hours when clocks change.
            partition: Only sessions of this partition.
            state: Only "success", "failure", "running" or "interrupted" sessions.
            group_by: "tactic", "model", "agent", "day" or "tag:KEY"; each attempt counts once, for
                the tactic, model, agent and day that made it. A list of several makes groups within
                groups, the first outermost.
            prices: "recorded" for the costs that were recorded with each call; "current" for
                today's prices of this store; or a table or function (see `PriceTable.of`) for the
                models that it names, and today's prices for all others.
            as_model: The model whose prices to use for every call, whichever model answered.
                With this, or prices other than "recorded", no event is changed; the log is read
                again, which takes about 50 us for each call.

        Returns:
            The costs in total and for each group, and the number of calls without a known price.

        Raises:
            ValueError: A group, time or zone is invalid.
            ConfigError: `prices` is invalid, or `as_model` has no price.
            LogDamaged: The recorded usage of a call can't be read.
        """
        by, zone = grouping(group_by), zone_of(tz)
        wanted = filter_of(self._runtime, tags, state, tactic_path, after, before, partition, tz)
        new = Repricing(prices, as_model, self.prices)

        def summed(database: Database) -> SummarySums:
            if prices == "recorded" and as_model is None:
                with suppress(DividedQuarter), session_queries.reading(database) as connection:
                    return recorded(connection, wanted, by, zone)
            return repriced(self.log, database, wanted, by, zone, new)

        return summary_of_costs(self._reader.ask(summed), by, zone, new.asked, as_model)

    def backup(self, destination: str | os.PathLike[str]) -> BackedUp:
        """Copy the log to a new place as it is at one moment, while others go on writing.

        To restore the backup, copy it back.

        Args:
            destination: A path at which nothing exists yet.

        Returns:
            The path of the copy, its size in bytes and its last position.

        Raises:
            LogError: Something exists at the destination, or the copy can't be made.
        """
        self.log.write_held()
        return back_up(self.backend, local_path(destination))

    def seal(self, *, key: PrivateKey | None = None) -> str:
        """Make a checkpoint of the log: its size, and the root of its Merkle tree.

        Keep it outside of the store: with it, `lllm verify --checkpoint` finds every earlier event
        that was changed, removed or added.

        Args:
            key: The key that signs the checkpoint; see `lllm.audit.keys`. None to leave it
                unsigned.

        Returns:
            The content of the file to keep: a C2SP tlog-checkpoint, or with a key, a signed note.

        Raises:
            LogUnavailable: Events wait in memory, because the log can't be written.
            LogError: The log can't be read.
            MissingExtra: A key is given, and the extra `audit` is not installed.
        """
        from lllm.audit.sealing import sealed

        self._require_written("a seal")
        self._rows.catch_up()
        return sealed(self.log, self._rows.ask, key).content

    def prove(
        self,
        session_id: str,
        checkpoint: str,
        *,
        redacted: bool = False,
        event: int | None = None,
        children: bool = False,
        related: bool = False,
        key: PublicKey | None = None,
    ) -> Proof:
        """Prove that a session is in the log, to somebody who does not have the store.

        For a session that has ended, the proof also shows that no event of it is missing. For any
        other, it shows the events that were there when the checkpoint was made.

        Args:
            session_id: The whole id.
            checkpoint: A text that `seal` returned after the session had ended.
            redacted: True to show no payloads, only types, times and commitments.
            event: The number of the only event to prove; None for all events of the session.
            children: True to prove its child sessions, too.
            related: True to prove later events about it, such as changes of tags, and the
                definitions of its agents, too.
            key: The public key that signed the checkpoint, to be included in the file; None for
                none.

        Returns:
            The proof. `proof.text()` is the content of its file, and
            `lllm.audit.proof_page.proof_page` makes a web page of it. `lllm verify --proof FILE` or
            `lllm.audit.check_proof` checks it on any machine.

        Raises:
            SessionNotFound: There is no such session.
            AuditError: The checkpoint is not of this log, or is older than an event to prove.
            LogDamaged: An event of the session is corrupt.
            LogUnavailable: Events wait in memory, because the log can't be written.
        """
        from lllm.audit.log_tree import LogTree
        from lllm.audit.prove import make_proof

        self._require_written("a proof")
        streams = self._reader.streams(session_id, children=children, related=related)
        tree = LogTree(self.log, self._rows.ask)
        return make_proof(streams, tree, checkpoint, redacted=redacted, seq=event, key=key)

    def _require_written(self, what: str) -> None:
        if not self.log.write_held():
            raise LogUnavailable(
                f"Events wait in memory, because the log can't be written; {what} would not "
                "include them."
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
            StoreError: The store is kept in memory, or its backend keeps nothing.
            LogUnavailable: The file can't be read.
        """
        from lllm.store.sql_database import open_database

        self._reader.catch_up()
        return open_database(self, self._rows)

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
        self._reader.catch_up()
        return export_lists(self._rows, target)

    # -- projections

    @property
    def lag(self) -> int:
        """The number of log positions that lists and sums are behind; 0 if up to date."""
        return self._rows.projector.lag()

    def rebuild(
        self,
        *,
        check: bool = False,
        search: bool | None = None,
        progress: Progress | None = None,
    ) -> Rebuilt:
        """Rebuild all lists and sums (the views) from the events, while others read and write.

        Args:
            check: True to replace nothing, and only compare the stored rows with the events.
            search: True to build only the index of `search`, and to keep it from now on; False to
                remove it for good. That is kept in the store. None to rebuild all that it has.
            progress: A function that is called with the position reached and the last position.

        Returns:
            What was built; with `check`, also the first difference.

        Raises:
            LogError: The log can't be read, or the rows can't be written.
            SearchUnavailable: This Python's SQLite has no full-text search.
            ValueError: Both `check` and `search` are given.
        """
        if check and search is not None:
            raise ValueError("check compares and search changes; give one of them")
        self.log.write_held()
        if search is not None:
            return self._rows.search_on(progress=progress) if search else self._rows.search_off()
        return self._rows.rebuild(check=check, progress=progress)

    # -- closing

    def close(self) -> None:
        """Write held events and close every file; closing twice does nothing."""
        self._host.close()

    def __enter__(self) -> LogStore:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()


def _a_reason(reason: str) -> str:
    if not reason.strip():
        raise ValueError("Give a reason; it stays in the log.")
    return reason


def _plan_of(
    every: Duration | None,
    to: str | os.PathLike[str] | None,
    key: PrivateKey | str | os.PathLike[str] | None,
    backend: LogBackend,
) -> SealPlan | None:
    if every is None and to is None and key is None:
        return None
    from lllm.audit.periodic_seals import seal_plan

    return seal_plan(every, to, key, backend)


def session_host(store: LogStore) -> StoreSessionHost:
    """Get the SessionHost of a store; not part of the public API.

    Args:
        store: An open store.

    Returns:
        The store's only host. The store stays open as long as the caller keeps it.
    """
    return store._host


_sent_stores: dict[StoreSessionHost, LogStore] = {}  # unpickled stores, which stay open until exit


def _store_on(host: StoreSessionHost) -> LogStore:
    """Unpickle a store that another process pickled; see `LogStore.__reduce__`."""
    store = object.__new__(LogStore)
    store._attach(host)
    return _sent_stores.setdefault(host, store)  # one atomic step, whichever thread asks
