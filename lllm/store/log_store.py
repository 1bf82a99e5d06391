"""The class LogStore: records sessions, and lists, loads, sums up and exports them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from lllm.durations import Duration
from lllm.events.backend import LogBackend
from lllm.events.backends import open_log
from lllm.events.buffered import OnError
from lllm.events.errors import ConfigError
from lllm.events.redaction.redact import Redact, checked
from lllm.packages.registry import Runtime, default_runtime
from lllm.pricing.user_prices import Prices, PriceTable
from lllm.projections.engine.rebuild import Progress, Rebuilt
from lllm.projections.view import View
from lllm.store.methods.erasing import ErasesSessions
from lllm.store.methods.listing import ListsSessions
from lllm.store.methods.loading import LoadsSessions
from lllm.store.methods.proving import ProvesSessions
from lllm.store.methods.recording import RecordsSessions
from lllm.store.methods.replaying import ReplaysSessions
from lllm.store.methods.summing import SumsCalls
from lllm.store.methods.tabulating import MakesTables
from lllm.store.session_host import StoreSessionHost, StoreSettings

if TYPE_CHECKING:
    from lllm.audit.anchoring import SealAnchors
    from lllm.audit.keys import PrivateKey
    from lllm.audit.periodic_seals import SealPlan
    from lllm.otel.settings import OtelExport


class LogStore(
    RecordsSessions,
    ReplaysSessions,
    ErasesSessions,
    MakesTables,
    ListsSessions,
    LoadsSessions,
    SumsCalls,
    ProvesSessions,
):
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
        seal_anchors: Who else vouches for them, as a time-stamping authority or witnesses; closing
            the store waits for their answers, up to 10 seconds for each. None for nobody.
        otel: Where sessions are sent as OpenTelemetry spans while the store is open, in a thread
            of its own; None for nowhere. See `lllm.otel.OtelExport`.

    Raises:
        LogError: The backend can't be read or written.
        ConfigError: The backend is not a LogBackend, or `prices`, `redact`, `seal_every` or `otel`
            is invalid.
        AuditError: The folder or key for seals is beside the store, or the key can't be read.
        MissingExtra: `seal_key` or `otel` is given, and the extra `audit` or `otel` is not
            installed.
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
        seal_anchors: SealAnchors | None = None,
        otel: OtelExport | None = None,
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
                    _plan_of(seal_every, seal_to, seal_key, seal_anchors, backend),
                    _checked_export(otel),
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
        seal_anchors: SealAnchors | None = None,
        otel: OtelExport | None = None,
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
            seal_anchors: As in `LogStore`.
            otel: As in `LogStore`.

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
                seal_key=seal_key, seal_anchors=seal_anchors, otel=otel,
            )  # fmt: skip
        except BaseException:
            backend.close()
            raise

    def __repr__(self) -> str:
        return f"LogStore({self.backend!r})"

    def __reduce__(self) -> tuple[Callable[..., LogStore], tuple[StoreSessionHost]]:
        """Pickle only the settings of the store; a process that unpickles them opens it once."""
        return _store_on, (self._host,)

    @property
    def lag(self) -> int:
        """The number of log positions that lists and sums are behind; 0 if up to date."""
        return self._rows.lag()

    def rebuild(
        self,
        *,
        check: bool = False,
        search: bool | None = None,
        jsonb: bool | None = None,
        progress: Progress | None = None,
    ) -> Rebuilt:
        """Rebuild all lists and sums (the views) from the events, while others read and write.

        Args:
            check: True to replace nothing, and only compare the stored rows with the events.
            search: True to build only the index of `search`, and to keep it from now on; False to
                remove it for good. That is kept in the store. None to rebuild all that it has.
            jsonb: True to copy the payloads of sessions as jsonb, for dashboards on PostgreSQL, and
                to keep the copies from now on; False to remove them for good. That is kept in the
                store, too.
            progress: A function that is called with the position reached and the last position.

        Returns:
            What was built; with `check`, also the first difference.

        Raises:
            LogError: The log can't be read, or the rows can't be written.
            SearchUnavailable: This Python's SQLite has no full-text search.
            StoreError: `jsonb` is given, and the store is not in PostgreSQL.
            ValueError: More than one of `check`, `search` and `jsonb` is given.
        """
        if check + (search is not None) + (jsonb is not None) > 1:
            raise ValueError("check compares, search and jsonb change; give one of them")
        self.log.write_held()
        if search is not None:
            return self._rows.search_on(progress=progress) if search else self._rows.search_off()
        if jsonb is not None:
            return self._rows.jsonb_on(progress=progress) if jsonb else self._rows.jsonb_off()
        return self._rows.rebuild(check=check, progress=progress)

    def close(self) -> None:
        """Write held events and close every file; closing twice does nothing."""
        self._host.close()

    def __enter__(self) -> LogStore:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()


def _plan_of(
    every: Duration | None,
    to: str | os.PathLike[str] | None,
    key: PrivateKey | str | os.PathLike[str] | None,
    anchors: SealAnchors | None,
    backend: LogBackend,
) -> SealPlan | None:
    if every is None and to is None and key is None and anchors is None:
        return None
    from lllm.audit.periodic_seals import seal_plan

    return seal_plan(every, to, key, anchors, backend)


def _checked_export(settings: OtelExport | None) -> OtelExport | None:
    if settings is not None:
        from lllm.otel.open_exporter import check_export

        check_export(settings)
    return settings


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
