"""What a replay takes: recorded sessions run again, answered from the log.

The tactics here do nothing but ask, so that what is measured is lllm. A captured call that is
answered from the log runs in the same rounds as the same call to a server on this machine.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.generate import one_session
from benchmarks.measure import (
    Bar,
    Figure,
    Spread,
    in_rounds,
    median_shown,
    milliseconds,
    ratio,
    settled,
)
from benchmarks.model_server import serving
from benchmarks.peers.environments import CASSETTES, NotInstalled, interpreter
from benchmarks.peers.workers import Failed, Worker
from lllm import LogStore, SQLiteBackend, Tactic, capture, tool
from lllm.invokers.scripted import Reply, ScriptedInvoker, tool_call

AREA = "replay"
ASKS = 3  # of the model, for a session of about 20 events
TOOL_CALLS = 100
TOKENS = 200_000  # of what the tools return, at four characters a token
_RATE = Bar(300.0, "at least")
_CALL = Bar(1.2, "at most")
_NO_SLOWER = Bar(1.0, "at most")
_WARM_UP = 3  # rounds that are not counted
_FLAT = Bar(1.2, "at most")


class Asking(Tactic):
    """Asks a model some questions, each in a dialog of its own."""

    name = "asking"

    def call(self, task: object, **_: object) -> object:
        """Ask as often as the task says; return the last answer."""
        agent = self.agents["asker"]
        answer: object = None
        for number in range(int(str(task))):
            agent.open(f"question {number}")
            agent.receive(f"When was order A-{number} placed, and where is it now?")
            answer = agent.respond().content
        return answer


def asking(answers: Sequence[Reply] = (), store: LogStore | None = None) -> Asking:
    """Make the tactic, as `lllm replay --using` needs it: no model is asked."""
    agent = {
        "name": "asker",
        "model_name": "gpt-4o-mini",
        "system_prompt": "You answer questions about orders, briefly.",
        "invoker": ScriptedInvoker(answers),
    }
    return Asking({"agent_configs": [agent]}, log_store=store)


@tool
def read_page(number: int) -> str:
    """Read a page of a long book."""
    return f"Page {number}. " + "word" * (TOKENS // TOOL_CALLS)


class Reading(Tactic):
    """Has an agent read pages with a tool."""

    name = "reading"

    def call(self, task: object, **_: object) -> object:
        """Ask for a summary."""
        agent = self.agents["reader"]
        agent.open()
        agent.receive(str(task))
        return agent.respond().content


def reading(answers: Sequence[Reply], store: LogStore) -> Reading:
    """Make the tactic."""
    agent = {
        "name": "reader",
        "model_name": "gpt-4o-mini",
        "system_prompt": "You summarize books.",
        "tools": [read_page],
        "max_interrupt_steps": TOOL_CALLS + 1,
        "invoker": ScriptedInvoker(answers),
    }
    return Reading({"agent_configs": [agent]}, log_store=store)


def figures(folder: Path, venvs: Path, *, quick: bool, with_peers: bool) -> Iterator[Figure]:
    """Many sessions, a captured call, time travel, and how time grows with what is replayed.

    venvs: the folder of the environments of vcrpy and cassetter, used where with_peers is True.
    """
    folder.mkdir()
    yield from _many(folder / "many.db", 100 if quick else 1_000, 1 if quick else 5)
    yield from _captured(
        folder / "captured", 100 if quick else 1_000, venvs if with_peers else None
    )
    with LogStore(SQLiteBackend(folder / "grown.db")) as store:
        yield _at(store, 30 if quick else 300)
        rounds = 5 if quick else 20
        yield _growing(store, (20, 200), rounds)
        yield _long(store, rounds)


# -- many sessions


def _many(path: Path, sessions: int, rounds: int) -> Iterator[Figure]:
    others = SQLiteBackend(path.with_name("others.db"))  # the command replays all of the first
    with LogStore(SQLiteBackend(path)) as store, LogStore(others) as other:
        live = asking(["It was placed on Monday."] * (ASKS * sessions), store)
        again = asking(["It was placed on Monday."] * (ASKS * sessions * rounds), other)
        ids = [_recorded(live, ASKS) for _ in range(sessions)]
        events = len(list(store.events(ids[0])))
        taken = in_rounds(
            {
                "replay": lambda: [live.replay(one, record=False) for one in ids],
                "recording": lambda: [again(ASKS) for _ in ids],
            },
            rounds,
            warm_up=0,
        )
    yield Figure(
        AREA, f"{sessions:,} sessions of {events} events, in one process",
        _rate(taken["replay"], sessions), "sessions/s",
        f"recording them {_rate(taken['recording'], sessions).median:,.0f} sessions/s", _RATE,
    )  # fmt: skip
    command = in_rounds(
        {"one": lambda: _command(path, ids[:1]), "all": lambda: _command(path, [])},
        rounds,
        warm_up=0,
    )
    yield Figure(
        AREA, f"lllm replay --jobs 1, {sessions:,} sessions, the whole command",
        _rate(command["all"], sessions), "sessions/s",
        f"of one session {median_shown(command['one'])}",
    )  # fmt: skip


def _recorded(tactic: Tactic, task: object) -> str:
    return str(tactic(task, return_session=True).session_id)


def _rate(taken: Sequence[int], sessions: int) -> Spread:
    return Spread.of(sessions * 1e9 / one for one in taken)


def _command(path: Path, session_ids: Sequence[str]) -> None:
    """Run `lllm replay` with one worker, on all sessions where none is named.

    It exits with 0 only where all are the same.
    """
    root = Path(__file__).parents[1]
    command = [
        sys.executable, "-m", "lllm", "replay", "--store", str(path), "--jobs", "1",
        "--using", f"{__name__}:{asking.__name__}", *session_ids,
    ]  # fmt: skip
    subprocess.run(command, check=True, cwd=root, stdout=subprocess.DEVNULL)


# -- captured clients


def _captured(folder: Path, rounds: int, venvs: Path | None) -> Iterator[Figure]:
    from openai import OpenAI

    folder.mkdir()
    with ExitStack() as stack:
        url = stack.enter_context(serving())
        store = stack.enter_context(LogStore(SQLiteBackend(folder / "runs.db")))
        bare = OpenAI(base_url=url, api_key="none", max_retries=0)
        heard = capture(OpenAI(base_url=url, api_key="none", max_retries=0), log_store=store)
        cassettes = {} if venvs is None else _cassettes(folder, venvs, url, stack)
        played: dict[str, list[int]] = {name: [] for name in cassettes}

        def asks(client: OpenAI) -> Callable[[], object]:
            numbers = iter(range(rounds + _WARM_UP))
            return lambda: client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": f"Where is order A-{next(numbers)}? " * 10}],
            )

        def play() -> None:
            for name, worker in cassettes.items():
                if isinstance(worker, Worker):
                    played[name] += worker.run("call", 1)

        with store.session("benchmark") as session:
            recording = asks(heard)
            for _ in range(rounds + _WARM_UP):
                recording()
        with store.replay(session.session_id, record=False), store.session("benchmark"):
            taken = in_rounds(
                {"server": asks(bare), "log": asks(heard)}, rounds, between=play, warm_up=_WARM_UP
            )
        bare.close()
        heard.close()
    log = taken["log"]
    beside = f"log {median_shown(log)}; the bare client and the server "
    yield Figure(
        AREA, "a captured call answered from the log", milliseconds(log), "ms", bar=_CALL
    )  # fmt: skip
    yield Figure(
        AREA, "the same / the bare client and a server on this machine",
        ratio(log, taken["server"]), "x its time", beside + median_shown(taken["server"]),
        _NO_SLOWER,
    )  # fmt: skip
    for name, worker in cassettes.items():
        what = f"the same / a cassette of 20 calls, {name}"
        if isinstance(worker, Failed):
            yield Figure(AREA, what, Spread.of([math.nan]), "x its time", str(worker))
        else:
            others = played[name][_WARM_UP:]
            beside = f"log {median_shown(log)}; {worker.name} {median_shown(others)}"
            yield Figure(AREA, what, ratio(log, others), "x its time", beside)


def _cassettes(folder: Path, venvs: Path, url: str, stack: ExitStack) -> dict[str, Worker | Failed]:
    """The libraries that play recorded answers back, each in a process of its own."""
    venvs.mkdir(parents=True, exist_ok=True)
    found: dict[str, Worker | Failed] = {}
    for peer in CASSETTES:
        work = {"library": "vcr" if peer.name == "vcrpy" else peer.name, "url": url}
        try:
            python = interpreter(peer, venvs)
            found[peer.name] = stack.enter_context(
                Worker(peer.name, python, peer.worker, folder / peer.name, work, isolated=True)
            )
        except (NotInstalled, Failed) as error:
            found[peer.name] = Failed(f"{peer.name} {peer.version} was not measured: {error}")
    return found


# -- how time grows


def _at(store: LogStore, rounds: int) -> Figure:
    long = one_session(store.backend, 0, agents=16)
    last = [event.position for event in store.events(long)][-1]
    taken = in_rounds(
        {
            "plain": lambda: store.load_session(long),
            "at": lambda: store.load_session(long, at=last),
        },
        rounds,
    )
    beside = f"plain {median_shown(taken['plain'])}; at {median_shown(taken['at'])}"
    return Figure(
        AREA, "load_session(at=) of the last position", ratio(taken["at"], taken["plain"]),
        "x a plain load", beside, Bar(1.05, "at most"),
    )  # fmt: skip


def _growing(store: LogStore, sizes: tuple[int, int], rounds: int) -> Figure:
    live = asking(["It was placed on Monday."] * sum(sizes), store)
    ids = {str(size): _recorded(live, size) for size in sizes}
    few, many = (_each(live, ids[str(size)], size, rounds) for size in sizes)
    return Figure(
        AREA, f"one request of {sizes[1]} in a session", ratio(many, few),
        f"x one of {sizes[0]}", f"{median_shown(few)}; {median_shown(many)}", _FLAT,
    )  # fmt: skip


def _long(store: LogStore, rounds: int) -> Figure:
    half = TOOL_CALLS // 2
    taken: list[list[int]] = []
    for count in (half, TOOL_CALLS):
        calls: list[Reply] = [tool_call("read_page", {"number": n}) for n in range(count)]
        live = reading([*calls, "A book of words."], store)
        taken.append(_each(live, _recorded(live, "Summarize the book."), count, rounds))
    few, many = taken
    whole = median_shown([one * TOOL_CALLS for one in many])
    return Figure(
        AREA, f"one of {TOOL_CALLS} tool calls, with {TOKENS:,} tokens in all", ratio(many, few),
        f"x one of {half}", f"the whole session {whole}", _FLAT,
    )  # fmt: skip


def _each(tactic: Tactic, session_id: str, parts: int, rounds: int) -> list[int]:
    """What each of the parts of a session takes when it is replayed, in nanoseconds."""
    found: list[int] = []
    with settled():
        for number in range(-1, rounds):
            began = time.perf_counter_ns()
            tactic.replay(session_id, record=False)
            if number >= 0:
                found.append((time.perf_counter_ns() - began) // parts)
    return found
