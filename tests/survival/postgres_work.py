"""What a process does to a store in PostgreSQL while it is stopped at one of its statements."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from lllm import LogStore, LogUnavailable
from lllm.events.backends.postgres.backend import PostgresBackend
from tests.events.backends.postgres.test_postgres_partitions import a_month_passes
from tests.lllm.archive.test_archiving import LATER, record
from tests.survival.ledger import Ledger

REFUSED = 3  # the exit code of a process that got an error of the log


class Work(msgspec.Struct, frozen=True):
    """What a process does to a store.

    do: the work; it gets the store, the id of a session and a folder. prepare: what is done before.
    """

    do: Callable[[LogStore, str, str], object]
    prepare: Callable[[LogStore, str], object] = lambda _store, _session: None


WORKS = {
    "append": Work(lambda store, _, __: record(store, "a new one")),
    "catch-up": Work(lambda store, _, __: store.list_sessions()),
    "rebuild": Work(lambda store, _, __: store.rebuild()),
    "erase": Work(lambda store, session, _: store.erase_session(session, reason="asked to")),
    "vacuum": Work(
        lambda store, _, __: store.vacuum(),
        lambda store, session: store.erase_session(session, reason="asked to"),
    ),
    "archive": Work(
        lambda store, _, folder: store.archive(before=LATER, to=folder, by="ada"),
    ),
    "retention": Work(
        lambda store, _, __: store.erase(before=LATER, reason="too old"),
        lambda store, _: a_month_passes(store, store.backend.schema),  # type: ignore[attr-defined]
    ),
}


def work(name: str, url: str, session: str, folder: str, ledger: str) -> None:
    """What the process runs."""
    told = Ledger(Path(ledger))
    try:
        with told.complaining(except_for=LogUnavailable), LogStore.open(url) as store:
            assert isinstance(store.backend, PostgresBackend)
            told.watch(store.backend)
            WORKS[name].do(store, session, folder)
    except LogUnavailable:
        os._exit(REFUSED)
