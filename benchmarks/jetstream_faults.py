"""Breaks the servers of a log in NATS JetStream again and again, and looks for what was lost.

Several writers append all the time and keep a ledger of what was acknowledged. Afterwards the log
must have each of these appends at the positions that were returned, once and in order.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from lllm.events.backends.jetstream.backend import JetStreamBackend
from lllm.events.errors import LogUnavailable
from lllm.testing.writers import batch, without_positions

if TYPE_CHECKING:
    from tests.support.nats import Cluster

_WRITERS = 4
_PATIENCE = 60.0  # seconds until an append must succeed after a fault
_DISK = 1024  # MiB for each server
_BEFORE = 100  # appends of a writer before a fault that are looked for after it
_PAUSE = 0.03  # seconds between two appends of a writer, so that the log does not fill the disks


class _StalledError(Exception):
    """No append succeeds any more."""


class _Writer:
    """A thread that appends to a stream of events of its own, and keeps a ledger."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.acknowledged: list[Sequence[int]] = []
        self.longest = 0.0  # seconds
        self.failures = 0
        self._log = JetStreamBackend(url, timeout=_PATIENCE)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            begin = time.monotonic()
            try:
                positions = self._log.append(batch(self.name, len(self.acknowledged)))
            except LogUnavailable:
                self.failures += 1
                continue  # the same events again
            self.acknowledged.append(positions)
            self.longest = max(self.longest, time.monotonic() - begin)
            time.sleep(_PAUSE)

    def end(self) -> None:
        """Stop after the append that is under way."""
        self._ending.set()
        self._thread.join()
        self._log.close()


class _Faults:
    """What is done to three servers; each fault is undone before the next.

    While one server of three is at fault, the writers must go on: a fault lasts until they have.
    """

    def __init__(
        self, cluster: Cluster, url: str, chance: random.Random, go_on: Callable[[], None]
    ) -> None:
        self._cluster = cluster
        self._chance = chance
        self._go_on = go_on
        self._log = JetStreamBackend(url)

    def _leader(self) -> int:
        try:
            return int((self._log.leader() or "s0").removeprefix("s"))
        except LogUnavailable:
            return self._chance.randrange(3)

    def _followers(self) -> list[int]:
        leader = self._leader()
        return self._chance.sample([one for one in range(3) if one != leader], 2)

    def _last(self, servers: Sequence[int]) -> None:
        if len(servers) == 1:
            self._go_on()
        time.sleep(self._chance.uniform(0.1, 5.0))

    def _kill(self, *servers: int) -> None:
        for one in servers:
            self._cluster.signal(one, signal.SIGKILL)
        try:
            self._last(servers)
        finally:
            for one in servers:
                self._cluster.start(one)

    def _stop(self, *servers: int) -> None:
        for one in servers:
            self._cluster.signal(one, signal.SIGSTOP)
        try:
            self._last(servers)
        finally:
            for one in servers:
                self._cluster.signal(one, signal.SIGCONT)

    def _cut_off(self, *servers: int, clients: bool) -> None:
        assert self._cluster.network is not None
        for one in servers:
            self._cluster.network.pull(one, clients=clients)
        try:
            self._last(servers)
        finally:
            for one in servers:
                self._cluster.network.plug(one, clients=clients)

    def _fill(self, *servers: int) -> None:
        assert self._cluster.network is not None
        for one in servers:
            self._cluster.network.fill(one)
        try:
            self._last(servers)
        finally:
            for one in servers:
                self._cluster.network.free(one)
            for one in servers:  # one that could not write takes no part until it is restarted
                self._cluster.signal(one, signal.SIGKILL)
                self._cluster.start(one)

    def all(self) -> Mapping[str, Callable[[], None]]:
        """The faults by their names."""
        faults: dict[str, Callable[[], None]] = {
            "the leader is killed": lambda: self._kill(self._leader()),
            "a follower is killed": lambda: self._kill(self._followers()[0]),
            "two are killed": lambda: self._kill(self._leader(), self._followers()[0]),
            "all are killed": lambda: self._kill(0, 1, 2),
            "a follower comes back with an old disk": self._old_disk,
            "the leader hears and says nothing": lambda: self._stop(self._leader()),
            "a follower hears and says nothing": lambda: self._stop(self._followers()[0]),
        }
        if self._cluster.network is None:
            return faults
        return faults | {
            "the leader is cut off": lambda: self._cut_off(self._leader(), clients=True),
            "a follower is cut off": lambda: self._cut_off(self._followers()[0], clients=True),
            "the leader is cut off from the others, not from its clients": lambda: self._cut_off(
                self._leader(), clients=False
            ),
            "a follower is cut off from the others, not from its clients": lambda: self._cut_off(
                self._followers()[0], clients=False
            ),
            "all are cut off from each other": lambda: self._cut_off(0, 1, 2, clients=False),
            "the leader's disk is full": lambda: self._fill(self._leader()),
            "a follower's disk is full": lambda: self._fill(self._followers()[0]),
            "all disks are full": lambda: self._fill(0, 1, 2),
        }

    def _old_disk(self) -> None:
        one = self._followers()[0]
        disk = self._cluster.disk(one)
        old = disk.with_name("old")
        self._cluster.signal(one, signal.SIGKILL)
        shutil.copytree(disk, old)
        self._cluster.start(one)
        time.sleep(self._chance.uniform(0.5, 2.0))
        self._cluster.signal(one, signal.SIGKILL)
        shutil.rmtree(disk)
        old.rename(disk)
        self._cluster.start(one)


