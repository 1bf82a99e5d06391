"""A tactic: a small program that coordinates agents, and whose every call is a session."""

from __future__ import annotations

import asyncio
import copy
import inspect
import warnings
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from contextvars import copy_context
from functools import partial
from typing import ClassVar, Protocol, cast, runtime_checkable

from lllm.agent import Agent
from lllm.config import AgentConfig, Config, read_config
from lllm.events.errors import ConfigError
from lllm.homeless import Homeless
from lllm.invokers import Invoker
from lllm.projections.call_session import TacticCallSession
from lllm.runtime import Runtime, default_runtime, tactic_path
from lllm.session import Home, Parent, SessionScope, current
from lllm.store import LogStore
from lllm.tools import wait_for


@runtime_checkable
class _Finished(Protocol):
    """A home that can show the sessions it was given."""

    def finished(self, session_id: str) -> TacticCallSession: ...


class Tactic:
    """Subclass it, name it, and write `call`.

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
    """

    name: ClassVar[str] = ""
    agent_group: ClassVar[Sequence[str]] = ()
    agents: Mapping[str, Agent]

    def __init_subclass__(cls, register: bool = True) -> None:
        super().__init_subclass__()
        if register and cls.name:
            default_runtime.register(cls)

    def __init__(self, config: Config | None = None, *, log_store: LogStore | None = None) -> None:
        """config: see RUNTIME in the README: `global` for all agents, `agent_configs` for each.

        Raises ConfigError, which names the key, where it can't be.
        """
        if not self.name:
            raise ConfigError(f'{type(self).__name__} needs a name: name = "..." in the class.')
        if type(self).call is Tactic.call:
            raise ConfigError(f"{type(self).__name__} needs a method `call(self, task)`.")
        self.config = config
        self.log_store = log_store
        self.agents = {}
        self._agent_configs: dict[str, AgentConfig] = read_config(
            config, self.agent_group, f"tactic {self.name!r}"
        )
        self._parent: Parent | None = None
        self._warned = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {tactic_path(type(self))}>"

    def __getstate__(self) -> dict[str, object]:
        # The agents of a running call stay with it; the other process makes its own.
        return self.__dict__ | {"agents": {}}

    def call(self, task: object, **options: object) -> object:
        """What the tactic does; written by the subclass, as `def` or `async def`. What it returns
        is the delivery."""
        raise NotImplementedError

    # -- calling

    def __call__(
        self,
        task: object,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: bool = False,
        **options: object,
    ) -> object:
        """Call the tactic; returns what `call` returns, or with `return_session` the session.

        task: str, dict, dataclass, Struct or pydantic model. tags: str to str, to find the session
        by. metadata: anything worth keeping with it. options: handed to `call`.

        Raises what `call` raises; TypeError for tags that are not str -> str.
        """
        scope = self._scope(task, tags, metadata, return_session)
        with scope as recorder:
            running = self._running(scope)
            result = running.call(task, **options)
            if inspect.isawaitable(result):
                result = wait_for(result)
            recorder.deliver(result)
        return _session_of(scope) if return_session else result

    async def acall(
        self,
        task: object,
        *,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: bool = False,
        **options: object,
    ) -> object:
        """The same on an event loop: an `async def call` runs on it, a plain one in a thread."""
        scope = self._scope(task, tags, metadata, return_session)
        async with scope as recorder:
            running = self._running(scope)
            if inspect.iscoroutinefunction(running.call):
                result = await running.call(task, **options)
            else:
                result = await asyncio.to_thread(running.call, task, **options)
                if inspect.isawaitable(result):
                    result = await result
            recorder.deliver(result)
        return await asyncio.to_thread(_session_of, scope) if return_session else result

    def bcall(
        self,
        tasks: Iterable[object],
        *,
        max_workers: int | None = None,
        fail_fast: bool = True,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: bool = False,
        **options: object,
    ) -> list[object]:
        """Call the tactic for each task, in threads; returns the results in the order of the tasks.

        max_workers: how many run at once. fail_fast: whether the first error is raised and the
        tasks that have not begun are left; without it, an error stands in its task's place.
        """
        given = list(tasks)
        with ThreadPoolExecutor(max_workers) as pool:
            futures: list[Future[object]] = []
            for task in given:
                one = partial(
                    self.__call__, task, tags=tags, metadata=metadata,
                    return_session=return_session, **options,
                )  # fmt: skip
                # Each thread gets what the caller's context holds, the running session among it.
                futures.append(pool.submit(copy_context().run, one))
            if fail_fast:
                wait(futures, return_when=FIRST_EXCEPTION)
                failed = [f for f in futures if f.done() and not f.cancelled() and f.exception()]
                if failed:
                    pool.shutdown(wait=True, cancel_futures=True)
                    return [failed[0].result()]
        return [_outcome(future) for future in futures]

    async def ccall(
        self,
        tasks: Iterable[object],
        *,
        max_workers: int | None = None,
        fail_fast: bool = True,
        tags: Mapping[str, str] | None = None,
        metadata: object = None,
        return_session: bool = False,
        **options: object,
    ) -> AsyncIterator[tuple[int, object]]:
        """Call the tactic for each task on the event loop; yields (index of the task, result) as
        they come. The arguments are those of `bcall`."""
        limit = asyncio.Semaphore(max_workers) if max_workers else nullcontext()

        async def one(index: int, task: object) -> tuple[int, object]:
            try:
                async with limit:
                    result = await self.acall(
                        task, tags=tags, metadata=metadata, return_session=return_session, **options
                    )
            except Exception as error:
                if fail_fast:
                    raise
                return index, error
            return index, result

        pending = [asyncio.ensure_future(one(i, task)) for i, task in enumerate(tasks)]
        try:
            for future in asyncio.as_completed(pending):
                yield await future
        finally:
            for future in pending:
                future.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    @classmethod
    def quick(
        cls,
        question: str,
        *,
        model: str,
        system_prompt: str = "",
        invoker: Invoker | str = "openai",
        log_store: LogStore | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """One agent, one answer.

        model: the model's name. invoker: how it is called.
        """
        agent = {
            "name": "assistant",
            "model_name": model,
            "system_prompt": system_prompt,
            "invoker": invoker,
        }
        tactic = _Quick({"agent_configs": [agent]}, log_store=log_store)
        tactic._warned = True  # who asks in one line knows whether there is a store
        return str(tactic(question, tags=tags))

    # -- one call

    def _scope(
        self,
        task: object,
        tags: Mapping[str, str] | None,
        metadata: object,
        return_session: bool,
    ) -> SessionScope:
        parent = self._parent or current.get()
        home = self._home(parent, return_session)
        if parent is not None and parent.home is not home and self._parent is None:
            parent = None  # a store of its own, so a tree of its own
        return SessionScope(
            home,
            tactic_path(type(self)),
            self.name,
            task=task,
            tags=tags,
            metadata=metadata,
            parent=parent,
        )

    def _home(self, parent: Parent | None, return_session: bool) -> Home:
        if self.log_store is not None:
            if return_session and not self.log_store.keeps:
                return Homeless(keep=True)
            return self.log_store
        if parent is not None and parent.home is not None:
            return parent.home
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"Tactic {self.name!r} has no log store, so its calls are not kept. Give it one: "
                f'{type(self).__name__}(config, log_store=sqlite_store("./runs.db")).',
                UserWarning,
                stacklevel=4,
            )
        return Homeless(keep=return_session)

    def _running(self, scope: SessionScope) -> Tactic:
        """The copy that one call runs on: agents of its own, sub-tactics bound to its session."""
        running = copy.copy(self)
        running._parent = scope
        running.agents = {
            name: Agent(config, scope.recorder) for name, config in self._agent_configs.items()
        }
        for attribute, value in vars(self).items():
            bound = _bound(value, scope)
            if bound is not value:
                setattr(running, attribute, bound)
        return running

    def _bound_to(self, parent: Parent) -> Tactic:
        bound = copy.copy(self)
        bound._parent = parent
        if bound.log_store is None or bound.log_store is parent.home:
            bound.log_store = None  # it writes where its parent does
        return bound


