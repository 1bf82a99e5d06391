"""A tactic's configuration: merged, checked as a whole, and wrong only in words that help."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from lllm import ConfigError, Prompt, tool
from lllm.agents.config import AgentConfig, read_config
from lllm.agents.tactic import Tactic
from lllm.invokers import Request
from lllm.invokers.scripted import Reply, ScriptedInvoker
from tests.support.runs import Asking


def answer(_: Request) -> Reply:
    """The same to everyone."""
    return "ok"


INVOKER = ScriptedInvoker(answer)


@tool(description="one")
def same_name() -> str:
    """A tool."""
    return "1"


def another() -> str:
    """Another tool, which takes the first one's name."""
    return "2"


def read(*agents: Mapping[str, object], **shared: object) -> dict[str, AgentConfig]:
    """The agents of a configuration."""
    given = {"global": {"invoker": INVOKER} | shared, "agent_configs": list(agents)}
    return read_config(given, (), "tactic 't'")


def test_global_goes_for_every_agent_and_the_agents_own_value_wins() -> None:
    """`global` is merged into each agent's config, dicts key by key, at any depth."""
    agents = read(
        {"name": "x"},
        {"name": "y", "model_name": "own", "max_llm_recall": 0, "model_args": {"b": {"d": 9}}},
        model_name="shared",
        model_args={"a": 1, "b": {"c": 2, "d": 3}},
        max_llm_recall=7,
    )
    assert (agents["x"].model_name, agents["y"].model_name) == ("shared", "own")
    assert agents["x"].model_args == {"a": 1, "b": {"c": 2, "d": 3}}
    assert agents["y"].model_args == {"a": 1, "b": {"c": 2, "d": 9}}
    assert (agents["x"].max_llm_recall, agents["y"].max_llm_recall) == (7, 0)


def test_what_is_not_said_has_a_default() -> None:
    """An agent needs a name and a model; the rest has defaults."""
    agent = read({"name": "x", "model_name": "m"})["x"]
    assert (agent.max_exception_retry, agent.max_llm_recall, agent.max_interrupt_steps) == (
        3,
        3,
        10,
    )
    assert (agent.recall_wait, agent.tools, agent.model_args) == (1.0, (), {})
    assert agent.system_prompt.render() == ""


def test_the_agent_group_chooses_and_orders() -> None:
    """Agents stand in the order of agent_group; others in the config are for other tactics."""
    given = {
        "global": {"model_name": "m", "invoker": INVOKER},
        "agent_configs": [{"name": "x"}, {"name": "y"}, {"name": "z"}],
    }
    assert list(read_config(given, ["z", "x"], "t")) == ["z", "x"]
    assert list(read_config(given, (), "t")) == ["x", "y", "z"]


def test_a_tactic_without_agents_needs_no_config() -> None:
    """No agent_group and no config: a tactic that only calls others."""
    assert read_config(None, (), "t") == {}


def test_functions_become_tools() -> None:
    """Plain functions, tools and Prompts are taken as they are; the same tool twice counts once."""
    prompt = Prompt("p", "Be {who}.")
    given = {"name": "x", "model_name": "m", "tools": [another, same_name, same_name]}
    agent = read(given | {"system_prompt": prompt})["x"]
    assert [one.name for one in agent.tools] == ["another", "same_name"]
    assert agent.system_prompt is prompt


