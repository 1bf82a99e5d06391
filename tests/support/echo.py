"""The smallest tactic: one agent, and a model that says what it is told."""

from __future__ import annotations

from lllm import LogStore, Tactic
from lllm.invokers.scripted import ScriptedInvoker


class Echo(Tactic, register=False):
    """One agent that answers once."""

    name = "echo"

    def call(self, task: object, **_: object) -> object:
        """Say it to the model."""
        agent = self.agents["echo"]
        agent.open("main")
        agent.receive(str(task))
        return agent.respond().content


def echo(store: LogStore) -> Echo:
    """The tactic on a store."""
    agent = {
        "name": "echo",
        "model_name": "gpt-4o-mini",
        "invoker": ScriptedInvoker(lambda request: request.messages[-1].text),
    }
    return Echo({"agent_configs": [agent]}, log_store=store)
