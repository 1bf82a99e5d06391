"""Threads of one's own: how a session, and its budget, goes on in them, and what is said where it
does not."""

from __future__ import annotations

import asyncio
import functools
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

import pytest

import lllm
from lllm import BudgetExceeded, ConfigError, LogStore, SQLiteBackend, Tactic
from lllm.events.model import LLMResponded
from lllm.sessions.current_session import running_session
from tests.lllm.instrumentation.asking import CHAT, chat_client, only
from tests.support.loopback import Loopback, text

PATIENCE = 30.0  # seconds until a test that hangs is given up
USAGE = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000}  # 0.15 US$
OPENAI = "openai"  # who bills, as the loopback server's address does not tell


def ask(client: Any, *_: object) -> str:
    """One call, and what came of it."""
    found = client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": "?"}])
    return str(found.choices[0].message.content)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    """A store on SQLite."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


@pytest.fixture
def client(server: Loopback, store: LogStore) -> Iterator[Any]:
    """A client that is recorded."""
    with chat_client(server) as made:
        yield lllm.capture(made, log_store=store, provider=OPENAI)


@pytest.fixture
def threads() -> Iterator[None]:
    """Threads carry their session, until the end of the test."""
    lllm.instrument("threads")
    yield
    lllm.uninstrument("threads")


@pytest.fixture
def nothing_lost() -> Iterator[None]:
    """No call says that it has lost its session."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def here() -> str | None:
    """The session that runs the code which asks."""
    found = running_session()
    return None if found is None else found.recorder.session_id


def in_thread(run: Callable[[], object]) -> object:
    """What a function returns in a new thread."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join(PATIENCE)
    return found[0]


def own_pool(store: LogStore) -> Any:
    """A pool, and what its work is to be wrapped with."""
    return ThreadPoolExecutor(4), store.carry


def lllm_executor(_: LogStore) -> Any:
    """The executor that needs no wrapping."""
    return lllm.Executor(4), lambda function: function


WAYS = pytest.mark.parametrize("way", [own_pool, lllm_executor])


@WAYS
@pytest.mark.usefixtures("nothing_lost")
def test_a_pool_inside_of_a_session(store: LogStore, client: Any, way: Any) -> None:
    """Calls in the threads of a pool belong to the session that the work was given in, however
    many run at once."""
    pool, wrapped = way(store)
    with pool, store.session("my::script") as recorder:
        assert list(pool.map(wrapped(functools.partial(ask, client)), range(12))) == ["Hello."] * 12
    assert [one.tactic_path for one in store.list_sessions()] == ["my::script"]
    assert len(only(store, LLMResponded, recorder.session_id)) == 12


@WAYS
@pytest.mark.money
def test_a_budget_holds_in_a_pool(server: Loopback, store: LogStore, client: Any, way: Any) -> None:
    """What is spent in the threads of a pool comes out of the session's budget, and a spent one
    stops the calls there."""
    server.answers(text("Hello.", usage=USAGE))
    pool, wrapped = way(store)
    with pool, store.session("my::script", budget_usd=0.4):
        work = [pool.submit(wrapped(ask), client) for _ in range(20)]
        wait_for(work, timeout=PATIENCE)
    stopped = [one for one in work if isinstance(one.exception(), BudgetExceeded)]
    # Three calls spend it; four threads may have one call each under way when the third ends.
    assert 3 <= len(work) - len(stopped) <= 6
    assert len(server.requests) == len(work) - len(stopped)


def test_each_piece_of_work_has_its_own_session(store: LogStore) -> None:
    """A pool that outlives a session takes nothing of it along to the work of the next, or to work
    that is outside of any."""
    with lllm.Executor(1) as pool:
        found = []
        for number in range(2):
            with store.session(f"my::{number}") as recorder:
                found.append((pool.submit(here).result(PATIENCE), recorder.session_id))
        assert pool.submit(here).result(PATIENCE) is None
    assert all(seen == expected for seen, expected in found)
    assert found[0] != found[1]


def test_carrying_outside_of_a_session(store: LogStore) -> None:
    """What is carried outside of any session runs outside of any, wherever it is called."""
    carried = store.carry(here)
    assert in_thread(carried) is None
    with store.session("my::script"):
        assert carried() is None


def test_what_is_carried_stays_as_it_is(store: LogStore) -> None:
    """A carried function has the name, arguments, result and errors of the function; the thread is
    left as it was found."""

    def divided(one: int, *, by: int) -> float:
        """Divide."""
        return one / by

    with store.session("my::script"):
        carried = store.carry(divided)
    assert (carried.__name__, carried.__doc__) == ("divided", "Divide.")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(carried, 6, by=3).result(PATIENCE) == 2
        assert isinstance(pool.submit(carried, 1, by=0).exception(PATIENCE), ZeroDivisionError)
        assert pool.submit(here).result(PATIENCE) is None


def test_a_coroutine_function_is_carried(store: LogStore) -> None:
    """A coroutine that another thread's event loop runs is inside of the session, step by step."""

    async def steps() -> list[str | None]:
        found = [here()]
        await asyncio.sleep(0)
        return [*found, here()]

    with store.session("my::script") as recorder:
        carried = store.carry(steps)
        assert in_thread(lambda: asyncio.run(carried())) == [recorder.session_id] * 2