class _Quick(Tactic, register=False):
    name = "quick"

    def call(self, task: object, **_: object) -> object:
        agent = self.agents["assistant"]
        agent.open("main")
        agent.receive(str(task))
        return agent.respond().content


def _bound(value: object, parent: Parent) -> object:
    """A value with every tactic in it bound to a session, looking into lists, tuples and dicts."""
    if isinstance(value, Tactic):
        return value._bound_to(parent)
    if type(value) in (list, tuple):
        items = cast(Sequence[object], value)
        if any(isinstance(item, Tactic) for item in items):
            return type(items)(_bound(item, parent) for item in items)  # type: ignore[call-arg] # list or tuple
    if type(value) is dict:
        entries = cast(dict[object, object], value)
        if any(isinstance(item, Tactic) for item in entries.values()):
            return {key: _bound(item, parent) for key, item in entries.items()}
    return value


def _outcome(future: Future[object]) -> object:
    error = future.exception()
    return future.result() if error is None else error


def _session_of(scope: SessionScope) -> TacticCallSession:
    home = scope.home
    assert isinstance(home, _Finished)
    return home.finished(scope.recorder.session_id)


def build_tactic(
    config: Config | None = None,
    *,
    name: str,
    log_store: LogStore | None = None,
    runtime: Runtime | None = None,
) -> Tactic:
    """A tactic by its name, in any form: "analyzer", "my_project::analyzer", "alias:analyzer".

    Raises ConfigError where no registered tactic, or more than one, has that name.
    """
    cls = (runtime or default_runtime).find(name)
    if not issubclass(cls, Tactic):
        raise ConfigError(f"{name!r} names {cls!r}, which is no Tactic.")
    return cls(config, log_store=log_store)
