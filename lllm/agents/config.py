"""Checks the whole configuration of a tactic before anything runs.

`global` is merged into each agent's own configuration, dicts key by key; the agent's value wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import msgspec

from lllm.agents.prompt import Prompt
from lllm.events.errors import ConfigError
from lllm.invokers import Invoker
from lllm.invokers.invoker_by_name import ByName, PerModel
from lllm.tools.tool import Tool, as_tool

Config = Mapping[str, object]
_TOP = ("global", "agent_configs")


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of an agent: its prompt, its model and its limits on retries."""

    name: str
    """The name of the agent, as in `self.agents[...]` and in the log."""
    system_prompt: Prompt
    """The system prompt of each dialog. A plain str has no placeholders."""
    model_name: str
    """The model, by the provider's name for it."""
    model_args: dict[str, object]
    """Other parameters for the provider's API, by its names, such as temperature or max_tokens."""
    tools: tuple[Tool[..., object], ...]
    """The tools that the model may call in any dialog."""
    invoker: Invoker
    """The object that calls the model, or the name of an invoker; by default chosen by the model's
    name (`lllm.invokers.invoker_by_name`)."""
    provider: str
    """The provider that bills the calls, by its name in genai-prices; by default the invoker's."""
    max_exception_retry: int = 3
    """The most retries in one agent call for answers that can't be parsed."""
    max_llm_recall: int = 3
    """The most retries in one agent call for failed model calls."""
    max_interrupt_steps: int = 10
    """The most answers with tool calls in one agent call."""
    recall_wait: float = 1.0
    """Seconds before the first retry of a failed call if the provider names no wait; it doubles
    with each further retry."""
    max_retry_wait: float = 60.0
    """The longest wait before a retry, in seconds. If the provider asks for a longer one, the agent
    call fails with an error that says so."""
    max_parallel_tools: int = 1
    """The number of sync tools of one answer that may run at the same time, in threads. On an event
    loop, all async tools run at the same time."""


_KEYS = AgentConfig.__struct_fields__
_DEFAULTS = dict(zip(reversed(_KEYS), reversed(AgentConfig.__struct_defaults__), strict=False))


def read_config(
    config: Config | None, agent_group: Sequence[str], owner: str
) -> dict[str, AgentConfig]:
    """Check the configuration of a tactic.

    Args:
        config: `{"global": {...}, "agent_configs": [{"name": ..., ...}, ...]}`.
        agent_group: The names of the agents that the tactic has; empty for all in the config.
        owner: The tactic's name, for errors.

    Returns:
        The agents by name, in the order of `agent_group`.

    Raises:
        ConfigError: The configuration is invalid; the message names the key.
    """
    given: Config = {} if config is None else config
    if not isinstance(given, Mapping):
        raise ConfigError(f"The config of {owner} is a dict, not {type(given).__name__}.")
    _check_keys(given, _TOP, f"The config of {owner}")
    shared = _dict(given.get("global", {}), f"global of {owner}")
    if "name" in shared:
        raise ConfigError(f"global of {owner} can't have the key 'name': each agent has its own.")
    _check_keys(shared, _KEYS, f"global of {owner}")
    agents = _configs_by_name(given.get("agent_configs", ()), owner)
    if isinstance(agent_group, str):
        raise ConfigError(f"agent_group of {owner} is a list of names, not {agent_group!r}.")
    wanted = list(agent_group) or list(agents)
    for name in wanted:
        if name not in agents:
            raise ConfigError(
                f"{owner} has the agent {name!r} in its agent_group and no config for it; "
                f"agent_configs has {', '.join(agents) or 'none'}."
            )
    invokers = ByName()
    return {
        name: _agent(_merge(shared, agents[name]), invokers, f"agent {name!r} of {owner}")
        for name in wanted
    }


def _configs_by_name(value: object, owner: str) -> dict[str, Config]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(f"agent_configs of {owner} is a list of dicts, not {value!r}.")
    found: dict[str, Config] = {}
    for number, one in enumerate(value, 1):
        agent = _dict(one, f"agent config {number} of {owner}")
        name = agent.get("name")
        if not isinstance(name, str) or not name:
            raise ConfigError(f"agent config {number} of {owner} needs the key 'name', a str.")
        if name in found:
            raise ConfigError(f"agent_configs of {owner} has two agents of the name {name!r}.")
        _check_keys(agent, _KEYS, f"agent {name!r} of {owner}")
        found[name] = agent
    return found


