"""The class Tactic: a small program that coordinates agents; each call of it is a session."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Self, cast
from weakref import WeakSet

from lllm.agents import subtactics
from lllm.agents.agent import Agent
from lllm.agents.config import AgentConfig, Config, read_config
from lllm.agents.misspelled_options import check_option_names
from lllm.agents.tactic_calls import TacticCalls
from lllm.agents.tactic_replays import TacticReplays
from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import ConfigError
from lllm.invokers import Invoker
from lllm.packages.registry import Runtime, default_runtime, tactic_path
from lllm.replay.active_replay import above_of
from lllm.sessions.budget import Budget, OnUnpriced, limit_of, on_unpriced
from lllm.sessions.current_session import running_session
from lllm.sessions.host import Parent, SessionHost
from lllm.sessions.in_memory_host import InMemorySessionHost
from lllm.sessions.session import SessionScope
from lllm.store.log_store import LogStore, session_host

_warning = ThreadLock()  # prevents two threads from both giving the warning
# classes of tactics that have given the warning about a missing log store
_warned: WeakSet[type] = WeakSet()


class Tactic(TacticCalls, TacticReplays):
    """A program that coordinates agents. Subclass it, name it, and write `call`.

        class Analyzer(Tactic):
            name = "analyzer"
            agent_group = ["extractor"]

            def call(self, task):
                extractor = self.agents["extractor"]
                extractor.open("main")
                extractor.receive(task)
                return extractor.respond().content

    A tactic holds no state of a call: each call runs on a copy with fresh agents, so one object
    serves many threads. A tactic assigned to an attribute is a sub-tactic: its calls are children
    of the running call, and it shares the log store. `class Base(Tactic, register=False)` keeps a
    class out of the registry that `build_tactic` looks in.

    Args:
        config: `{"global": {...}, "agent_configs": [{"name": ..., ...}, ...]}`; `global` holds
            defaults for all agents. The keys are those of AgentConfig.
        log_store: The store in which calls are recorded; a sub-tactic uses the store of its caller.
        budget_usd: The most that one call may spend on models, in US dollars, including the calls
            of its sub-tactics; None for no limit.
        budget_unpriced: What to do under a budget when the cost of a call is unknown: "warn" once,
            or "stop" before the next call of a model.

    Raises:
        ConfigError: The class has no name or no `call`, or the configuration is invalid; the
            message names the key.
    """

    name: ClassVar[str] = ""
    """The short name; the package name and this make the stable path of its sessions."""
    agent_group: ClassVar[Sequence[str]] = ()
    """The names of the agents that the tactic needs; empty for all configured agents."""
    agents: Mapping[str, Agent]
    """The agents by name; only available while a call runs."""
    _warns: ClassVar[bool] = True  # False for tactics that give no warning without a log store

    def __init_subclass__(cls, register: bool = True) -> None:
        super().__init_subclass__()
        if register and cls.name:
            default_runtime.register(cls)

    def __init__(
        self,
        config: Config | None = None,
        *,
        log_store: LogStore | None = None,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced = "warn",
    ) -> None:
        if not self.name:
            raise ConfigError(f'{type(self).__name__} needs a name: name = "..." in the class.')
        if type(self).call is Tactic.call:
            raise ConfigError(f"{type(self).__name__} needs a method `call(self, task)`.")
        if log_store is not None and not isinstance(log_store, LogStore):
            raise ConfigError(
                f"log_store of tactic {self.name!r} is a LogStore, not {log_store!r}: "
                'sqlite_store("runs.db") makes one.'
            )
        self.config = config
        self.log_store = log_store
        self.agents = {}
        self._agent_configs: dict[str, AgentConfig] = read_config(
            config, self.agent_group, f"tactic {self.name!r}"
        )
        self._budget = limit_of(budget_usd)
        self._on_unpriced = on_unpriced(budget_unpriced)
        self._parent: Parent | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {tactic_path(type(self))}>"

    def __getstate__(self) -> dict[str, object]:
        # The agents of a running call are left out; the other process makes its own.
        return self.__dict__ | {"agents": {}}

    if not TYPE_CHECKING:  # see TacticCalls

        def call(self, task: object, **options: object) -> object:
            """Do the tactic's work. Subclasses define it, as `def` or `async def`.

            Args:
                task: The first argument of the call.
                **options: The keyword arguments of the call.

            Returns:
                The delivery: it is returned to the caller and recorded in the session.
            """
            raise NotImplementedError

    @classmethod
    def quick(
        cls,
        question: str,
        *,
        model: str,
        system_prompt: str = "",
        invoker: Invoker | str | None = None,
        log_store: LogStore | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Ask a model one question, without writing a tactic.

        Args:
            question: The user message.
            model: The model, by the provider's name for it.
            system_prompt: The system prompt; empty for none.
            invoker: How the model is called: an object, or a name; None to let the model's name
                decide.
            log_store: The store in which the call is recorded; None for the store of the running
                session, if there is one.
            tags: Names and values by which the session can be found.

        Returns:
            The answer's text.

        Raises:
            LllmError: The same errors as from a call of any tactic.
        """
        agent = {
            "name": "assistant",
            "model_name": model,
            "system_prompt": system_prompt,
            "invoker": invoker,
        }
        tactic = _Quick({"agent_configs": [agent]}, log_store=log_store)
        return str(tactic(question, tags=tags))

    # -- one call

    def _scope(
        self,
        task: object,
        options: Mapping[str, object],
        tags: Mapping[str, str] | None,
        metadata: object,
        return_session: bool,
        budget_usd: float | None,
        budget_unpriced: OnUnpriced | None,
    ) -> SessionScope:
        if "_agent_configs" not in vars(self):
            raise ConfigError(
                f"{type(self).__name__}.__init__ must call super().__init__(config, log_store=...)."
            )
        check_option_names(options, self.call, self)
        parent = self._parent_of_call()
        budget = Budget(
            self._budget if budget_usd is None else limit_of(budget_usd),
            above=None if parent is None else parent.budget,
            unpriced=self._on_unpriced if budget_unpriced is None else on_unpriced(budget_unpriced),
        )
        host = self._host(parent, return_session)
        if parent is not None and parent.host is not host and parent.replaying is None:
            parent = None  # a call with its own store is the root of its own tree
        return SessionScope(
            host,
            tactic_path(type(self)),
            self.name,
            task=task,
            options=options,
            tags=tags,
            metadata=metadata,
            parent=parent,
            budget=budget,
        )

    def _parent_of_call(self) -> Parent | None:
        """Get the current session, which becomes the call's parent; None for a root."""
        running, bound = running_session(), self._parent
        if bound is None or (bound.replaying is None and above_of(running) is not None):
            return running
        inside = running is not None and running.lineage[: len(bound.lineage)] == bound.lineage
        return running if inside else bound

    def _host(self, parent: Parent | None, return_session: bool) -> SessionHost:
        """Get the place to record a call: the tactic's own store, else that of the parent."""
        replay = above_of(parent)
        if replay is not None:
            return replay.host
        above = None if parent is None else parent.host
        own = self.log_store
        host: SessionHost | None = None if own is None else session_host(own)
        if above is not None and (host is None or not host.persists):
            host = above
        if host is None:
            self._warn_once()
            host = InMemorySessionHost(persists=False)
        if return_session and not host.persists:
            host = InMemorySessionHost(
                persists=True, partition=host.partition, redact=host.redact, prices=host.prices
            )
        return host

    def _warn_once(self) -> None:
        """Warn, once for each tactic class, that calls are not stored."""
        with _warning.held():
            warned = not self._warns or type(self) in _warned
            _warned.add(type(self))
        if not warned:
            warnings.warn(
                f"Tactic {self.name!r} has no log store, so its calls are not kept. Give it one: "
                f'{type(self).__name__}(config, log_store=sqlite_store("./runs.db")).',
                UserWarning,
                stacklevel=5,  # points at the line that calls the tactic
            )

    def _running(self, scope: SessionScope) -> Self:
        """Copy the tactic for one call, with its own agents and bound sub-tactics."""
        running = self._copy_with(
            subtactics.bind_all(vars(self), Tactic, lambda tactic: tactic._bind_to(scope))
        )
        running._parent = scope
        running.agents = _Agents(
            (name, Agent(config, scope, partial(self._with_model, name)))
            for name, config in self._agent_configs.items()
        )
        return running

    def _with_model(self, agent: str, model: str) -> AgentConfig:
        """Make an agent's configuration for another model, as the tactic makes its own."""
        given = dict(self.config or {})
        own = [one for one in cast("list[Config]", given["agent_configs"]) if one["name"] == agent]
        given["agent_configs"] = [{**own[0], "model_name": model}]
        return read_config(given, [agent], f"tactic {self.name!r}")[agent]

    def _bind_to(self, parent: Parent) -> Self:
        """Copy the tactic so that its calls are children of a running call."""
        bound = self._copy_with(vars(self))
        bound._parent = parent
        if bound.log_store is not None and session_host(bound.log_store) is parent.host:
            bound.log_store = None  # it uses the store of its parent
        return bound

    def _copy_with(self, attributes: Mapping[str, object]) -> Self:
        # Not copy.copy, which calls __getstate__; a subclass may have written that for pickle.
        copied = object.__new__(type(self))
        vars(copied).update(attributes)
        return copied