def test_a_generator_that_waits_keeps_its_threads_inside(store: LogStore) -> None:
    """A thread goes on in the session of a bare `with` in a generator, also while that waits."""
    go = threading.Event()

    def waiting() -> str | None:
        go.wait(PATIENCE)
        return here()

    def stream() -> Iterator[tuple[Any, str]]:
        with store.session("my::stream") as recorder, lllm.Executor(1) as pool:
            yield pool.submit(waiting), recorder.session_id

    generator = stream()
    work, session_id = next(generator)
    assert here() is None
    go.set()
    assert work.result(PATIENCE) == session_id
    generator.close()


def test_sub_sessions_and_tactics_in_threads(store: LogStore) -> None:
    """Sessions and tactics that begin in a carried thread are children of its session."""

    class Doubled(Tactic):
        name = "doubled"

        def call(self, task: int) -> int:
            return 2 * task

    def nested() -> object:
        with store.session("my::nested"):
            return here()

    tactic = Doubled(log_store=store)
    with lllm.Executor(2) as pool, store.session("my::script") as recorder:
        child = pool.submit(nested).result(PATIENCE)
        assert pool.submit(tactic, 4).result(PATIENCE) == 8
    session = store.load_session(recorder.session_id)
    below = [one for found in session.sub_tactic_sessions.values() for one in found]
    assert len(below) == 2
    assert child in {one.session_id for one in below}


def test_an_executor_for_an_event_loop(store: LogStore) -> None:
    """An Executor is one for `run_in_executor`, too."""

    async def main() -> tuple[object, str]:
        with lllm.Executor(1) as pool:
            async with store.session("my::script") as recorder:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(pool, here), recorder.session_id

    found, expected = asyncio.run(main())
    assert found == expected


# -- instrument("threads")


class Running(threading.Thread):
    """A thread with a `run` of its own."""

    found: object = None

    def run(self) -> None:
        self.found = here()


@pytest.mark.usefixtures("threads", "nothing_lost")
def test_instrumented_threads(store: LogStore, client: Any) -> None:
    """Every kind of thread goes on in the session that it was started in: a plain one, a subclass,
    a timer, work of a pool that knows nothing of lllm."""
    with ThreadPoolExecutor(2) as pool:
        with store.session("my::script") as recorder:
            expected = recorder.session_id
            assert in_thread(here) == expected
            running = Running()
            running.start()
            running.join(PATIENCE)
            assert running.found == expected
            assert "run" not in vars(running)
            seen: list[object] = []
            timer = threading.Timer(0, lambda: seen.append(here()))
            timer.start()
            timer.join(PATIENCE)
            assert seen == [expected]
            assert set(pool.map(lambda _: here(), range(4))) == {expected}
            in_thread(lambda: ask(client))
        # The workers were started inside of the session, and are nobody's now.
        with store.session("my::next") as other:
            assert {pool.submit(here).result(PATIENCE) for _ in range(4)} == {other.session_id}
        assert {pool.submit(here).result(PATIENCE) for _ in range(4)} == {None}
    assert in_thread(here) is None
    assert len(only(store, LLMResponded, expected)) == 1


