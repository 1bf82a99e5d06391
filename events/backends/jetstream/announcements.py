"""Waits for appends to a log in JetStream: the server sends the headers of new envelopes."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from lllm.events.backends.jetstream.connection import NatsConnection
from lllm.events.backends.jetstream.messages import Subjects
from lllm.events.backends.jetstream.stream_requests import call_api
from lllm.events.errors import LogError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

_HEARTBEAT_NANOSECONDS = 10**9  # between two messages of a server that has nothing to tell
_KEPT_NANOSECONDS = 30 * 10**9  # for which the server keeps a consumer that nobody listens to


class EnvelopeListener:
    """A consumer that hears of appends; used as a context manager.

    The consumer is on one server and ends with it. While nothing is appended, the server says so
    every second; when it says nothing for a while, the consumer is made anew, and the log is looked
    at.

    Args:
        connection: The connection to the cluster.
        subjects: The subjects of the log.
        timeout: Seconds for an answer.
    """

    silence = 5.0

    def __init__(self, connection: NatsConnection, subjects: Subjects, timeout: float) -> None:
        self._connection = connection
        self._subjects = subjects
        self._timeout = timeout
        self._news = threading.Event()
        self._heard = time.monotonic()
        self._subscription: Subscription | None = None

    def __enter__(self) -> EnvelopeListener:
        self._connection.ask(self._listen, self._timeout)
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        with suppress(LogError):
            self._connection.run(self._leave, 1.0)

    async def _listen(self, client: Client) -> None:
        await self._leave(client)

        async def take(message: Msg) -> None:
            self._heard = time.monotonic()
            if "Status" not in (message.headers or {}):
                self._news.set()

        inbox = client.new_inbox()
        self._subscription = await client.subscribe(inbox, cb=take)
        config = {
            "deliver_subject": inbox,
            "deliver_policy": "new",
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subject": self._subjects.all_envelopes,
            "headers_only": True,
            "idle_heartbeat": _HEARTBEAT_NANOSECONDS,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _KEPT_NANOSECONDS,
        }
        root = self._subjects.root
        request = {"stream_name": root, "config": config}
        await call_api(client, f"CONSUMER.CREATE.{root}", request, self._timeout)

    async def _leave(self, client: Client) -> None:
        del client
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(Exception):  # the connection was closed, or made anew
                await subscription.unsubscribe()

    def wait(self, seconds: float) -> bool:
        """Wait for an append; see `Announcements`."""
        if self._news.wait(seconds):
            self._news.clear()
            return True
        if time.monotonic() - self._heard > self.silence:
            self._heard = time.monotonic()
            with suppress(LogError):  # a look at the log tells more
                self._connection.run(self._listen, 1.0)
            return True
        return False
