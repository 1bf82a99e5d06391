"""What a log in NATS JetStream costs: beside bare batches, beside a bare consumer, and a death.

Three servers on loopback keep the stream. The bare batch has the same messages as the append.
"""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

from benchmarks.measure import Bar, Figure, Spread, in_rounds, median_shown, ratio
from lllm.events.backends.jetstream.backend import JetStreamBackend
from lllm.events.backends.jetstream.messages import Subjects, batch_of
from lllm.events.backends.jetstream.stream_requests import Outgoing, store_batch
from lllm.events.envelope import NewEvent
from lllm.testing.writers import batch, event

if TYPE_CHECKING:
    from nats.aio.client import Client

    from tests.support.nats import Cluster

AREA = "jetstream"
_PAYLOAD = b'{"text":"' + b"0123456789" * 70 + b'"}'
_EVENTS = 3  # of an append
_MESSAGE = 1 << 20  # the longest
_STREAM = {
    "name": "bare", "subjects": ["bare.>"], "storage": "file", "num_replicas": 3,
    "allow_direct": True, "allow_atomic": True,
}  # fmt: skip


def figures(*, quick: bool) -> Iterator[Figure]:
    """Appends, a read of all of them, and the longest append when the leader is killed."""
    from tests.support.nats import Cluster  # an installed lllm has no tests

    cluster = Cluster(3)
    try:
        log = JetStreamBackend(cluster.url("runs"), timeout=60.0)
        log.head()
        with asyncio.Runner() as runner:
            client = runner.run(_connect(cluster))
            rounds = 200 if quick else 2_000
            yield _appends(log, runner, client, rounds)
            yield _reads(log, runner, client, 3 if quick else 10)
            runner.run(client.close())
        yield _death(log, cluster, 12.0)
        log.close()
    finally:
        cluster.remove()


async def _connect(cluster: Cluster) -> Client:
    import nats

    client = await nats.connect([f"nats://{host}:{port}" for host, port in cluster.addresses])
    await client.request("$JS.API.STREAM.CREATE.bare", json.dumps(_STREAM).encode(), timeout=10)
    await asyncio.sleep(1)
    return client


def _events(stream: str) -> Iterator[list[NewEvent]]:
    for number in count():
        first = number * _EVENTS + 1
        yield [event(stream, seq, _PAYLOAD) for seq in range(first, first + _EVENTS)]


def _bare_messages() -> Iterator[Sequence[Outgoing]]:
    subjects = Subjects("bare")
    for events in _events("s"):
        messages, _, _ = batch_of(subjects, events, {"s": (0, 0)}, _MESSAGE)
        yield [Outgoing(one.subject, one.data) for one in messages]


def _appends(log: JetStreamBackend, runner: asyncio.Runner, client: Client, rounds: int) -> Figure:
    ours, theirs = _events("s"), _bare_messages()
    taken = in_rounds(
        {
            "append": lambda: log.append(next(ours)),
            "bare": lambda: runner.run(store_batch(client, next(theirs), 5.0)),
        },
        rounds,
    )
    beside = f"{median_shown(taken['append'])}, the batch {median_shown(taken['bare'])}"
    what = f"append of {_EVENTS} events, in speed of a bare batch of its messages"
    speed = ratio(taken["bare"], taken["append"]).times(100)
    return Figure(AREA, what, speed, "%", beside, Bar(80, "at least"))


def _reads(log: JetStreamBackend, runner: asyncio.Runner, client: Client, rounds: int) -> Figure:
    messages = sum(1 for _ in log.read()) // _EVENTS * (_EVENTS + 1)

    async def consume() -> None:
        subscription = await client.jetstream().subscribe("bare.>", ordered_consumer=True)
        for _ in range(messages):
            await subscription.next_msg(10)
        await subscription.unsubscribe()

    taken = in_rounds(
        {"read": lambda: sum(1 for _ in log.read()), "bare": lambda: runner.run(consume())},
        rounds,
        warm_up=1,
    )
    beside = f"{median_shown(taken['read'])}, the consumer {median_shown(taken['bare'])}"
    what = f"read of {messages:,} messages, in speed of a bare ordered consumer"
    speed = ratio(taken["bare"], taken["read"]).times(100)
    return Figure(AREA, what, speed, "%", beside, Bar(70, "at least"))


def _death(log: JetStreamBackend, cluster: Cluster, seconds: float) -> Figure:
    longest, ending = 0.0, threading.Event()
    leader = int(log.leader().removeprefix("s"))

    def write() -> None:
        nonlocal longest
        for number in count():
            begin = time.monotonic()
            log.append(batch("death", number))
            longest = max(longest, time.monotonic() - begin)
            if ending.is_set():
                return

    thread = threading.Thread(target=write)
    thread.start()
    time.sleep(1.0)
    cluster.signal(leader, signal.SIGKILL)
    time.sleep(seconds)
    ending.set()
    thread.join()
    what = "longest append while the leader of three servers is killed"
    return Figure(AREA, what, Spread.of([longest]), "s")
