"""Threads and processes that begin in a replay: they are answered from the log, or refused."""

from __future__ import annotations

import asyncio
import multiprocessing as mp
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lllm import LogStore, SQLiteBackend, Tactic
from lllm.invokers import Request
from lllm.invokers.scripted import ScriptedInvoker
from lllm.replay.divergence import ReplayDivergence

ROOT = Path(__file__).parents[3]
PATH, HITS = "LLLM_TEST_STORE", "LLLM_TEST_HITS"  # of the environment, which processes inherit


def say(request: Request) -> str:
    """The model, which counts its calls."""
    with open(os.environ[HITS], "a") as file:
        file.write("hit\n")
    return f"said {request.messages[-1].text}"


class Below(Tactic, register=False):
    """Asks a model."""

    name = "below"

    def call(self, task: Any, *, again: str = "") -> str:
        """Ask it."""
        agent = self.agents["a"]
        agent.open()
        agent.receive(f"{task}{again}")
        return str(agent.respond().content)


class Above(Tactic, register=False):
    """Runs a function, which is told its sub-tactic."""

    name = "above"
    do: Callable[[Any, Any], object]

    def call(self, task: Any) -> object:
        """Run it."""
        return self.do(self, task)


def below(store: LogStore | None = None) -> Below:
    """The sub-tactic."""
    agent = {"name": "a", "model_name": "gpt-4o-mini", "system_prompt": "x"}
    return Below({"agent_configs": [{**agent, "invoker": ScriptedInvoker(say)}]}, log_store=store)


