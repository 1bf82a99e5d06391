"""What only a lock keeps right: each test fails without the one that its docstring names.

Threads are switched as often as Python can, and what stands inside of a lock is made slow where
Python 3.11 would run it without a switch.
"""

from __future__ import annotations

import pickle
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from weakref import WeakSet

import msgspec
import pytest

import lllm.agents.tactic
from lllm import LocalFileBackend, LogStore, Runtime, SQLiteBackend, Tactic
from lllm.events import codec, model
from lllm.events.backends.memory import MemoryBackend
from lllm.events.backends.sharing import Registry
from lllm.events.buffered import BufferedLog
from lllm.events.concurrency.liveness import Liveness
from lllm.events.digest import seal
from lllm.events.envelope import NewEvent
from lllm.events.recorder import Recorder
from lllm.instrumentation.conversations import Conversations, conversations_of
from lllm.invokers import Request
from lllm.invokers.scripted import _Lists
from lllm.invokers.sdk.clients import Clients
from lllm.sessions.budget import Budget
from tests.support.echo import echo
from tests.support.runs import Asking, config

THREADS = 8


@pytest.fixture(autouse=True)
def often_switched() -> Iterator[None]:
    """Another thread runs after each microsecond."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(work: Callable[[int], object], threads: int = THREADS) -> list[object]:
    """What each thread returned; they begin together."""
    together = threading.Barrier(threads)

    def begin(number: int) -> object:
        together.wait(30)
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(begin, range(threads)))


def opened(number: int) -> model.DialogOpened:
    """Some event."""
    return model.DialogOpened(dialog=number, agent="a", alias="main")


class SlowLog(MemoryBackend):
    """A log whose appends let other threads run, before and after."""

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """See LogBackend."""
        time.sleep(0)
        positions = super().append(events)
        time.sleep(0)
        return positions


# -- events


@pytest.mark.parametrize("log", [MemoryBackend, SlowLog])
def test_places_in_a_stream(log: Callable[[], MemoryBackend]) -> None:
    """Recorder._staging and _committing, MemoryBackend._lock: every event has the next place, is
    stored once and under its own number, and its thread's commit returns when it is stored."""
    recorder = Recorder(log(), "t")

    def write(thread: int) -> None:
        for number in range(40):
            recorder.stage(opened(1000 * thread + number), opened(1000 * thread + 500 + number))
            recorder.commit()
            assert any(f'"dialog":{1000 * thread + number},' in text for text in stored())

    def stored() -> list[str]:
        return [event.data.decode() for event in recorder.log.read()]

    at_once(write)
    events = list(recorder.log.read())
    assert [event.seq for event in events] == list(range(1, 80 * THREADS + 1))
    assert [event.position for event in events] == [event.seq for event in events]
    dialogs = {event.data.split(b'"dialog":')[1].split(b",")[0] for event in events}
    assert len(dialogs) == len(events)
    assert recorder.is_written


class Slowly(list[NewEvent]):
    """Events that are taken one by one, while other threads run."""

    def __iter__(self) -> Iterator[NewEvent]:
        for event in super().__iter__():
            yield event
            time.sleep(0)


def sealed(thread: int, data: bytes = b"{}") -> list[NewEvent]:
    """The events of a stream of its own."""
    stream = f"s{thread}"
    return [seal(b"", stream, seq, 1, "dialog.opened", 1, data) for seq in range(1, 21)]


def test_positions_in_memory() -> None:
    """MemoryBackend._lock: appends at once stand one behind the other."""
    log = MemoryBackend()
    positions = at_once(lambda thread: log.append(Slowly(sealed(thread))))
    assert sorted(at for some in positions for at in some) == [*range(1, 20 * THREADS + 1)]  # type: ignore[attr-defined]
    assert [event.position for event in log.read()] == [*range(1, 20 * THREADS + 1)]


class SlowBytes(bytes):
    """A payload whose size is slow to say."""

    def __len__(self) -> int:
        time.sleep(0)
        return super().__len__()


def test_the_bytes_that_are_held() -> None:
    """BufferedLog._lock: every byte that waits is counted, from the first append that fails."""
    holding = BufferedLog(Failing())

    def write(thread: int) -> None:
        for event in sealed(thread):
            holding.append([msgspec.structs.replace(event, data=SlowBytes(event.data))])

    with pytest.warns(RuntimeWarning) as told:
        at_once(write)
    assert len(told) == 1
    assert len(holding.held) == 20 * THREADS
    assert holding._bytes == 2 * 20 * THREADS


class Failing(MemoryBackend):
    """A log that can't be written until it is mended."""

    broken = True

    def append(self, events: Sequence[NewEvent]) -> Sequence[int]:
        """See LogBackend."""
        if self.broken:
            raise OSError("full")
        return super().append(events)


