"""A process, or its connection, ends at each statement that it sends to PostgreSQL.

Between them stands a proxy that counts what the client sends: connecting, appending, catching up,
and everything that a rebuild, an erasure, a VACUUM, an archive and a retention ask of the server.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from lllm import LogStore, LogUnavailable, SessionWasArchived, SessionWasErased
from lllm.events.backend import read_digests
from tests.lllm.archive.test_archiving import is_sound, record
from tests.support.postgres import new_schema, server
from tests.support.postgres_proxy import Proxy
from tests.support.waiting import HANG
from tests.survival.ledger import entries
from tests.survival.postgres_work import REFUSED, WORKS, work
from tests.survival.scale import asked_for
from tests.survival.writers import processes

pytestmark = pytest.mark.slow

_SOME = 2  # statements at which a short run stops it in each way; a long run takes all of them


class Round:
    """One store, in which the same work is stopped again and again, a statement later each time."""

    def __init__(self, name: str, folder: Path, proxy: Proxy) -> None:
        self.name, self.folder, self.proxy = name, folder, proxy
        self.schema = new_schema()
        self.option = "&partition_by=month" if name == "retention" else ""
        self.ledger = folder / "ledger"
        with self.opened() as store:
            record(store, "stays")

    def opened(self) -> LogStore:
        """The store, without the proxy."""
        return LogStore.open(server().url(self.schema) + self.option)

    def stop_at(self, number: int, how: str) -> int:
        """Let a process work, and stop it at a statement. Returns how many it sent."""
        with self.opened() as store:
            session = record(store, f"{how} {number}")
            WORKS[self.name].prepare(store, session)
        sent = 0
        process = processes().Process(
            target=work,
            args=(
                self.name, self.proxy.url(self.schema) + self.option, session,
                str(self.folder / "old"), str(self.ledger),
            ),
        )  # fmt: skip

        def at_sending(backend: int) -> bool:
            nonlocal sent
            sent += 1
            if sent != number:
                return True
            if how == "terminate":
                if backend:
                    server().run(f"SELECT pg_terminate_backend({backend}, 5000)")
                return bool(backend)
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            return how == "kill after"

        self.proxy.at_sending = at_sending
        process.start()
        process.join(HANG)
        self.proxy.at_sending = None
        code = process.exitcode
        process.close()
        if number and number <= sent and how != "terminate":
            assert code in (-signal.SIGKILL, 0)  # 0 after the last one: that it closes a connection
        else:
            assert code in (0, REFUSED), self.ledger.with_suffix(".errors").read_text()
        self.check(session)
        return sent

    def check(self, session: str) -> None:
        """Nothing is lost, doubled or half there; and the work can be done now."""
        told = entries(self.ledger)
        with self.opened() as store:
            self._is_sound(store)
            digests = Counter(
                digest.hex() for page in read_digests(store.backend) for _, digest in page
            )
            assert [one for one in told if digests[one.digest] != 1] == []
            self._is_whole(store, session)
            WORKS[self.name].do(store, session, str(self.folder / "old"))
            if self.name in ("erase", "vacuum", "retention"):
                with pytest.raises(SessionWasErased):
                    store.load_session(session)
            elif self.name == "archive":
                with pytest.raises(SessionWasArchived):
                    store.load_session(session)
            else:
                assert store.load_session(session).state == "success"

    def _is_sound(self, store: LogStore) -> None:
        """Wait for the server's processes of a killed client: they end what they got before."""
        until = time.monotonic() + HANG
        while True:
            assert time.monotonic() < until
            try:
                is_sound(store)
            except LogUnavailable:
                time.sleep(0.05)
            else:
                return

    def _is_whole(self, store: LogStore, session: str) -> None:
        """All of a session can be read, or nothing of it."""
        try:
            loaded = store.load_session(session)
        except (SessionWasErased, SessionWasArchived):
            assert self.name not in ("append", "catch-up", "rebuild")
        else:
            assert loaded.state == "success"
            assert loaded.task is not None


@pytest.mark.parametrize("name", WORKS)
def test_stopped_at_each_statement(name: str, tmp_path: Path) -> None:
    """Wherever it ends, all that was acknowledged is there once, sessions are whole or gone, the
    rows are those of a rebuild, and the next process does the work to its end."""
    scale = asked_for()
    with Proxy(server()) as proxy:
        rounds = Round(name, tmp_path, proxy)
        last = rounds.stop_at(0, "not at all")
        assert last > 5
        numbers = range(1, last + 1)
        for how in ("kill before", "kill after", "terminate"):
            chance = scale.random(f"{name} {how}")
            for number in numbers if scale.long else chance.sample(numbers, _SOME):
                rounds.stop_at(number, how)
        with rounds.opened() as store:
            is_sound(store)