X = {"name": "x", "model_name": "m"}


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        (X | {"modell": "m"}, "agent 'x' of tactic 't' has no key 'modell'; known: name, "),
        (X | {"model_name": 5}, "agent 'x' of tactic 't' needs the key 'model_name', a str"),
        ({"name": "x"}, "needs the key 'model_name', a str; it has None"),
        (X | {"system_prompt": 5}, "system_prompt of agent 'x' of tactic 't' is a str or a Prompt"),
        (X | {"model_args": [1]}, "model_args of agent 'x' of tactic 't' is a dict with str keys"),
        (X | {"model_args": {1: 2}}, "model_args of agent 'x' of tactic 't' is a dict with str"),
        (X | {"tools": "lookup"}, "tools of agent 'x' of tactic 't' is a list of functions"),
        (X | {"tools": [5]}, "tools of agent 'x' of tactic 't' is a list of functions; 5 is none"),
        (X | {"invoker": 5}, "invoker of agent 'x' of tactic 't' is a name or an invoker object"),
        (X | {"invoker": ScriptedInvoker}, "invoker of agent 'x' of tactic 't' is a name or an"),
        (X | {"invoker": "nope"}, "no invoker 'nope'"),
        (X | {"max_llm_recall": -1}, "max_llm_recall of agent 'x' of tactic 't' is a number of"),
        (X | {"max_llm_recall": True}, "max_llm_recall of agent 'x'"),
        (X | {"max_exception_retry": "3"}, "max_exception_retry of agent 'x'"),
        (X | {"max_interrupt_steps": 1.5}, "max_interrupt_steps of agent 'x'"),
        (X | {"recall_wait": -1}, "recall_wait of agent 'x' of tactic 't' is a number of seconds"),
        (X | {"recall_wait": math.nan}, "recall_wait of agent 'x'"),
        (X | {"recall_wait": math.inf}, "recall_wait of agent 'x'"),
        ({"model_name": "m"}, "agent config 1 of tactic 't' needs the key 'name'"),
        ({"name": "", "model_name": "m"}, "agent config 1 of tactic 't' needs the key 'name'"),
        ({"name": 7, "model_name": "m"}, "agent config 1 of tactic 't' needs the key 'name'"),
    ],
)
def test_each_error_names_its_key(agent: Mapping[str, object], told: str) -> None:
    """An unknown key or a wrong type is one ConfigError that names the key and whose it is."""
    with pytest.raises(ConfigError) as caught:
        read(agent)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "The config of tactic 't' is a dict, not list"),
        ({"agents": []}, "The config of tactic 't' has no key 'agents'; known: global, agent_conf"),
        ({"global": 5}, "global of tactic 't' is a dict with str keys"),
        ({"global": {"name": "x"}}, "global of tactic 't' can't have the key 'name'"),
        ({"global": {"temprature": 1}}, "global of tactic 't' has no key 'temprature'"),
        ({"agent_configs": {"name": "x"}}, "agent_configs of tactic 't' is a list of dicts"),
        ({"agent_configs": "x"}, "agent_configs of tactic 't' is a list of dicts"),
        ({"agent_configs": [5]}, "agent config 1 of tactic 't' is a dict with str keys"),
        ({"agent_configs": [X, X]}, "agent_configs of tactic 't' has two agents of the name 'x'"),
        ({"agent_configs": [{"name": "y", "modell": 1}]}, "agent 'y' of tactic 't' has no key"),
    ],
)
def test_the_whole_config_is_checked(given: object, told: str) -> None:
    """Wrong things outside any agent, and in agents of other tactics, are told too."""
    with pytest.raises(ConfigError) as caught:
        read_config(given, ["x"], "tactic 't'")  # type: ignore[arg-type] # that is the point
    assert told in str(caught.value)


@pytest.mark.parametrize("given", [None, {}, {"agent_configs": [{"name": "y"}]}])
def test_an_agent_without_a_config_is_named(given: dict[str, object] | None) -> None:
    """A name in agent_group without a config is a ConfigError that says what there is."""
    with pytest.raises(ConfigError) as caught:
        read_config(given, ["extractor"], "tactic 't'")
    assert "'extractor' in its agent_group and no config" in str(caught.value)
    assert ("agent_configs has y" if given and "agent_configs" in given else "has none") in str(
        caught.value
    )


def test_an_agent_group_is_no_str() -> None:
    """`agent_group = "writer"` is told as what it is, not letter by letter."""
    with pytest.raises(ConfigError, match="agent_group of t is a list of names, not 'writer'"):
        read_config({}, "writer", "t")


def test_two_tools_of_one_name() -> None:
    """Two different tools of one name are a ConfigError: the model could not tell them apart."""
    clash = tool(name="same_name", description="two")(another)
    with pytest.raises(ConfigError, match="two tools of the name 'same_name'"):
        read(X | {"tools": [same_name, clash]})


def test_errors_come_at_construction() -> None:
    """A wrong config is raised where the tactic is made, as ConfigError and as ValueError."""
    with pytest.raises(ValueError, match="tactic 'asking' has no key 'oops'"):
        Asking({"oops": 1})


def test_a_tactic_needs_a_name_and_a_call() -> None:
    """A class without a name, or without `call`, can't be made."""

    class Nameless(Tactic):
        def call(self, task: object, **_: object) -> object:
            return task

    class Callless(Tactic, register=False):
        name = "callless"

    with pytest.raises(ConfigError, match="Nameless needs a name"):
        Nameless()
    with pytest.raises(ConfigError, match=r"Callless needs a method `call\(self, task\)`"):
        Callless()


def test_the_config_may_change_afterwards() -> None:
    """What is done to the dict after construction changes nothing."""
    agent: dict[str, object] = {
        "name": "a",
        "model_name": "m",
        "invoker": INVOKER,
        "model_args": {},
    }
    given = {"agent_configs": [agent]}
    tactic = Asking(given)
    agent["model_name"] = "other"
    agent["model_args"]["x"] = 1  # type: ignore[index] # a dict
    assert tactic._agent_configs["a"].model_name == "m"
    assert tactic._agent_configs["a"].model_args == {}