def _merge(shared: Config, own: Config) -> dict[str, object]:
    merged = dict(shared)
    for key, value in own.items():
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(before, value)
        else:
            merged[key] = value
    return merged


def _agent(given: dict[str, object], invokers: ByName, where: str) -> AgentConfig:
    prompt = given.get("system_prompt", "")
    if isinstance(prompt, str):
        # A plain string is sent unchanged; only a Prompt has placeholders.
        name = str(given["name"])
        prompt = Prompt(f"{name}/system", prompt.replace("{", "{{").replace("}", "}}"))
    elif not isinstance(prompt, Prompt):
        raise ConfigError(f"system_prompt of {where} is a str or a Prompt, not {prompt!r}.")
    model = _str(given, "model_name", where)
    invoker = _invoker(given.get("invoker"), model, invokers, where)
    billed_by = None if given.get("provider") is None else _str(given, "provider", where)
    return AgentConfig(
        name=str(given["name"]),
        model_name=model,
        system_prompt=prompt,
        invoker=invoker,
        provider=billed_by or invoker.provider,
        model_args=dict(_dict(given.get("model_args", {}), f"model_args of {where}")),
        tools=_tools(given.get("tools", ()), where),
        max_exception_retry=_count(given, "max_exception_retry", where),
        max_llm_recall=_count(given, "max_llm_recall", where),
        max_interrupt_steps=_count(given, "max_interrupt_steps", where),
        recall_wait=_seconds(given, "recall_wait", where),
        max_retry_wait=_seconds(given, "max_retry_wait", where),
        max_parallel_tools=_count(given, "max_parallel_tools", where, least=1),
    )


def _check_keys(given: Config, keys: Sequence[str], where: str) -> None:
    for key in given:
        if key not in keys:
            raise ConfigError(f"{where} has no key {key!r}; known: {', '.join(keys)}.")


def _dict(value: object, where: str) -> Config:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{where} is a dict with str keys, not {value!r}.")
    return cast(Config, value)


def _str(given: Config, key: str, where: str) -> str:
    value = given.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where} needs the key {key!r}, a str; it has {value!r}.")
    return value


def _count(given: Config, key: str, where: str, least: int = 0) -> int:
    value = given.get(key, _DEFAULTS[key])
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{key} of {where} is a number of times, not {value!r}.")
    if value < least:
        raise ConfigError(f"{key} of {where} is at least {least}, not {value!r}.")
    return value


def _seconds(given: Config, key: str, where: str) -> float:
    value = given.get(key, _DEFAULTS[key])
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise ConfigError(f"{key} of {where} is a number of seconds, not {value!r}.")
    return float(value)


def _invoker(value: object, model: str, invokers: ByName, where: str) -> Invoker:
    if value is None or isinstance(value, str):
        try:
            value = invokers.resolve(model) if value is None else invokers.named(value)
        except ConfigError as error:
            raise ConfigError(f"model_name or invoker of {where}: {error}") from None
    if not isinstance(value, Invoker) or isinstance(value, type):  # a class in place of an instance
        raise ConfigError(f"invoker of {where} is a name or an invoker object, not {value!r}.")
    return value.for_model(model) if isinstance(value, PerModel) else value


def _tools(value: object, where: str) -> tuple[Tool[..., object], ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(f"tools of {where} is a list of functions, not {value!r}.")
    tools: list[Tool[..., object]] = []
    for one in value:
        if not callable(one):
            raise ConfigError(f"tools of {where} is a list of functions; {one!r} is none.")
        tools.append(as_tool(cast(Callable[..., object], one)))
    return only_once(tools, where)


def only_once(tools: Sequence[Tool[..., object]], where: str) -> tuple[Tool[..., object], ...]:
    """Remove duplicate tools.

    Args:
        tools: The tools.
        where: The owner of the tools, for errors.

    Returns:
        The tools, each once.

    Raises:
        ConfigError: Two different tools have the same name.
    """
    by_name: dict[str, Tool[..., object]] = {}
    for tool in tools:
        if by_name.setdefault(tool.name, tool).function is not tool.function:
            raise ConfigError(f"{where} has two tools of the name {tool.name!r}.")
    return tuple(by_name.values())