def _go_on(writers: Sequence[_Writer]) -> None:
    """Wait until each writer has appended once more."""
    before = [len(writer.acknowledged) for writer in writers]
    until = time.monotonic() + _PATIENCE
    while any(len(w.acknowledged) <= n for w, n in zip(writers, before, strict=True)):
        if time.monotonic() > until:
            raise _StalledError("a writer has appended nothing for a minute")
        time.sleep(0.02)


def _broken(
    log: JetStreamBackend, writers: Sequence[_Writer], name: str, fault: Callable[[], None]
) -> Sequence[str]:
    """What is wrong after a fault."""
    begun = [len(writer.acknowledged) for writer in writers]
    try:
        fault()
        _go_on(writers)
        return [f"{one} after this fault: {name}" for one in _lost(log, writers, begun)]
    except _StalledError as error:
        return [f"{error}, at this fault: {name}"]


def _wait_for(log: JetStreamBackend, position: int) -> None:
    """Wait until a reader sees a position: a server that was cut off knows of no newer ones yet."""
    until = time.monotonic() + _PATIENCE
    while log.head() < position and time.monotonic() < until:
        time.sleep(0.1)


def _lost(log: JetStreamBackend, writers: Sequence[_Writer], begun: Sequence[int]) -> Iterator[str]:
    """What was acknowledged shortly before a fault or after it, and is not in the log."""
    told = {
        position: writer.name
        for writer, first in zip(writers, begun, strict=True)
        for group in writer.acknowledged[max(first - _BEFORE, 0) :]
        for position in group
    }
    _wait_for(log, max(told))
    found = {one.position: one.stream for one in log.read(after=min(told) - 1)}
    missing = sum(found.get(position) != name for position, name in told.items())
    if missing:
        yield f"{missing:,} of the last {len(told):,} acknowledged events are not there"


def wrong(log: JetStreamBackend, writers: Sequence[_Writer]) -> Iterator[str]:
    """What a log lacks of the ledgers, or has twice or in another order."""
    _wait_for(log, max(writer.acknowledged[-1][-1] for writer in writers if writer.acknowledged))
    found = list(log.read())
    positions = [one.position for one in found]
    if positions != sorted(set(positions)):
        yield "positions are not in order"
    twice = [place for place, n in Counter((o.stream, o.seq) for o in found).items() if n > 1]
    if twice:
        yield f"stored twice: {twice[:5]}"
    for writer in writers:
        mine = [one for one in found if one.stream == writer.name]
        if [one.seq for one in mine] != list(range(1, len(mine) + 1)):
            yield f"{writer.name}: out of order, or with holes"
        told = [position for group in writer.acknowledged for position in group]
        if [one.position for one in mine[: len(told)]] != told:
            yield f"{writer.name}: not at the positions that were returned, or lost"
        sent = [one for n in range(len(writer.acknowledged)) for one in batch(writer.name, n)]
        if without_positions(mine[: len(sent)]) != sent:
            yield f"{writer.name}: other events than those that were appended"


@click.command("jetstream-faults")
@click.option("--faults", default=200, show_default=True, help="How many.")
@click.option("--seed", default=1, show_default=True, help="Which ones, and for how long.")
@click.option("--each", is_flag=True, help="Each fault once, in order, instead.")
@click.option("--only", default="", help="Only faults with this text in their names.")
def jetstream_faults_command(faults: int, seed: int, each: bool, only: str) -> None:
    """Break three NATS servers again and again while a log in them is written to.

    Where this machine allows namespaces, the servers have a network and disks of their own, so that
    cables are pulled and disks are full; elsewhere servers are stopped for a while instead.
    """
    from tests.support import nats_network  # an installed lllm has no tests
    from tests.support.nats import Cluster

    if not nats_network.is_inside() and nats_network.possible():
        command = nats_network.inside(["-m", "benchmarks", *sys.argv[1:]])
        sys.exit(subprocess.run(command).returncode)
    cluster = Cluster(3, disk=_DISK if nats_network.is_inside() else None)
    chance = random.Random(seed)
    url = cluster.url("faults")
    log = JetStreamBackend(url, timeout=_PATIENCE)
    log.head()
    writers = [_Writer(url, f"w{number}") for number in range(_WRITERS)]
    done: Counter[str] = Counter()
    problems: list[str] = []
    begin = time.monotonic()
    try:
        ways = _Faults(cluster, url, chance, lambda: _go_on(writers)).all()
        known = [one for one in ways if only in one]
        for name in known if each else chance.choices(known, k=faults):
            problems += _broken(log, writers, name, ways[name])
            if problems:
                break
            done[name] += 1
            click.echo(f"{done.total():4} {time.monotonic() - begin:6.0f} s  {name}")
    finally:
        for writer in writers:
            writer.end()
    problems += wrong(log, writers)
    count = sum(len(writer.acknowledged) for writer in writers)
    for name, times in done.most_common():
        click.echo(f"{times:5}  {name}")
    click.echo(
        f"{count:,} appends were acknowledged, the longest after "
        f"{max(writer.longest for writer in writers):.1f} s; "
        f"{sum(writer.failures for writer in writers)} were given up and repeated."
    )
    log.close()
    cluster.remove()
    if problems:
        raise click.ClickException("; ".join(problems))
    click.echo("None was lost, none is there twice, all are in order.")
