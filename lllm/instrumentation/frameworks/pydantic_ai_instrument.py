"""Switches the recording of Pydantic AI on and off, in the whole process.

    lllm.instrument("pydantic-ai", log_store=store)

A capability records a run. Pydantic AI takes capabilities for an agent or for a run, and has no way
to add one to all of them. So `Agent.iter`, through which every run goes, is given one more.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Protocol

from lllm.instrumentation.frameworks.framework_host import FrameworkHost
from lllm.instrumentation.frameworks.pydantic_ai_recorder import PydanticAIRecorder
from lllm.store.log_store import LogStore


class _AgentClass(Protocol):
    iter: Callable[..., object]


class PydanticAIInstrument:
    """Records all runs of Pydantic AI in this process.

    Raises:
        ConfigError: pydantic-ai-slim is not installed.
    """

    def __init__(self) -> None:
        self._host = FrameworkHost("pydantic-ai")
        capabilities = importlib.import_module("pydantic_ai.capabilities")
        base: type[object] = capabilities.AbstractCapability
        self._recorder_class = type("LllmCapability", (PydanticAIRecorder, base), {})
        messages = importlib.import_module("pydantic_ai.messages")
        self._tool_return: type[object] = messages.ToolReturnPart
        self._agent: _AgentClass = importlib.import_module("pydantic_ai").Agent
        self._wrapped: Callable[..., object] | None = None
        self._original = self._agent.iter

    def on(self, store: LogStore | None, provider: str | None) -> None:
        """Begin to record."""
        self._host.turn_on(store, provider)
        if self._wrapped is None:
            self._original = self._agent.iter
            self._wrapped = self._with_recorder(self._original)
            self._agent.iter = self._wrapped

    def off(self) -> None:
        """Stop recording; runs in progress are recorded to their end."""
        self._host.turn_off()
        # If another library has wrapped the method since, it stays, and records nothing.
        if self._wrapped is not None and self._agent.iter is self._wrapped:
            self._agent.iter = self._original
            self._wrapped = None

    def _with_recorder(self, original: Callable[..., object]) -> Callable[..., object]:
        def iter_recorded(
            agent: object,
            *args: object,
            capabilities: Sequence[object] | None = None,
            **options: object,
        ) -> object:
            if self._host.is_on:
                recorder = self._recorder_class(self._host, self._tool_return)
                capabilities = [*(capabilities or ()), recorder]
            return original(agent, *args, capabilities=capabilities, **options)

        update_wrapper(iter_recorded, original)
        return iter_recorded
