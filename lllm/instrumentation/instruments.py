"""Switches the recording of frameworks, and process-wide changes to Python, on and off."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import ConfigError

if TYPE_CHECKING:
    from lllm.store.log_store import LogStore


class Instrument(Protocol):
    """Something that can be switched on for the whole process; doing it twice does nothing."""

    def on(self, store: LogStore | None, provider: str | None) -> None:
        """Switch it on.

        Args:
            store: The store for what happens outside of any session; None for none.
            provider: The provider that bills calls to unknown addresses; None if it is not known.
        """

    def off(self) -> None:
        """Switch it off."""


def _threads() -> Instrument:
    from lllm.sessions.threads import ThreadsInstrument

    return ThreadsInstrument()


def _crewai() -> Instrument:
    from lllm.instrumentation.frameworks.crewai_instrument import CrewAIInstrument

    return CrewAIInstrument()


def _dspy() -> Instrument:
    from lllm.instrumentation.frameworks.dspy_instrument import DSPyInstrument

    return DSPyInstrument()


def _langchain() -> Instrument:
    from lllm.instrumentation.frameworks.langchain_instrument import LangChainInstrument

    return LangChainInstrument()


def _litellm() -> Instrument:
    from lllm.instrumentation.frameworks.litellm_instrument import LiteLLMInstrument

    return LiteLLMInstrument()


def _mcp() -> Instrument:
    from lllm.instrumentation.frameworks.mcp_instrument import MCPInstrument

    return MCPInstrument()


def _openai_agents() -> Instrument:
    from lllm.instrumentation.frameworks.openai_agents_instrument import OpenAIAgentsInstrument

    return OpenAIAgentsInstrument()


def _pydantic_ai() -> Instrument:
    from lllm.instrumentation.frameworks.pydantic_ai_instrument import PydanticAIInstrument

    return PydanticAIInstrument()


_KNOWN: dict[str, Callable[[], Instrument]] = {
    "crewai": _crewai,
    "dspy": _dspy,
    "langchain": _langchain,
    "litellm": _litellm,
    "mcp": _mcp,
    "openai-agents": _openai_agents,
    "pydantic-ai": _pydantic_ai,
    "threads": _threads,
}
# The package of each framework.
_FRAMEWORKS = {
    "crewai": "crewai",
    "dspy": "dspy",
    "langchain": "langchain-core",
    "litellm": "litellm",
    "mcp": "mcp",
    "openai-agents": "openai-agents",
    "pydantic-ai": "pydantic-ai-slim",
}
_made: dict[str, Instrument] = {}
_making = ThreadLock()


class Instrumented:
    """What `instrument` has switched on; a `with` block switches it off at its end.

    Args:
        names: The names of what was switched on.

    Attributes:
        names: The names of what was switched on.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def uninstrument(self) -> None:
        """Switch it off again."""
        uninstrument(*self.names)

    def __enter__(self) -> Instrumented:
        return self

    def __exit__(self, *_: object) -> None:
        self.uninstrument()

    def __repr__(self) -> str:
        return f"Instrumented({', '.join(map(repr, self.names))})"


def instrument(
    *names: str, log_store: LogStore | None = None, provider: str | None = None
) -> Instrumented:
    """Record the runs of a framework, in the whole process: `instrument("langchain")`.

    "langchain" records the runs of LangChain and LangGraph: each outermost run is a session, with
    its agents, model calls and tools. Where a model's client is captured, too, each call is
    recorded once, with the retries of the SDK, which a framework does not tell.

    "crewai" records the crews, flows and agents of CrewAI: each is a session, with one below for
    each task.

    "dspy" records the programs of DSPy: each outermost module is a session, with the modules,
    model calls and tools inside. Use it after `dspy.configure(callbacks=...)`.

    "litellm" records the calls of LiteLLM: each is a call of the session around it, or a session of
    its own.

    "openai-agents" records those of the OpenAI Agents SDK: each trace is a session, with its
    agents, handoffs, model calls and tools. "pydantic-ai" records those of Pydantic AI: each run of
    an agent is a session. "mcp" records calls of MCP's tools: those of clients as tool calls of the
    current session, those that servers answer as sessions; instrument before servers are made.

    "threads" is no framework: each new thread, and all work submitted to a ThreadPoolExecutor, runs
    in the session of the code that started it, and counts in its budget. Use it for threads that a
    library starts. For your own threads, `store.carry` and `Executor` do the same without changing
    anything for others.

    A second call replaces the store and the provider of the first.

    Args:
        *names: What to switch on: "crewai", "dspy", "langchain", "litellm", "mcp",
            "openai-agents", "pydantic-ai", "threads". No name means all
            frameworks that are installed.
        log_store: The store for runs outside of any session. None leaves these unrecorded; lllm
            warns of that once.
        provider: The provider that bills calls to unknown addresses, by its name in genai-prices.
            None means the value of LLLM_PROVIDER; if that is not set either, these calls are
            unpriced.

    Returns:
        An object that switches it off, with `uninstrument()` or at the end of a `with` block.

    Raises:
        ConfigError: A name is unknown, or the framework is not installed; nothing is changed then.
    """
    named = names or tuple(name for name in _FRAMEWORKS if _is_installed(name))
    for one in _instruments_of(named):
        one.on(log_store, provider)
    return Instrumented(named)


def uninstrument(*names: str) -> None:
    """Undo `instrument`; does nothing if it was not called.

    Threads and work that have started already stay in their session, and runs in progress are
    recorded to their end.

    Args:
        *names: The names of what to switch off; no name means all that is on.

    Raises:
        ConfigError: A name is unknown; nothing is changed then.
    """
    _check(names)
    with _making.held():
        found = [_made[name] for name in names or _KNOWN if name in _made]
    for one in found:
        one.off()


def _is_installed(name: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        version(_FRAMEWORKS[name])
    except PackageNotFoundError:
        return False
    return True


def _check(names: tuple[str, ...]) -> None:
    known = ", ".join(f'"{name}"' for name in _KNOWN)
    wrong = next((name for name in names if name not in _KNOWN), None)
    if wrong is not None:
        raise ConfigError(f"There is no instrument {wrong!r}; there is {known}.")


def _instruments_of(names: tuple[str, ...]) -> list[Instrument]:
    _check(names)
    if not names:
        frameworks = ", ".join(f'"{name}"' for name in _FRAMEWORKS)
        raise ConfigError(f"None of the frameworks that lllm records is installed: {frameworks}.")
    missing = next(
        (name for name in names if name in _FRAMEWORKS and not _is_installed(name)), None
    )
    if missing is not None:
        raise ConfigError(f"{missing!r} is not installed: pip install {_FRAMEWORKS[missing]}.")
    with _making.held():
        for name in names:
            if name not in _made:
                _made[name] = _KNOWN[name]()
        return [_made[name] for name in names]