def test_what_is_held(recwarn: pytest.WarningsRecorder) -> None:
    """BufferedLog._lock: what many threads have to hold is counted right, warned of once, and
    written once and in order when it can be."""
    log = Failing()
    holding = BufferedLog(log, held_bytes=10**6)
    recorders = [Recorder(holding, "t") for _ in range(THREADS)]

    def write(thread: int) -> None:
        for number in range(60):
            recorders[thread].stage(opened(number))
            recorders[thread].commit()
            assert holding.held or not log.broken
            if thread == 0 and number == 40:
                log.broken = False

    at_once(write)
    assert holding.write_held(now=True, within=10)
    assert [warning.category for warning in recwarn.list] == [RuntimeWarning]
    assert holding._bytes == 0
    seqs: dict[str, list[int]] = {}
    for event in log.read():
        seqs.setdefault(event.stream, []).append(event.seq)
    assert sorted(seqs.values()) == [list(range(1, 61))] * THREADS
    holding.close()


def test_what_is_lost_is_counted(recwarn: pytest.WarningsRecorder) -> None:
    """BufferedLog._lock: of what many threads hold beyond the bound, none is missing in the gap."""
    log = Failing()
    holding = BufferedLog(log, held_bytes=2_000)
    recorders = [Recorder(holding, "t") for _ in range(THREADS)]

    def write(thread: int) -> None:
        for number in range(60):
            recorders[thread].stage(opened(number))
            recorders[thread].commit()

    at_once(write)
    waiting = len(holding.held)
    log.broken = False
    holding.close()
    (gap,) = [event for event in map(codec.decode, log.read()) if isinstance(event, model.LogGap)]
    assert gap.lost + waiting == 60 * THREADS
    assert len(recwarn) == 1


def test_the_last_user_lets_go(tmp_path: Path) -> None:
    """Liveness._thread_lock: however many stores close at once, the last one frees the lock, and
    all had one owner."""
    for _ in range(3):
        liveness = Liveness(tmp_path / "locks")

        def use(_: int, liveness: Liveness = liveness) -> str:
            for _ in range(300):
                liveness.use()
            return liveness.owner()

        def close(_: int, liveness: Liveness = liveness) -> None:
            for _ in range(300):
                liveness.close()

        assert len(set(at_once(use))) == 1
        assert len(list((tmp_path / "locks").iterdir())) == 1
        at_once(close)
        assert list((tmp_path / "locks").iterdir()) == []


class Thing:
    """Something that may be open once in a process."""

    open = 0
    closed = False

    def __init__(self) -> None:
        time.sleep(0.0001)
        type(self).open += 1
        self.alone = type(self).open == 1

    def in_place(self) -> bool:
        """See Registry."""
        return True

    def close(self) -> None:
        """Count it out."""
        self.closed = True
        type(self).open -= 1


def test_a_path_is_opened_once(tmp_path: Path) -> None:
    """Registry._lock and _Entry.making: who opens a path at once shares what is made, and the last
    to close it closes it."""
    registry: Registry[Thing] = Registry()
    users = [Thing.__new__(Thing) for _ in range(THREADS)]
    for number in range(15):
        path = tmp_path / str(number)
        path.touch()
        shares = at_once(lambda user: registry.open(path, users[user], Thing, options={}))  # noqa: B023
        assert len({id(share.thing) for share in shares}) == 1  # type: ignore[attr-defined]
        assert Thing.open == 1
        assert sorted(share.number for share in shares) == [*range(1, THREADS + 1)]  # type: ignore[attr-defined]
        at_once(lambda user: shares[user].close())  # type: ignore[attr-defined]  # noqa: B023
        assert Thing.open == 0
    assert registry._entries == {}


class SlowPath(type(Path())):  # type: ignore[misc]
    """A path on a disk that is slow to look at."""

    def __fspath__(self) -> str:
        time.sleep(0)
        return str(super().__fspath__())


def test_a_path_is_opened_again_and_again(tmp_path: Path) -> None:
    """Registry._lock: however opening and closing meet, a path is never open twice."""
    registry: Registry[Thing] = Registry()
    path = SlowPath(tmp_path / "log")

    def work(_: int) -> None:
        for _ in range(60):
            user = Thing.__new__(Thing)
            share = registry.open(path, user, Thing, options={})
            assert share.thing.alone
            share.close()
            again = registry.opened(path, user)
            if again is not None:
                assert not again.thing.closed
                again.close()

    for make in (path.touch, path.unlink):  # known by its inode, and by its name
        make()
        at_once(work)
        assert Thing.open == 0
        assert registry._entries == {}


def test_rows_are_opened_once(tmp_path: Path) -> None:
    """LocalFileBackend._rows_lock: all threads get the same database, and closing ends it."""
    log = LocalFileBackend(tmp_path / "logs")
    assert len({id(found) for found in at_once(lambda _: log.rows_database())}) == 1
    log.close()


# -- projections


def test_rebuilds_in_memory() -> None:
    """Projector.rebuilding: rows that no other process can have are rebuilt one after another."""
    with LogStore(SQLiteBackend(":memory:")) as store:
        for number in range(20):
            echo(store)(str(number))
        at_once(lambda _: [store.rebuild() for _ in range(3)], threads=4)
        assert len(store.list_sessions()) == 20
        assert store.rebuild(check=True).difference is None


