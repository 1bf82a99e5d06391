"""What recording costs a user: one whole session on SQLite beside the same session kept nowhere.

Two agents, four calls to a model, two tools, one call that failed and was made again: the runtime
as users run it, with a scripted model that answers at once. A real call takes a second or so, which
is what the difference should be held against.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Figure, in_rounds, median_shown, milliseconds, ratio
from lllm import LogStore, NoOpBackend, SQLiteBackend, Tactic, tool
from lllm.invokers import Request
from lllm.invokers.scripted import Reply, ScriptedInvoker, rate_limited, tool_call

AREA = "recording"
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


def figures(folder: Path, *, quick: bool) -> Iterator[Figure]:
    """A whole session, and what bringing the rows up to date is of it."""
    folder.mkdir()
    stored = LogStore(SQLiteBackend(folder / "recorded.db"))
    nowhere = LogStore(NoOpBackend())
    kept, lost = _tactic(stored), _tactic(nowhere)
    try:
        taken = in_rounds(
            {
                "SQLite": lambda: kept(_TEXT, tags=_TAGS),
                "NoOp": lambda: lost(_TEXT, tags=_TAGS),
            },
            200 if quick else 1_000,
        )
        events = stored.backend.head() / len(stored.list_sessions())
        difference = milliseconds(
            [one - other for one, other in zip(taken["SQLite"], taken["NoOp"], strict=True)]
        )
        yield Figure(
            AREA, f"a session of {events:.0f} events on SQLite",
            ratio(taken["SQLite"], taken["NoOp"]), "x NoOp",
            f"NoOp {median_shown(taken['NoOp'])}; SQLite {median_shown(taken['SQLite'])}",
        )  # fmt: skip
        yield Figure(AREA, "what SQLite adds to that session", difference, "ms")
    finally:
        stored.close()
        nowhere.close()
