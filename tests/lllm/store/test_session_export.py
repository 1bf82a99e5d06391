"""A session as JSON is whole, and what a user passed stands in it as it stands in the events."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lllm import LogStore, SQLiteBackend, Tactic, tool
from lllm.events import codec
from lllm.events.values.json_values import from_plain
from lllm.invokers.scripted import ScriptedInvoker, tool_call

Json = Any  # whatever an exported session holds


class Odd:
    def __repr__(self) -> str:
        return "an odd one"


VALUES = [
    Odd(), {"$lllm": "repr", "type": "mine"}, (1, {2: b"x"}), float("nan"), 2**70, "\ud800",
    [list(range(500))] * 3, Path("a/b"),
]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    """A store of a test's own."""
    return LogStore(SQLiteBackend(tmp_path / "runs.db"))


def exported(store: LogStore, session_id: str) -> Json:
    """A session's export, read by the standard library as it is."""
    return json.loads(store.export_session(session_id))


def test_values_are_as_in_the_events(store: LogStore) -> None:
    """Whatever was passed is exported in the form in which it was recorded, and nothing is marked a
    second time."""

    @tool(description="give")
    def give() -> object:
        return VALUES

    class Giving(Tactic, register=False):
        name = "giving"
        agent_group = ("a",)

        def call(self, task: object, **_: object) -> object:
            self.agents["a"].open()
            self.agents["a"].receive("go")
            self.agents["a"].respond()
            return task

    invoker = ScriptedInvoker([tool_call("give"), "done"])
    agent = {"name": "a", "model_name": "m", "invoker": invoker, "tools": [give]}
    with store:
        giving = Giving({"agent_configs": [agent]}, log_store=store)
        giving(VALUES, metadata=VALUES, option=VALUES)
        (summary,) = store.list_sessions()
        session = store.load_session(summary.session_id)
        events = {event.type: codec.values(event.data) for event in store.log.read()}
        whole = exported(store, summary.session_id)
    started: Json = events["session.started"]
    assert whole["task"] == started["task"]
    assert whole["metadata"] == started["metadata"]
    assert whole["options"] == started["options"]
    assert whole["delivery"] == events["session.succeeded"]["delivery"]  # type: ignore[index] # a dict
    (interrupt,) = whole["agent_sessions"]["a"][0]["interrupts"]["1"]
    assert interrupt["value"] == events["tool.returned"]["value"]  # type: ignore[index] # a dict
    assert str(from_plain(whole["task"])) == str(session.task)
    (content,) = whole["agent_sessions"]["a"][0]["invoke_traces"]["2"]
    assert content["content"]["parts"][0]["text"] == "done"
    assert whole["total_cost"]["cost"] == session.total_cost.cost


def nested(store: LogStore, depth: int) -> list[str]:
    """The ids of sessions that stand below each other, from the root on."""
    with ExitStack() as stack:
        return [
            stack.enter_context(store.session("p::level", task=[number])).session_id
            for number in range(depth)
        ]


@pytest.mark.parametrize("depth", [35, 100, 200])
def test_every_level_is_there(store: LogStore, depth: int) -> None:
    """Sub-tactics stand in each other in the export, with all that they have."""
    with store:
        ids = nested(store, depth)
        node = exported(store, ids[0])
    for number, session_id in enumerate(ids):
        assert (node["session_id"], node["task"], node["state"]) == (
            session_id, [number], "success",
        )  # fmt: skip
        node = node["sub_tactic_sessions"]["level"][0] if number < depth - 1 else node
    assert node["sub_tactic_sessions"] == {}
    assert "deeper_sessions" not in node


def test_more_levels_than_readers_follow(store: LogStore) -> None:
    """Sessions below the 200th level are named there and stand at the end, so that any reader of
    JSON can read all of them."""
    with store:
        ids = nested(store, 450)
        whole = exported(store, ids[0])
    deeper = {one["session_id"]: one for one in whole["deeper_sessions"]}
    assert list(deeper) == [ids[200], ids[400]]
    node, found = whole, []
    while node is not None:
        found.append(node["session_id"])
        (node,) = node["sub_tactic_sessions"].get("level", [None])
        if node is not None and "$lllm" in node:
            assert node["$lllm"] == "session"
            node = deeper[node["session_id"]]
    assert found == ids


def test_it_looks_as_the_standard_library_writes_it(store: LogStore) -> None:
    """The text is that of `json.dumps` with an indent of two."""
    with store:
        for task in ({}, [], {"a": [1, {"b": []}, "ü\n"]}, None, True, 1e300, "\ud800"):
            with store.session("p::s", task=task) as recorder:
                pass
            text = store.export_session(recorder.session_id)
            whole = json.loads(text)
            assert text == json.dumps(whole, indent=2, ensure_ascii="\\ud800" in text)