def on_its_own(task: object) -> str:
    """A call that no session is above of, with a store of its own."""
    with LogStore(SQLiteBackend(os.environ[PATH])) as store:
        return below(store)(task)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LogStore]:
    """A store that other processes can open, too."""
    monkeypatch.setenv(PATH, str(tmp_path / "runs.db"))
    monkeypatch.setenv(HITS, str(tmp_path / "hits"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened


def above(store: LogStore, do: Callable[[Any, Any], object]) -> Above:
    """The tactic that is replayed."""
    made = Above({"agent_configs": []}, log_store=store)
    made.do = do
    made.sub = below(store)  # type: ignore[attr-defined] # an attribute of the test's
    return made


def hits() -> int:
    """How often the model was called."""
    file = Path(os.environ[HITS])
    return len(file.read_text().splitlines()) if file.exists() else 0


def recorded(store: LogStore, do: Callable[[Any, Any], object]) -> str:
    """The id of the session of one call."""
    above(store, do)("task")
    [found] = store.list_sessions(tactic_path="above", limit=1)
    return found.session_id


# -- what no session is above of


def in_thread(run: Callable[[], object]) -> None:
    """In a new thread."""
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def by_timer(run: Callable[[], object]) -> None:
    """In the thread of a timer."""
    timer = threading.Timer(0, run)
    timer.start()
    timer.join()


def in_pool(run: Callable[[], object]) -> None:
    """In a thread of a pool."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()


def in_executor(run: Callable[[], object]) -> None:
    """In a thread of an event loop's own pool."""

    async def wait() -> None:
        await asyncio.get_running_loop().run_in_executor(None, run)

    asyncio.run(wait())


def to_thread(run: Callable[[], object]) -> None:
    """In a thread with the context."""
    asyncio.run(asyncio.to_thread(run))


def in_thread_of_thread(run: Callable[[], object]) -> None:
    """In a thread that another thread starts."""
    in_thread(partial(in_thread, run))


THREADS = [in_thread, by_timer, in_pool, in_executor, to_thread, in_thread_of_thread]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("start", THREADS)
def test_a_thread_of_a_replay_calls_no_model(
    store: LogStore, start: Callable[[Callable[[], object]], None]
) -> None:
    """What it calls outside of the session is recorded apart, so a replay refuses it."""
    do = lambda _, task: start(partial(on_its_own, task))  # noqa: E731
    session_id = recorded(store, do)
    assert hits() == 1
    with pytest.raises(ReplayDivergence) as caught:
        above(store, do).replay(session_id)
    assert (caught.value.kind, hits()) == ("unrecorded", 1)
    assert "below" in str(caught.value)


def test_a_thread_of_a_block_is_in_it(store: LogStore) -> None:
    """The recorded call itself may be made in a thread, as a program makes it."""
    session_id = recorded(store, lambda self, task: self.sub(task))
    told: list[object] = []
    with store.replay(session_id) as replay:
        again = above(store, lambda self, task: self.sub(task))
        in_thread(lambda: told.append(again("task")))
    assert (told, hits()) == (["said task"], 1)
    assert [one.verdict for one in replay.requests] == ["same"]


def test_a_pool_that_was_there_before(store: LogStore) -> None:
    """Its threads are in the block for the work of the block alone."""
    with ThreadPoolExecutor(1) as pool:
        do = lambda _, task: pool.submit(on_its_own, task).result()  # noqa: E731
        session_id = recorded(store, do)
        with pytest.raises(ReplayDivergence):
            above(store, do).replay(session_id)
        assert pool.submit(on_its_own, "after").result() == "said after"
    assert hits() == 2
    assert "replay" not in repr(threading.Thread.start)


def in_process(method: str, task: object) -> None:
    """In a new process."""
    process = mp.get_context(method).Process(target=on_its_own, args=(task,))  # type: ignore[attr-defined]
    process.start()
    process.join(60)


def in_process_pool(method: str, task: object) -> None:
    """In a process of a pool of futures."""
    with ProcessPoolExecutor(1, mp.get_context(method)) as pool:
        pool.submit(on_its_own, task).result(60)


def in_mp_pool(method: str, task: object) -> None:
    """In a process of the older pool, which waits without end for one that is gone."""
    with mp.get_context(method).Pool(1) as pool:
        pool.apply_async(on_its_own, (task,)).get(60)


def in_subprocess(_: str, task: object) -> None:
    """In a process of its own program."""
    code = f"from {__name__} import on_its_own; on_its_own({task!r})"
    subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("start", "method"),
    [
        (in_process, "fork"), (in_mp_pool, "fork"), (in_process_pool, "fork"),
        pytest.param(in_process_pool, "spawn", marks=pytest.mark.slow),
        pytest.param(in_process, "forkserver", marks=pytest.mark.slow),
        (in_subprocess, ""),
    ],
)  # fmt: skip
def test_a_process_of_a_replay_calls_no_model(
    store: LogStore, start: Callable[[str, object], None], method: str
) -> None:
    """Neither does a process, and what it was refused is raised in the end, whoever hid it."""

    def do(_: object, task: object) -> None:
        with suppress(BaseException):
            start(method, task)

    session_id = recorded(store, lambda *_: None)
    with pytest.raises(ReplayDivergence) as caught:
        above(store, do).replay(session_id)
    assert (caught.value.kind, hits()) == ("unrecorded", 0)
    text = str(caught.value)
    assert "nothing is called in a replay" in text or "A call of 'below' was never" in text


def test_processes_that_were_there_before(store: LogStore) -> None:
    """A pool is closed for the work of the replay alone."""
    with ProcessPoolExecutor(1, mp.get_context("fork")) as pool:
        assert pool.submit(on_its_own, "before").result() == "said before"
        session_id = recorded(store, lambda *_: None)
        do = lambda _, task: pool.submit(on_its_own, task).result()  # noqa: E731
        with pytest.raises(ReplayDivergence, match="nothing is called in a replay"):
            above(store, do).replay(session_id)
        assert pool.submit(on_its_own, "after").result() == "said after"
    assert hits() == 2


# -- sub-tactics of the session


def each(method: str, tactic: Any, tasks: Any) -> list[str]:
    """Call a sub-tactic in processes."""
    with ProcessPoolExecutor(2, mp.get_context(method)) as pool:
        return list(pool.map(tactic.sub, tasks))


TASKS = ["a", "b", "a", "c"]


@pytest.mark.parametrize("kept", [True, False])
def test_sub_tactics_in_processes_are_answered(store: LogStore, kept: bool) -> None:
    """Each from its own recorded session, those with equal tasks each from one of them."""
    do = lambda self, _: each("fork", self, TASKS)  # noqa: E731
    told = above(store, do)("task")
    [session] = store.list_sessions(tactic_path="above")
    again = above(store, do)
    with store.replay(session.session_id, record=kept) as replay:
        assert again("task") == told
    assert hits() == 4
    assert [one.verdict for one in replay.requests] == ["same"] * 4
    loaded = replay.load_session()
    below_it = loaded.sub_tactic_sessions["below"]
    assert sorted(str(one.delivery) for one in below_it) == sorted(told)  # type: ignore[call-overload]
    assert loaded.total_cost.cost == 0


def test_sub_tactics_in_other_interpreters(store: LogStore) -> None:
    """Where nothing of memory is there, the recording is read from what the replay left."""
    method = "fork"
    do = lambda self, _: each(method, self, ["a"])  # noqa: E731
    session_id = recorded(store, do)
    method = "spawn"
    assert above(store, do).replay(session_id) == ["said a"]
    assert hits() == 1


@pytest.mark.parametrize("pool", [ProcessPoolExecutor, mp.get_context("fork").Pool])
def test_a_difference_in_a_process(store: LogStore, pool: Callable[[int], Any]) -> None:
    """It comes home as what it is, with its place; so does one that the program hid."""

    def do(hides: bool, changed: str, tactic: Any, _: object) -> object:
        try:
            with pool(1) as opened:
                return list(opened.map(partial(tactic.sub, again=changed), ["a", "b"]))
        except BaseException:
            if hides:
                return None
            raise

    session_id = recorded(store, partial(do, False, ""))
    for hides in (False, True):
        with pytest.raises(ReplayDivergence) as caught:
            above(store, partial(do, hides, "!")).replay(session_id, record=False)
        assert not isinstance(caught.value, Exception)
        assert (caught.value.kind, caught.value.place.tactic) == ("changed", "below")
        assert "+a!" in caught.value.diff
    with store.replay(session_id, on_divergence="report", record=False) as replay:
        assert above(store, partial(do, False, "!"))("task") == ["said a", "said b"]
    assert [one.kind for one in replay.divergences] == ["changed", "changed"]


def test_a_call_less_and_a_call_more_in_processes(store: LogStore) -> None:
    """What no process asked is missing; what one asks more was never recorded."""
    tasks = list(TASKS)
    do = lambda self, _: each("fork", self, tasks)  # noqa: E731
    session_id = recorded(store, do)
    tasks.pop()
    with pytest.raises(ReplayDivergence, match="A recorded call was not made") as caught:
        above(store, do).replay(session_id)
    assert (caught.value.kind, caught.value.place.tactic) == ("missing", "below")
    tasks += ["c", "c"]
    with pytest.raises(ReplayDivergence) as caught:
        above(store, do).replay(session_id)
    assert (caught.value.kind, caught.value.place.tactic) == ("unrecorded", "below")
    assert hits() == 4


def test_nothing_is_left(store: LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a replay is gone after its block, and no other makes one any more."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    do = lambda self, _: each("fork", self, ["a"])  # noqa: E731
    session_id = recorded(store, do)
    for tactic in (above(store, do), above(store, lambda self, _: self.sub("a"))):
        with store.replay(session_id) as replay:  # noqa: F841 - held, as a program may
            tactic("task")
    in_process("fork", "after")
    assert hits() == 2
    assert list((tmp_path / "tmp").iterdir()) == []
