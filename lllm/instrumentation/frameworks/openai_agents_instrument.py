"""Switches the recording of the OpenAI Agents SDK on and off, in the whole process.

    lllm.instrument("openai-agents", log_store=store)

It adds a trace processor: https://openai.github.io/openai-agents-python/tracing/
"""

from __future__ import annotations

import importlib

from lllm.instrumentation.frameworks.framework_host import FrameworkHost
from lllm.instrumentation.frameworks.openai_agents_recorder import OpenAIAgentsRecorder
from lllm.store.log_store import LogStore


class OpenAIAgentsInstrument:
    """Records all runs of the OpenAI Agents SDK in this process.

    The SDK has no way to remove a processor, so it stays, and does nothing while it is off.

    Raises:
        ConfigError: openai-agents is not installed.
    """

    def __init__(self) -> None:
        self._host = FrameworkHost("openai-agents")
        tracing = importlib.import_module("agents.tracing")
        base: type[object] = tracing.TracingProcessor
        made = type("LllmProcessor", (OpenAIAgentsRecorder, base), {})
        tracing.add_trace_processor(made(self._host))

    def on(self, store: LogStore | None, provider: str | None) -> None:
        """Begin to record."""
        self._host.turn_on(store, provider)

    def off(self) -> None:
        """Stop recording; runs in progress are recorded to their end."""
        self._host.turn_off()
