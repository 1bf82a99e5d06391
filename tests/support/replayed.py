"""What the tests of replays run: a tactic with a tool, whose parts can be edited between runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, cast

from lllm import LogStore, Tactic
from lllm.events import codec
from lllm.events.envelope import Recorded
from lllm.invokers import Answer, Request
from lllm.invokers.scripted import Script, ScriptedInvoker
from lllm.tools.tool import Tool

MODEL = "gpt-4o-mini"


class NoModel:
    """An invoker that fails the test: a replay calls no model."""

    provider = "scripted"
    api = "scripted"
    host = None
    port = None

    def invoke(self, request: Request) -> Answer:
        """Never."""
        raise AssertionError(f"a model was called: {request}")

    async def ainvoke(self, request: Request) -> Answer:
        """Never."""
        raise AssertionError(f"a model was called: {request}")

    def stream(self, request: Request, _: Callable[[str], object], /) -> Answer:
        """Never."""
        raise AssertionError(f"a model was called: {request}")

    async def astream(self, request: Request, _: Callable[[str], object], /) -> Answer:
        """Never."""
        raise AssertionError(f"a model was called: {request}")


class Program(Tactic, register=False):
    """Runs a function of the running tactic: the code that is recorded, then edited."""

    name = "program"

    def __init__(
        self,
        do: Callable[[Any, Any], object],
        script: Script | None = None,
        *names: str,
        log_store: LogStore | None = None,
        tools: Sequence[Tool[..., object]] = (),
        model: str = MODEL,
        **agent: object,
    ) -> None:
        """script: what the model says; None for a model that must not be called."""
        invoker = NoModel() if script is None else ScriptedInvoker(script)
        given = {"tools": list(tools), "system_prompt": "You are an agent.", **agent}
        super().__init__(
            {
                "global": {"model_name": model, "invoker": invoker, "recall_wait": 0},
                "agent_configs": [{"name": name, **given} for name in names or ("a",)],
            },
            log_store=log_store,
        )
        self.do = do

    def call(self, task: Any, **_: object) -> Any:
        """Do it."""
        return self.do(self, task)


def asks(tactic: Tactic, text: object, agent: str = "a", alias: str = "main") -> str:
    """One question to an agent, in a dialog of its own."""
    one = tactic.agents[agent]
    one.open(alias)
    one.receive(text)
    return str(one.respond().content)


def record(tactic: Program, task: object = "task", **options: Any) -> str:
    """The id of the session of one call, whatever comes of it."""
    store = tactic.log_store
    assert store is not None
    with suppress(Exception):  # it is recorded
        tactic(task, **options)
    return store.list_sessions(limit=1)[0].session_id


CHANGING = {
    "salt", "digest", "root", "elapsed", "owner", "host", "pid", "origin", "price", "cost",
    "ancestors", "traceparent", "producer", "first_token", "ordinal",
}  # fmt: skip


def comparable(events: Sequence[Recorded]) -> list[tuple[str, object]]:
    """The events of a session without what differs from run to run."""
    found: list[tuple[str, object]] = []
    for event in events:
        values = codec.values(event.data)
        assert isinstance(values, dict)
        for name in CHANGING:
            values.pop(name, None)
        if event.type in ("agent.failed", "session.failed"):  # frames of the replay's own
            values["error"].pop("traceback", None)
        found.append((event.type, values))
    return [
        one
        for ends, group in groupby(found, lambda one: one[0] in ("tool.returned", "tool.failed"))
        for one in (sorted(group, key=_tool) if ends else group)  # those that ran at once
    ]


def _tool(event: tuple[str, object]) -> int:
    return int(cast("dict[str, int]", event[1])["tool"])