# -- lllm


class SlowSum(int):
    """Nano-dollars that are added slowly."""

    def __radd__(self, other: int) -> int:
        time.sleep(0)
        return int(self) + other


def test_what_is_spent_at_once() -> None:
    """budget._spending: all that many threads spend is counted, above as well."""
    above = Budget(10**9)
    budget = Budget(10**9, above)
    price = model.Price("priced", nanos=SlowSum(1))
    at_once(lambda _: [budget.spend(price) for _ in range(200)])
    assert (budget.spent, above.spent) == (200 * THREADS, 200 * THREADS)


class SlowName(str):
    """A name that is looked up slowly."""

    __slots__ = ()

    def __hash__(self) -> int:
        time.sleep(0)
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)


def test_replies_are_given_once() -> None:
    """_Lists._lock: each reply of a script goes to one request."""
    replies = [str(number) for number in range(50 * THREADS)]
    script = _Lists({"a": replies})
    request = Request(agent=SlowName("a"), model="m", messages=(), tools=(), params={})
    given = at_once(lambda _: [str(script(request)) for _ in range(50)])
    assert sorted((one for some in given for one in some), key=int) == replies  # type: ignore[attr-defined]


class SlowRecorder(Recorder):
    """Lets other threads run before it gives a number."""

    def ordinal(self, kind: str) -> int:
        """See Recorder."""
        time.sleep(0)
        return super().ordinal(kind)


def test_a_dialog_waits_for_one_answer() -> None:
    """Conversations._lock: who says the same at once gets a dialog of its own, and what was said
    before is written once for each."""
    recorder = SlowRecorder(MemoryBackend(), "t")
    conversations = Conversations(recorder)
    said = [model.Content.of("user", str(number)) for number in range(3)]
    waiting: set[int] = set()

    def ask(thread: int) -> None:
        for number in range(20):
            told = conversations.going_on(said)
            assert told.number not in waiting
            waiting.add(told.number)
            time.sleep(0)
            waiting.discard(told.number)
            conversations.answered(
                told, recorder.ordinal("message"), model.Content.of("a", f"{thread}.{number}")
            )
            conversations.left(told)

    at_once(ask)
    recorder.commit()
    added = [
        event.message
        for event in map(codec.decode, recorder.log.read())
        if isinstance(event, model.MessageAdded)
    ]
    assert len(added) == 3 and len(set(added)) == 3  # noqa: PT018


def test_conversations_are_found() -> None:
    """conversations._finding: all threads that call in a session get its one Conversations."""
    recorders = [Recorder(MemoryBackend(), "t") for _ in range(200)]
    found = at_once(lambda _: [conversations_of(recorder) for recorder in recorders])
    assert all(one == found[0] for one in found)


def test_tactics_are_registered_while_others_look() -> None:
    """Runtime._lock: looking at the tactics while others are registered is no error."""
    runtime = Runtime()

    def register(thread: int) -> None:
        for number in range(150):
            name = f"t{thread}-{number}"
            body = {"name": name, "call": lambda _self, task: task}
            runtime.register(type("T", (Tactic,), body, register=False))
            assert any(path.endswith(name) for path in runtime.tactics)
            assert isinstance(runtime.defined_in(Path(__file__)), list)

    at_once(register)
    assert len(runtime.tactics) == 150 * THREADS


def test_one_warning_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """tactic._warning: a tactic without a store says so once."""

    def asks() -> Tactic:
        class Asks(Tactic, register=False):
            name = "asks"
            call = Asking.call

        return Asks(config(["yes"]))

    class SlowSet(WeakSet[type]):
        def __contains__(self, item: object) -> bool:
            found = super().__contains__(item)
            time.sleep(0)
            return found

    monkeypatch.setattr(lllm.agents.tactic, "_warned", SlowSet())
    tactics = [asks() for _ in range(20)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        at_once(lambda _: [tactic._warn_once() for tactic in tactics])
    assert Counter(one.category for one in caught) == {UserWarning: 20}


class Client:
    """What an SDK's client is to its owner."""

    made = 0

    def __init__(self) -> None:
        time.sleep(0.001)
        type(self).made += 1

    def close(self) -> None:
        """Nothing is open."""

    def platform_headers(self) -> dict[str, str]:
        """See SyncClient."""
        return {}


def test_one_client_for_all_threads() -> None:
    """Clients._lock: who calls first makes the client that all others use."""
    clients = Clients(Client, Client)  # type: ignore[type-var]
    assert len({id(client) for client in at_once(lambda _: clients.of_threads())}) == 1
    assert Client.made == 1


def test_a_store_that_was_sent(tmp_path: Path) -> None:
    """session_host._opening: threads that get the same store from another process share it."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        sent = pickle.dumps(store)
    with ExitStack() as stack:
        stores: list[LogStore] = at_once(lambda _: pickle.loads(sent))
        for one in {id(one): one for one in stores}.values():
            stack.enter_context(one)
        assert len({id(store) for store in stores}) == 1