class _Agents(dict[str, Agent]):
    """The agents of one call, by name."""

    def __missing__(self, name: str) -> Agent:
        known = ", ".join(self) or "none; name them in agent_configs of the config"
        raise ConfigError(f"There is no agent {name!r}; there are: {known}.")


class _Quick(Tactic, register=False):
    """The tactic behind `Tactic.quick`."""

    name = "quick"
    _warns = False  # one question does not need a store

    def call(self, task: object, **_: object) -> object:
        agent = self.agents["assistant"]
        agent.open("main")
        agent.receive(str(task))
        return agent.respond().content


def build_tactic(
    config: Config | None = None,
    *,
    name: str,
    log_store: LogStore | None = None,
    runtime: Runtime | None = None,
) -> Tactic:
    """Make a tactic by its name.

    Args:
        config: The tactic's configuration; see `Tactic`. None for an empty one.
        name: The name in any form: "analyzer", "my_project::analyzer", "alias:analyzer".
        log_store: The store in which calls are recorded; None for that of the caller's session.
        runtime: The packages in which the name is looked up; None for those that this process has
            defined or loaded.

    Returns:
        A new tactic of that name.

    Raises:
        ConfigError: No registered tactic has that name, or several have; or the configuration is
            invalid.
    """
    cls = (runtime or default_runtime).find(name)
    if not issubclass(cls, Tactic):
        raise ConfigError(f"{name!r} names {cls!r}, which is not a Tactic.")
    return cls(config, log_store=log_store)
