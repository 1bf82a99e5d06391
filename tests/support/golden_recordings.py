"""Recordings of every version of the events, kept in tests/golden/recordings.

    python -m tests.support.golden_recordings NAME

writes NAME-desk.jsonl, what a program did in which every event of a session happens, and
NAME-fork.jsonl, a fork of it. Recordings of earlier versions are never written anew: that they can
be replayed by today's code is what is tested.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import openai

import lllm
from lllm import Edit, LogStore, ParseError, Prompt, ReplayPlace, Tactic, capture, tool
from lllm.events.backends.memory import MemoryBackend
from lllm.invokers.scripted import ScriptedInvoker, bad_request, rate_limited, tool_call, tool_calls
from tests.support import ROOT
from tests.support.loopback import Loopback, text

FOLDER = ROOT / "tests" / "golden" / "recordings"
TASK = {"question": "How many live in Berlin?", "since": 2020}
SCRIPT = {
    "reader": [
        rate_limited(0),
        tool_calls(tool_call("lookup", {"city": "Berlin"}), tool_call("fails", {})),
        "3.7 million.",
    ],
    "judge": ["no", "yes", bad_request(), "streamed"],
}


@tool(description="Looks a city up.")
def lookup(city: str) -> dict[str, object]:
    """A value that is more than its text."""
    return {"city": city, "people": 3_700_000}


@tool(description="Raises.")
def fails() -> str:
    """Always."""
    raise KeyError("nothing")


def yes(answer: str) -> str:
    """A parser that takes one word."""
    if answer != "yes":
        raise ParseError("Say yes.")
    return answer


class Below(Tactic, register=False):
    """A sub-tactic that fails."""

    name = "below"

    def call(self, task: object, **_: object) -> object:
        """Raise."""
        raise LookupError(f"nothing about {task}")


class Desk(Tactic, register=False):
    """Does once what a session can do."""

    name = "desk"
    client: openai.OpenAI

    def call(self, task: Any, **_: object) -> object:
        """Ask agents, run tools, call a sub-tactic and a captured client, and draw values."""
        drawn = [lllm.now().isoformat(), str(lllm.uuid4()), lllm.random()]
        reader, judge = self.agents["reader"], self.agents["judge"]
        reader.open()
        reader.receive(f"{task['question']} {drawn}")
        answer = reader.respond().content
        reader.fork("main", "again")
        judge.open()
        judge.receive(answer)
        judged = judge.respond(
            prompt=Prompt(path="judge", prompt="Is it right?", parser=yes)
        ).parsed
        with suppress(lllm.InvokeError):
            judge.respond()
        judge.open("stream")
        judge.receive("Go on.")
        streamed = judge.respond(lambda _: None).content
        with suppress(LookupError):
            Below(log_store=self.log_store)("Berlin")
        asked = self.client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "And Paris?"}]
        )
        return [answer, judged, streamed, asked.choices[0].message.content, *drawn]


def desk(store: LogStore, script: Any, base_url: str = "http://127.0.0.1:9/v1") -> Desk:
    """The tactic. script: what its model says; an empty one where it is replayed."""
    agents = [
        {"name": "reader", "system_prompt": "You are precise.", "tools": [lookup, fails]},
        {"name": "judge", "system_prompt": "You judge.", "max_llm_recall": 0},
    ]
    made = Desk(
        {
            "global": {
                "model_name": "gpt-4o-mini", "invoker": ScriptedInvoker(script), "recall_wait": 0,
            },
            "agent_configs": agents,
        },
        log_store=store,
    )  # fmt: skip
    made.client = capture(openai.OpenAI(api_key="sk-none", base_url=base_url, max_retries=0))
    return made


def anonymous(_: str, data: dict[str, Any]) -> dict[str, Any]:
    """Cut out what tells of the machine: its name, and the paths in tracebacks."""
    error = data.get("error")
    return {
        **data,
        **({"host": "here"} if "pid" in data else {}),
        **({"error": {**error, "traceback": ""}} if isinstance(error, dict) else {}),
    }


def write(name: str) -> None:
    """Record the program and a fork of it, and write both. Raises FileExistsError."""
    with LogStore(MemoryBackend(), redact=[anonymous]) as store, Loopback() as server:
        server.answers(text("2.1 million."))
        first = desk(store, SCRIPT, server.url)(TASK, tags={"env": "golden"}, return_session=True)
        store.tag(first.session_id, {"kept": "yes"})
        forked = {"reader": ["3.8 million."], "judge": SCRIPT["judge"]}
        fork = desk(store, forked, server.url).fork(
            first.session_id, at=ReplayPlace(agent="reader", step=2),
            edit=Edit(tool_result="3.8 million people", tool="lookup"), return_session=True,
        )  # fmt: skip
        for kind, session in (("desk", first), ("fork", fork)):
            exported = store.export_session(session.session_id, "jsonl")
            with open(FOLDER / f"{name}-{kind}.jsonl", "x", encoding="utf-8") as file:
                file.write(exported)


if __name__ == "__main__":
    write(sys.argv[1])
