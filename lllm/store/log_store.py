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
from lllm.events.errors import ConfigError
from lllm.events.ids import new_id, new_salt
from lllm.events.integrity.backup import BackedUp, back_up
from lllm.events.model import ErrorRecorded, SessionTagged, State
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
from lllm.sessions.error_details import describe
from lllm.sessions.session import SessionScope
from lllm.sessions.session_start import check_tags
from lllm.store.call_records import CallRecord, call_filter_of, call_list
from lllm.store.filters import filter_of
from lllm.store.point_in_time import PointInTime
from lllm.store.session_host import StoreSessionHost, StoreSettings
from lllm.store.store_sessions import open_session, tactic_decorator
from lllm.store.summaries import SessionRecord, SessionSummary, Sort, session_list
from lllm.times import Moment, datetime_of, zone_of

if TYPE_CHECKING:
    from lllm.agents.edits import Edit
    from lllm.importing.merge import ImportedSessions
    from lllm.replay.fork import Fork
    from lllm.replay.fork_point import ForkAt
    from lllm.replay.ignored import Ignore
    from lllm.replay.replay import OnDivergence, Replay
    from lllm.replay.session_diff import SessionDiff
    from lllm.store.list_export import ExportedLists
    from lllm.store.sql_database import StoreDatabase


P = ParamSpec("P")
R = TypeVar("R")


