"""A PostgreSQL server whose disk is full, and one that is away for a minute."""

from __future__ import annotations

import secrets
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from lllm import LogStore, PostgresBackend
from lllm.events.buffered import BufferedLog
from lllm.testing.writers import event, without_positions
from tests.support.postgres import Server, new_schema, server
from tests.support.postgres_proxy import Proxy
from tests.support.waiting import HANG

pytestmark = pytest.mark.slow

_LIMIT = 17 << 20  # bytes of a file; segments of the write-ahead log have 16 MiB


class Disk:
    """Room for the server's files, which may be over: no file grows above a limit."""

    def __init__(self, of: Server) -> None:
        self._server = of

    def allow(self, size: int) -> None:
        """Set the limit for the server and all of its processes, -1 for none."""
        limit = "unlimited" if size < 0 else str(size)
        for pid in (self._server.pid, *self._children()):
            self._server.run_as_its_user("prlimit", f"--pid={pid}", f"--fsize={limit}:unlimited")

    def _children(self) -> Iterator[int]:
        tasks = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children")
        yield from (int(pid) for pid in tasks.read_text().split())


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
def test_a_full_disk() -> None:
    """What can't be stored waits in memory, in order, and so does all behind it; then it comes."""
    own = Server()
    disk = Disk(own)
    log = PostgresBackend(own.url(new_schema()))
    buffered = BufferedLog(log)
    try:
        events = [event("s", 1)]
        buffered.append(events)
        disk.allow(_LIMIT)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            while not buffered.held and len(events) < 100:
                data = b'"%b"' % secrets.token_hex(300_000).encode()  # can't be compressed much
                events.append(event("s", len(events) + 1, data))
                buffered.append(events[-1:])
        assert "wait in memory" in str(warned[0].message)
        for _ in range(5):
            events.append(event("s", len(events) + 1))
            buffered.append(events[-1:])
        assert len(buffered.held) >= 6
        assert without_positions(log.read()) == events[: -len(buffered.held)]
        disk.allow(-1)
        until = time.monotonic() + HANG
        while not buffered.write_held(now=True, within=2.5):
            assert time.monotonic() < until
        assert without_positions(log.read()) == events
    finally:
        disk.allow(-1)
        buffered.close()
        own.remove()


def test_a_network_that_is_away_for_a_minute() -> None:
    """The program goes on; its session is not lost, nothing is doubled, and it ends as it should,
    though another machine may have called it interrupted meanwhile."""
    schema = new_schema()
    with Proxy(server()) as proxy, LogStore(PostgresBackend(proxy.url(schema), timeout=2)) as store:
        with store.session("p::before") as own:
            own.deliver("x")
        ids = [own.session_id]
        with store.session("p::away") as own:
            proxy.silent.set()
            ids.append(own.session_id)
            until = time.monotonic() + 62
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                while time.monotonic() < until:
                    with store.session("p::meanwhile") as inner:
                        inner.deliver("y")
                    ids.append(inner.session_id)
                    time.sleep(1)
            assert "wait in memory" in str(warned[0].message)
            with LogStore.open(server().url(schema)) as other:
                assert ids[0] in {one.session_id for one in other.list_sessions()}
            proxy.silent.clear()
            own.deliver("z")
        until = time.monotonic() + HANG
        while not store.log.write_held(now=True, within=2.5):
            assert time.monotonic() < until
        with LogStore.open(server().url(schema)) as other:
            events = list(other.log.read())
            assert len({(one.stream, one.seq) for one in events}) == len(events)
            listed = {one.session_id: one.state for one in other.list_sessions(limit=None)}
            assert {listed[ids[0]], listed[ids[1]]} == {"success"}
            for one in ids[2:]:
                assert other.load_session(one).state == "success"
