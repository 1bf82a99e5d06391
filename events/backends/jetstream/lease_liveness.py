"""Finds out which processes that write to a log in JetStream are alive, on any machine.

A process has two keys in a bucket beside the log: one says that it is known, and one is a lease,
which the server deletes a minute after the process has renewed it for the last time. A process that
is known and has no lease is dead. Time is the server's.

The lease is renewed in the thread of the client, so nobody waits for the network. A wrong verdict,
after servers were away for a minute, is undone by the next event of the process.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from lllm.events.backends.jetstream.client_loop import CLIENT_LOOP
from lllm.events.backends.jetstream.connection import NatsConnection, ServerError, is_in_cluster
from lllm.events.backends.jetstream.stream_requests import (
    STREAM_NOT_FOUND,
    call_api,
    last_message,
    store_message,
)
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.robust_locks import RobustLock
from lllm.events.errors import LogError, LogUnavailable

if TYPE_CHECKING:
    from nats.aio.client import Client

LEASE = 60  # seconds without a renewal after which a process is dead
_RENEWALS = 4  # in the time of a lease
_AGAIN = 1.0  # seconds between two attempts to renew
_WAIT = 5.0  # seconds for an answer
_LEAVING = 1.0  # the same for the last word
_FRESH = 1.0  # seconds for which an answer of the server is used again
_REMEMBERED = 1_000  # answers
_OWNER = re.compile("nats-[0-9a-f]{32}")


class LeaseLiveness:
    """The processes that write to one log.

    Args:
        stream: The name of the log's stream.
        replicas: How many servers keep a copy of the bucket; None for three in a cluster.
        connection: The connection to the cluster.
    """

    def __init__(self, stream: str, replicas: int | None, connection: NatsConnection) -> None:
        self._connection = connection
        self._replicas = replicas
        self._bucket = f"KV_{stream}-writers"
        self._keys = f"$KV.{stream}-writers"
        self._users = 0
        register_after_fork(self)
        self._begin()

    def _begin(self) -> None:
        self._lock = RobustLock()  # reentrant: a signal handler may call this, too
        self._owner: str | None = None
        self._known_owner: str | None = None  # that the server was told before an append
        self._unfinished = False
        self._renewing: Future[None] | None = None
        self._found: dict[str, tuple[float, bool, bool]] = {}

    def after_fork(self) -> None:
        """Make the child another process, which is known when it first writes."""
        self._begin()

    def use(self) -> None:
        """Count one more store; see `WriterLiveness`."""
        with self._lock:
            self._users += 1

    def owner(self) -> str:
        """The name of this process, which is made known before it appends."""
        with self._lock:
            if self._owner is None:
                self._owner = f"nats-{secrets.token_hex(16)}"
            return self._owner

    def make_known(self, seconds: float) -> None:
        """Make this process known before its first append, since a process nobody knows never dies.

        Args:
            seconds: The longest time to wait.

        Raises:
            LogUnavailable: The server does not answer.
        """
        owner = self._owner
        if owner is None or owner == self._known_owner:
            return
        with self._lock:
            if owner != self._known_owner:
                self._connection.ask(self._introduce(owner), seconds)
                self._known_owner = owner
                self._renewing = CLIENT_LOOP.start(self._renew(owner))

    def _introduce(self, owner: str) -> Callable[[Client], Awaitable[None]]:
        async def run(client: Client) -> None:
            request = {
                "name": self._bucket,
                "subjects": [f"{self._keys}.>"],
                "max_msgs_per_subject": 1,
                "storage": "file",
                "num_replicas": self._replicas or (3 if is_in_cluster(client) else 1),
                "allow_msg_ttl": True,
                "allow_direct": True,
                "allow_rollup_hdrs": True,
                "discard": "new",
            }
            with suppress(ServerError):  # others made it; storing the keys tells whether it works
                await call_api(client, f"STREAM.CREATE.{self._bucket}", request, _WAIT)
            # The lease first: a process that is known and has none is dead.
            await self._put_lease(client, owner)
            await store_message(client, f"{self._keys}.known.{owner}", b"", _WAIT)

        return run

    async def _put_lease(self, client: Client, owner: str) -> None:
        ttl = {"Nats-TTL": f"{LEASE}s"}
        await store_message(client, f"{self._keys}.lease.{owner}", b"", _WAIT, ttl)

    async def _renew(self, owner: str) -> None:
        import asyncio

        async def put(client: Client) -> None:
            await self._put_lease(client, owner)

        wait = LEASE / _RENEWALS
        while True:
            await asyncio.sleep(wait)
            begin = time.monotonic()
            try:
                await self._connection.within(put, _WAIT)
                wait = LEASE / _RENEWALS
            except LogError:
                await self._connection.leave_within(begin)
                wait = _AGAIN

    def _state(self, owner: str) -> tuple[bool, bool]:
        """Ask whether a process is known, and whether it has a lease."""
        if not _OWNER.fullmatch(owner):
            return False, False
        now = time.monotonic()
        at, known, leased = self._found.get(owner, (-_FRESH, False, False))
        if now - at < _FRESH:
            return known, leased

        async def look(client: Client) -> tuple[bool, bool]:
            try:
                # In the other order than they are stored.
                known = await last_message(
                    client, self._bucket, f"{self._keys}.known.{owner}", _WAIT
                )
                lease = known and await last_message(
                    client, self._bucket, f"{self._keys}.lease.{owner}", _WAIT
                )
            except ServerError as error:
                if error.code == STREAM_NOT_FOUND:
                    return False, False
                raise LogUnavailable(str(error)) from None
            return known is not None, lease is not None

        known, leased = self._connection.ask(look, _WAIT)
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        self._found[owner] = (now, known, leased)
        return known, leased

    def can_tell(self, owner: str, on_host: str) -> bool:
        """True if the server knows the process; see `WriterLiveness`."""
        del on_host  # the server knows the processes of all machines
        with suppress(LogUnavailable):
            return self._state(owner)[0]
        return False

    def is_elsewhere(self, owner: str) -> bool:
        """True if the server does not know the process; see `WriterLiveness`."""
        if not owner or owner == self._owner:
            return False
        with suppress(LogUnavailable):
            return not self._state(owner)[0]
        return False

    def is_dead(self, owner: str, on_host: str) -> bool:
        """True if the process is known to be dead; see `WriterLiveness`."""
        del on_host
        if owner == self._owner:
            return False
        with suppress(LogUnavailable):
            return self._state(owner) == (True, False)
        return False

    def forget(self, owner: str) -> None:
        """Forget a dead process; see `WriterLiveness`."""
        if _OWNER.fullmatch(owner):
            with suppress(LogError):
                self._connection.run(self._leaving(owner), _WAIT)

    def _leaving(self, owner: str) -> Callable[[Client], Awaitable[None]]:
        async def run(client: Client) -> None:
            for key in ("known", "lease"):
                request = {"filter": f"{self._keys}.{key}.{owner}"}
                await call_api(client, f"STREAM.PURGE.{self._bucket}", request, _WAIT)

        return run

    def close(self, *, keep_file: bool = False) -> None:
        """Count one store less, and let the lease go after the last; see `WriterLiveness`."""
        with self._lock:
            self._users = max(0, self._users - 1)
            self._unfinished |= keep_file
            if self._users or self._owner is None:
                return
            owner, known = self._owner, self._known_owner
            renewing, self._renewing = self._renewing, None
            self._owner = self._known_owner = None
        if renewing is not None:
            renewing.cancel()
        if known is not None and not self._unfinished:
            with suppress(LogError):
                self._connection.run(self._leaving(owner), _LEAVING)