def test_instrumenting_can_be_undone(store: LogStore) -> None:
    """Instrumenting twice is instrumenting once; undone, Python's own methods are back."""
    before = threading.Thread.start, ThreadPoolExecutor.submit
    lllm.uninstrument("threads")
    lllm.instrument("threads")
    instrumented = threading.Thread.start, ThreadPoolExecutor.submit
    lllm.instrument("threads", "threads")
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == instrumented != before
    for _ in range(2):
        lllm.uninstrument("threads")
        assert (threading.Thread.start, ThreadPoolExecutor.submit) == before
    with store.session("my::script"):
        assert in_thread(here) is None


def test_what_others_put_on_top_stays(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another library has replaced a method meanwhile, undoing leaves it there, and ours
    below does nothing; instrumenting again does not do it twice."""
    plain = threading.Thread.start
    lllm.instrument("threads")
    ours, seen = threading.Thread.start, []

    def start(thread: threading.Thread) -> None:
        seen.append(thread)
        ours(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    lllm.uninstrument("threads")
    with store.session("my::script") as recorder:
        assert in_thread(here) is None
        lllm.instrument("threads")
        assert threading.Thread.start is start
        assert in_thread(here) == recorder.session_id
    monkeypatch.undo()
    lllm.uninstrument("threads")
    assert threading.Thread.start is plain
    assert len(seen) == 2


@pytest.mark.usefixtures("threads")
def test_a_thread_that_can_not_start(store: LogStore) -> None:
    """Starting a thread twice is the error that it was, and the thread stays as it was."""
    with store.session("my::script"):
        thread = Running()
        thread.start()
        thread.join(PATIENCE)
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
    assert "run" not in vars(thread)


@pytest.mark.parametrize("names", [("thread",), ("threads", "processes")])
def test_instruments_that_are_not_there(names: tuple[str, ...]) -> None:
    """A name that is not known says what there is, and changes nothing."""
    before = threading.Thread.start
    for do in (lllm.instrument, lllm.uninstrument):
        with pytest.raises(ConfigError, match='"threads"'):
            do(*names)
    assert threading.Thread.start is before


# -- a session that is lost


def test_a_lost_session_is_told_once(store: LogStore, client: Any) -> None:
    """A call in a thread that has no session, while one is open, is a session of its own and says
    so once, with the three ways to do better."""
    with store.session("my::script"), ThreadPoolExecutor(1) as pool:
        with pytest.warns(UserWarning, match="my::script") as told:
            pool.submit(ask, client).result(PATIENCE)
        said = str(told[0].message)
        assert all(
            way in said for way in ("store.carry(", "lllm.Executor", 'instrument("threads")')
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert pool.submit(ask, client).result(PATIENCE) == "Hello."
    paths = sorted(one.tactic_path for one in store.list_sessions())
    assert paths == ["my::script", "openai.chat", "openai.chat"]


def test_a_lost_session_of_a_client_without_a_store(server: Loopback, store: LogStore) -> None:
    """The same where the client has no store, with the word that nothing is recorded."""
    with chat_client(server) as made, store.session("my::script"):
        client = lllm.capture(made)
        with pytest.warns(UserWarning, match="not recorded") as told:
            in_thread(lambda: ask(client))
    assert len(told) == 1
    assert "store.carry(" in str(told[0].message)


@pytest.mark.usefixtures("nothing_lost")
def test_no_session_is_lost(store: LogStore, client: Any, tmp_path: Path) -> None:
    """Nothing is said where no session is open, where the open one is another store's, in the main
    thread, and in a thread that has a session of its own beside."""
    in_thread(lambda: ask(client))
    with LogStore(SQLiteBackend(tmp_path / "other.db")) as other, other.session("other::script"):
        in_thread(lambda: ask(client))
    opened, done = threading.Event(), threading.Event()

    def beside() -> None:
        with store.session("my::beside"):
            opened.set()
            done.wait(PATIENCE)

    thread = threading.Thread(target=beside)
    thread.start()
    opened.wait(PATIENCE)
    ask(client)
    done.set()
    thread.join(PATIENCE)
    with store.session("my::over"):
        pass
    in_thread(lambda: ask(client))

    async def main() -> None:
        async def inside() -> None:
            async with store.session("my::inside"):
                await asyncio.sleep(0.05)

        task = asyncio.ensure_future(inside())
        await asyncio.sleep(0)
        ask(client)
        await task

    in_thread(lambda: asyncio.run(main()))
