"""What recording costs a user: one whole session on SQLite beside the same session kept nowhere.

Two agents, four calls to a model, two tools, one call that failed and was made again: the runtime
as users run it, with a scripted model that answers at once. A real call takes a second or so, which
is what the difference should be held against.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

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
from lllm import LogStore, NoOpBackend, SQLiteBackend, Tactic, tool
from lllm.invokers import Request
from lllm.invokers.scripted import Reply, ScriptedInvoker, rate_limited, tool_call

AREA = "recording"
_CALLS = 50  # to a model, in one session
_TEXT = "the order was placed on Monday and has not arrived, so the customer asks for it. " * 6
_TAGS = {"env": "prod", "experiment": "v2", "user": "alice"}


@tool(description="Look an order up.")
def look_up(order: str) -> str:
    """A tool that answers at once."""
    return f"Order {order}: {_TEXT}"


class _TwoAgents(Tactic, register=False):
    name = "two_agents"
    agent_group = ("researcher", "writer")

    def call(self, task: object, **_: object) -> object:
        answer = str(task)
        for name in self.agent_group:
            agent = self.agents[name]
            agent.open("main")
            agent.receive(answer)
            answer = agent.respond().content
        return answer


def _script(request: Request) -> Reply:
    """Two tools, then an answer; for the writer an answer at the second attempt."""
    if request.agent == "writer":
        _script_state["writer"] += 1
        return rate_limited(0.0) if _script_state["writer"] % 2 else _TEXT
    results = sum(message.role == "tool" for message in request.messages)
    return _TEXT if results == 2 else tool_call("look_up", {"order": f"A-{results}"})


_script_state = {"writer": 0}


def _tactic(store: LogStore) -> _TwoAgents:
    config = {
        "global": {"model_name": "gpt-4o-mini", "invoker": ScriptedInvoker(_script)},
        "agent_configs": [
            {"name": "researcher", "system_prompt": "You look orders up.", "tools": [look_up]},
            {"name": "writer", "system_prompt": "You write to customers."},
        ],
    }
    return _TwoAgents(config, log_store=store)


class _ManyCalls(Tactic, register=False):
    """One agent that answers many times; delivers what each answer took, in nanoseconds."""

    name = "many_calls"
    agent_group = ("writer",)

    def call(self, task: object, **_: object) -> list[int]:
        agent = self.agents["writer"]
        times: list[int] = []
        for number in range(_CALLS):
            agent.open(f"dialog-{number}")
            agent.receive(str(task))
            began = time.perf_counter_ns()
            agent.respond()
            times.append(time.perf_counter_ns() - began)
        return times


def figures(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """A whole session, and one call to a model."""
    folder.mkdir()
    with (
        LogStore(SQLiteBackend(folder / "recorded.db")) as stored,
        LogStore(NoOpBackend()) as nowhere,
    ):
        yield from _sessions(stored, nowhere, 200 if quick else 1_000)
        yield from _calls(stored, nowhere, 10 if quick else 50)


def _sessions(stored: LogStore, nowhere: LogStore, rounds: int) -> Iterator[Figure]:
    kept, lost = _tactic(stored), _tactic(nowhere)
    taken = in_rounds(
        {"SQLite": lambda: kept(_TEXT, tags=_TAGS), "NoOp": lambda: lost(_TEXT, tags=_TAGS)},
        rounds,
    )
    events = stored.backend.head() / len(stored.list_sessions())
    yield Figure(
        AREA, f"a session of {events:.0f} events on SQLite",
        ratio(taken["SQLite"], taken["NoOp"]), "x NoOp",
        f"NoOp {median_shown(taken['NoOp'])}; SQLite {median_shown(taken['SQLite'])}",
    )  # fmt: skip
    difference = [one - other for one, other in zip(taken["SQLite"], taken["NoOp"], strict=True)]
    yield Figure(AREA, "what SQLite adds to that session", milliseconds(difference), "ms")


def _calls(stored: LogStore, nowhere: LogStore, rounds: int) -> Iterator[Figure]:
    """One call to a model after another, in one session: without its beginning and its end."""
    invoker = ScriptedInvoker(lambda _: _TEXT)
    config = {
        "global": {"model_name": "gpt-4o-mini", "invoker": invoker},
        "agent_configs": [{"name": "writer", "system_prompt": "You write to customers."}],
    }
    kept = _ManyCalls(config, log_store=stored)
    lost = _ManyCalls(config, log_store=nowhere)
    on_sqlite: list[int] = []
    on_noop: list[int] = []
    with settled():
        for number in range(-1, rounds):
            for tactic, times in random.sample([(kept, on_sqlite), (lost, on_noop)], 2):
                found = tactic(_TEXT)
                if number >= 0:
                    times += found
    bare = statistics.median(on_noop)
    more = [(one - bare) / 1_000 for one in on_sqlite]
    beside = f"NoOp {median_shown(on_noop)}; SQLite {median_shown(on_sqlite)}"
    what = "what SQLite adds to one call of a model"
    yield Figure(AREA, what, Spread.of(more), "µs", beside, Bar(120, "at most"))
    p99 = statistics.quantiles(more, n=100)[98] / 1_000
    yield Figure(AREA, f"{what}, 99th percentile", Spread.of([p99]), "ms", bar=Bar(5, "at most"))