class LogStore:
    """Record sessions, and list, load, sum up and export them.

    Args:
        backend: Where the events are kept.
        runtime: The packages that tactic paths are resolved with, None for those loaded in this
            process.
        partition: A name for whose sessions these are, which every session written here carries.
        on_error: "hold" keeps events in memory while the log can't be written; "raise" raises
            LogUnavailable instead.
        redact: A function of the type and the payload of every event, whose result is written; or a
            list of patterns (EMAIL, CARD, BEARER, or a Pattern of your own) and functions, done in
            their order. Known API keys are always cut.
        views: Projections of your own beside lllm's.
        prices: What models cost in US dollars for a million tokens, as
            {"my-model": {"input": 0.5, "output": 1.5}}, or a function of model, usage and provider,
            for those that no price data knows, or that cost you something else; see
            `PriceTable.of`.

    Raises:
        LogError: The backend can't be used.
        ConfigError: The backend is none, or prices or `redact` can't be.
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
    ) -> LogStore:
        """Open the store at a path or URL, by the backend that knows its kind.

        Args:
            location: As `runs.db`, `logs/` or a URL; see `lllm.events.backends.open_log`.
            read_only: True to write nothing; None to write if this user may.
            make: Make a store where there is none.
            runtime: As for LogStore, as are the others.
            partition: See there.
            on_error: See there.
            redact: See there.
            views: See there.
            prices: See there.

        Returns:
            The store.

        Raises:
            ConfigError: No backend knows the scheme of the URL, or an option can't be.
            StoreError: There is no store, and none is to be made.
            LogError: What is there can't be opened.
        """
        backend = open_log(location, read_only=read_only, make=make)
        try:
            return cls(
                backend, runtime=runtime, partition=partition, on_error=on_error, redact=redact,
                views=views, prices=prices,
            )  # fmt: skip
        except BaseException:
            backend.close()
            raise

    def __repr__(self) -> str:
        return f"LogStore({self.backend!r})"

    def __reduce__(self) -> tuple[Callable[..., LogStore], tuple[StoreSessionHost]]:
        """Pickle the store by its settings; another process opens it once."""
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
        """Make a session for code that has no Tactic.

        Use it as `with store.session("my_project::script") as recorder:`, or with `async with`.
        Tactics called inside become its children.

        Args:
            name: Its stable path; the part after the last `::` is its short name.
            tags: To find it by, str to str.
            metadata: Whatever is worth keeping with it.
            task: What is asked. Say what it delivers with `recorder.deliver(value)`.
            partition: Whose session it is; None for the store's partition.
            budget_usd: US dollars that what is called inside may spend on models, None for no
                limit.
            budget_unpriced: What an attempt does under that budget whose cost nobody knows: "warn"
                of the first, or "stop" before the next call of a model.

        Returns:
            The session, which begins when its `with` does.

        Raises:
            TypeError: Tags are not str -> str.
            ValueError: The name is empty.
            ConfigError: The budget can't be.
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
        """Make each call of a function a session, as a decorator: `@store.tactic("summarize")`.

        It stands above a `def` or an `async def`. The first argument of a call is its task, what it
        returns its delivery. Calls from inside of another session are its children.

        Of a generator, sync or async, the items are the delivery. Its session is current within its
        steps only, whichever thread or task takes them or closes it: what a streaming handler of a
        web server needs. Items beyond 16 MiB are counted, not kept; a generator that is left is a
        cancelled failure with the items so far.

        Args:
            name: The short name, to which the nearest lllm.toml above the file adds the package, or
                a stable path with `::`.
            tags: As for `session`, for every call; as are the others.
            metadata: See there.
            partition: See there.
            budget_usd: See there.
            budget_unpriced: See there.

        Returns:
            The decorator.

        Raises:
            ConfigError: The name is none, or the budget can't be.
            PackageError: The lllm.toml is wrong.
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

        Inside the block, agents are answered from the log. No model is called, no tool runs,
        nothing is waited for and nothing is spent; what is asked is compared with the recording.

        Args:
            session_id: The whole id, or the path of a file that `lllm export --format jsonl` wrote.
            on_divergence: "raise" raises ReplayDivergence at the first difference; "report" goes on
                with the recorded answer, and the replay's `divergences` has all of them; "live"
                goes on with the real model, in the dialog that differs and in all that begins
                later: the session is then a fork, which costs what is asked anew.
            ignore: What is left out where requests are compared: key paths, as "params.seed" or
                "messages.*.parts.*.text", and patterns (`re.Pattern`, or those of `redact`).
            live_tools: Names of tools that run all the same; their results are compared.
            record: Keep the replay as a session of its own, whose `origin` names this one. False
                writes nothing.

        Returns:
            The replay, for a `with`. What it found is raised at the latest at the block's end.

        Raises:
            SessionNotFound: There is no such session.
            LogDamaged: An event is not what was written.
            ReplayError: The session can't be replayed.
            ConfigError: An option can't be.
            LogReadOnly: The store can't be written to; `record=False` needs not.
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
        """Go on from a point of a recorded session: `with store.fork(session_id): tactic(task)`.

        Up to the point, agents and captured clients are answered from the log, and no tool runs.
        From there on models are asked and tools run, in all threads and tasks. What the past cost
        is not billed again.

        Args:
            session_id: The whole id, or the path of a file that `lllm export --format jsonl` wrote.
            at: Where: a ReplayPlace, which says as much as tells one turn of the model (or, with
                `tool`, one tool) from the others, and is the point before it; a position of the
                log, as `lllm events` shows them (of a file, the number of a line); a datetime, date
                or text as `lllm.times.parse_time` reads them; None for where it broke. Of a session
                that failed, that is before the turn that failed.
            edit: What is changed there, of an agent; None for nothing.
            on_divergence: What is done where the code asks something else before the point, as for
                `replay`.
            ignore: As for `replay`.
            live_tools: Names of tools that run before the point, too; see `replay`.

        Returns:
            The fork, for a `with`.

        Raises:
            SessionNotFound: There is no such session.
            LogDamaged: An event is not what was written.
            ReplayError: The session can't be forked, or not there.
            ConfigError: An option can't be.
            TypeError: `at` is none of these.
            ValueError: `at` is a text that is no time.
            LogReadOnly: The store can't be written to.
        """
        from lllm.replay.open_replay import open_fork

        return open_fork(
            session_id, self._host, at=at, edit=edit, on_divergence=on_divergence, ignore=ignore,
            live_tools=live_tools,
        )  # fmt: skip

    def diff(self, a: str | os.PathLike[str], b: str | os.PathLike[str]) -> SessionDiff:
        """Compare two recorded sessions: where they first differ, what they delivered and took.

        They are the same where the same was asked, answered and delivered at the same places; ids,
        tags, times and costs do not count.

        Args:
            a: The whole id of a session, or the path of a file that `lllm export --format jsonl`
                wrote.
            b: The same of the other.

        Returns:
            How they differ.

        Raises:
            SessionNotFound: There is no such session.
            LogDamaged: An event is not what was written.
            ReplayError: One of them is cut off, erased, or of a newer lllm.
        """
        from lllm.replay.open_replay import read_session
        from lllm.replay.session_diff import ReadSession, diff_sessions

        return diff_sessions(
            ReadSession(*read_session(a, self._host)), ReadSession(*read_session(b, self._host))
        )

    def carry(self, function: Callable[P, R]) -> Callable[P, R]:
        """Make a function run in the current session, whichever thread calls it.

        As `pool.map(store.carry(work), items)`. What it spends comes out of the session's budget.

        Args:
            function: A function or a coroutine function. It can be called any number of times, also
                in many threads at once.

        Returns:
            A function with the same name, arguments, result and errors. Where no session is running
            here, it runs outside of any.
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

        The session's own events stay as they are; this is an event beside them.

        Args:
            session_id: The whole id.
            tags: Those to add or change.
            remove: The names of those to remove.
            by: Who says so.

        Raises:
            TypeError: Tags are not str -> str.
            SessionNotFound: There is no such session.
        """
        changes = check_tags(tags)
        self._reader.find(session_id, below=False)
        event = SessionTagged(
            about=session_id, set=changes, removed=tuple(remove), by=by, salt=new_salt()
        )
        self._append_statement("tagged", event)

    def save_error(self, error: BaseException, *, context: object = None) -> str:
        """Record a failure outside any session.

        Args:
            error: What was raised.
            context: Whatever helps to understand it.

        Returns:
            The id that `events` finds it by.
        """
        event = ErrorRecorded(
            error=describe(error),
            context=to_plain(context),
            partition=self.partition,
            salt=new_salt(),
        )
        return self._append_statement("error", event)

    def _append_statement(self, kind: str, event: SessionTagged | ErrorRecorded) -> str:
        stream = f"{kind}-{new_id()}"
        append_statement(self.log, stream, event, salt=event.salt, redact=self.redact)
        return stream

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
    ) -> list[SessionSummary]:
        """List the top-level calls, newest first (by start, then id).

        Args:
            tags: Only sessions that have all of these.
            state: Only "success", "failure", "running" or "interrupted" ones.
            tactic_path: The outermost calls of this tactic, at any depth.
            limit: How many at most, None for all there are.
            after: Only what began then or later: a datetime, a date, or a text as "7d", "today" or
                "2026-01-31T18:00" (see `lllm.times.parse_time`).
            before: Only what began earlier than then.
            tz: The zone of times that name no offset, naive datetimes among them: UTC, or
                "Europe/Berlin", "local", a tzinfo.
            partition: Only of this partition.
            cursor: Of the last summary seen, to go on behind it.
            sort: "started", or "cost" for the most expensive first, children included, and the
                newer of two that cost the same. All that the filters select is looked at then: half
                a second for a million.
            replays: List replays, too, of which only those at the top; else none are listed.

        Returns:
            A light summary of each, in their order.

        Raises:
            ValueError: A state, limit, sort, cursor, time or zone can't be.
            TypeError: Tags are not str -> str.
        """
        wanted = filter_of(
            self._runtime, tags, state, tactic_path, after, before, partition, tz, replays
        )
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
        """List single attempts to call a model, newest first, failed and repeated ones among them.

        It finds the slowest call, or last week's 429s. `pandas.DataFrame(store.list_calls())` has a
        column for each field.

        Args:
            error: Only attempts that failed with this HTTP status (429, or "5xx" for all from 500
                on), or whose error has this text in its type, code or message ("timeout", "rate
                limit"); small and capital letters are alike.
            model: Only of this model, asked for or answering; `*` stands for anything, as in
                "gpt-4o*" or "*claude*".
            provider: Only of this provider, by the names of genai-prices ("openai").
            slower: Only attempts that took this long or longer: seconds, a timedelta, or a text as
                "5s", "500ms" or "2min".
            state: Only "success", "failure", "running" or "interrupted" ones: the attempts' own
                state, not that of their session.
            session_id: Only of this session and those below it.
            tactic_path: Only of sessions of this tactic, at any depth.
            tags: Only of sessions that have these tags, or whose root has them.
            after: Only what began then or later: a datetime, a date, or a text as "7d", "today" or
                "2026-01-31T18:00" (see `lllm.times.parse_time`).
            before: Only what began earlier than then.
            tz: The zone of times that name no offset: UTC, or "Europe/Berlin", "local", a tzinfo.
            partition: Only of sessions of this partition.
            sort: "started", or the largest first by "elapsed", "first_token", "cost" or "tokens";
                attempts of which that is not known come last. For first tokens and tokens, all that
                the other filters select is looked at.
            limit: How many at most, None for all there are.
            cursor: Of the last record seen, to go on behind it.

        Returns:
            The attempts in their order.

        Raises:
            ValueError: A filter, the order, the limit, the cursor, a time or the zone can't be.
            TypeError: Tags are not str -> str, or `slower` is no length of time.
        """
        of = filter_of(self._runtime, tags, state, tactic_path, after, before, partition, tz)
        wanted = call_filter_of(of, error, model, provider, slower, session_id)
        return self._reader.ask(call_list(wanted, sort, limit, cursor))

    def find_id(self, prefix: str) -> str:
        """Find the one session id that begins with a prefix.

        Args:
            prefix: Some first letters and digits of it.

        Returns:
            The whole id.

        Raises:
            SessionNotFound: None begins so.
            AmbiguousId: Several do.
        """
        return self._reader.find_id(prefix)

    def load_session(self, session_id: str, *, at: PointInTime | None = None) -> TacticCallSession:
        """Load a session with everything that happened in it and below it.

        Args:
            session_id: The whole id.
            at: Load it as it was then: at a position of the log, or a time, as a datetime, a date
                or a text as "5m" (see `lllm.times.parse_time`), UTC where it names no offset.

        Returns:
            The session.

        Raises:
            SessionNotFound: There is no such session.
            StoreError: It had not begun at `at`.
            LogDamaged: An event is not what was written.
        """
        return self._reader.load(session_id, at=at)[1]

    def load_session_record(
        self, session_id: str, *, at: PointInTime | None = None
    ) -> SessionRecord:
        """Load a session with its tags, metadata, start and, where it failed, the traceback.

        Args:
            session_id: The whole id.
            at: Load it, and its tags, as they were then; see `load_session`.

        Returns:
            The session and what the store knows about it.

        Raises:
            SessionNotFound: There is no such session.
            StoreError: It had not begun at `at`.
            LogDamaged: An event is not what was written.
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
        )

    def events(self, session_id: str, *, at: PointInTime | None = None) -> Iterator[Recorded]:
        """Read the events of one session, and later statements about it.

        Args:
            session_id: The whole id; or what `save_error` returned, for that error.
            at: Only what was written by then; see `load_session`.

        Returns:
            The events, in the order of the log.

        Raises:
            SessionNotFound: There is no such session.
            StoreError: It had not begun at `at`.
            LogDamaged: An event is not what was written.
        """
        return self._reader.events(session_id, at=at)

    def follow(self, *, after: int | None = None, poll: float = 0.1) -> Iterator[Recorded]:
        """Iterate over the events of all sessions as any process writes them, without end.

        Args:
            after: The position to begin behind, None for now.
            poll: Seconds between two looks.

        Yields:
            Each event once, in the order of the log.

        Raises:
            LogDamaged: The log ends before a position that was read, as an older copy does.
        """
        yield from logs.follow(self.log, after=after, poll=poll)  # which keeps the store open

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
            format: "json" is the session with those below it, what a user passed in its recorded
                form; "jsonl" its events, verbatim, with all that they refer to, one a line.
            at: The session as it was then; see `load_session`.

        Returns:
            The text, which UTF-8 can hold.

        Raises:
            ValueError: The format is another one.
            SessionNotFound: There is no such session.
            StoreError: It had not begun at `at`.
            LogDamaged: An event is not what was written.
        """
        return self._reader.export(session_id, format, at=at)

    def import_sessions(
        self, *sources: str | os.PathLike[str] | LogBackend, progress: Progress | None = None
    ) -> ImportedSessions:
        """Import sessions recorded elsewhere, with their tags, agents and errors.

        The logs of five machines become one. Every event is checked against its digest, and gets a
        new position. What is here already is not stored twice, and a session of which a part is
        here is completed. Where anything of a session, or of one above or below it, is not as it
        was written, nothing of them is imported; the others are.

        Args:
            sources: Files that `export_session(..., "jsonl")` wrote, also several in one; paths and
                URLs of whole stores, which are only read; or open backends.
            progress: Called with how much was read, and how much there is to read.

        Returns:
            How many sessions and events are new.

        Raises:
            ImportRefused: Something was not imported; everything else was.
            StoreError: There is no such file or store, or it is this one; nothing was imported.
            LogError: A store can't be read, or this one not be written.
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
        """Sum the costs of the selected sessions, with everything below them.

        Args:
            tactic_path: As for `list_sessions`, as are the other filters.
            tags: See there.
            after: See there.
            before: See there.
            tz: The zone of the days, and of times that name no offset: UTC, or "Europe/Berlin",
                "local", a tzinfo. A day goes from midnight to midnight there, and has 23 or 25
                hours where clocks change.
            partition: See there.
            state: See there.
            group_by: "tactic", "model", "agent", "day" or "tag:KEY"; each attempt counts once, for
                its own tactic, model, agent and day. Of several, each stands within the one before
                it.
            prices: "recorded" are those of the time of each call; "current" prices its usage as
                this store would today; a table or function (see `PriceTable.of`) prices what it
                names, and the rest is priced as today.
            as_model: Price every call as this model's, whoever answered. Like other prices, it
                changes no event: the log is read anew, about 50 us for each call.

        Returns:
            The sums, and how many calls have no known price.

        Raises:
            ValueError: A group, time or zone can't be.
            ConfigError: Prices can't be, or `as_model` has no price.
            LogDamaged: Usage can't be read anew.
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
        """Copy the log as it is at one moment, while others write to it.

        To restore it, copy it back.

        Args:
            destination: A path where nothing is yet.

        Returns:
            Where the copy lies, its size in bytes and its last position.

        Raises:
            LogError: Something is there, or the copy can't be made.
        """
        self.log.write_held()
        return back_up(self.backend, local_path(destination))

    def database(self) -> StoreDatabase:
        """Open the store as a read-only database of sqlite-utils, for your own SQL.

        As `store.database().query("SELECT state, count(*) FROM sessions GROUP BY state")`. It is
        brought up to date first, as a list is. `lllm query --schema` explains its tables; the
        events themselves are in that of an SQLite store only. Nothing can be written through it,
        and closing it closes nothing else. For one thread at a time.

        Returns:
            A `sqlite_utils.Database` (https://sqlite-utils.datasette.io/), read only: a statement
            that writes raises LogReadOnly.

        Raises:
            StoreError: The store is kept in memory, or nowhere.
            LogUnavailable: The file can't be read.
        """
        from lllm.store.sql_database import open_database

        self._reader.catch_up()
        return open_database(self, self._rows)

    def export_lists(self, path: str | os.PathLike[str]) -> ExportedLists:
        """Write the lists of this store to a database of your own.

        These are every session, its tags, its calls of models, and what each top-level session cost
        by day, tactic, model and agent.

        Args:
            path: An SQLite file, made where there is none. It gets the plain tables `sessions`,
                `tags`, `calls` and `costs`; other tables in it stay. A second run updates them,
                and several stores may go into one file.

        Returns:
            How many rows of each table were written.

        Raises:
            StoreError: The file can't be written, is a store, or has other tables of these names;
                nothing is changed then.
        """
        from lllm.store.list_export import export_lists

        target = local_path(path).resolve()
        self._reader.catch_up()
        return export_lists(self._rows, target)

    # -- projections

    @property
    def lag(self) -> int:
        """The number of positions that the rows are behind the log."""
        return self._rows.projector.lag()

    def rebuild(self, *, check: bool = False, progress: Progress | None = None) -> Rebuilt:
        """Rebuild every view from the events, while others read and write.

        Args:
            check: Replace nothing, and compare what is there with what the events say.
            progress: Called with the position reached and the position to reach.

        Returns:
            What was built, and the first difference where it was compared.

        Raises:
            LogError: The log can't be read, or the rows can't be written.
        """
        self.log.write_held()
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


def session_host(store: LogStore) -> StoreSessionHost:
    """Get the SessionHost of a store; not part of the public API.

    Args:
        store: An open store.

    Returns:
        The same for the same store. The store stays open for as long as it is held.
    """
    return store._host


_sent_stores: dict[StoreSessionHost, LogStore] = {}  # of hosts that live as long as this process


def _store_on(host: StoreSessionHost) -> LogStore:
    """Make the store that another process sent."""
    store = object.__new__(LogStore)
    store._attach(host)
    return _sent_stores.setdefault(host, store)  # in one step, whichever thread asks
