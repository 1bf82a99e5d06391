"""Switches the recording of DSPy on and off, in the whole process.

    lllm.instrument("dspy", log_store=store)

It adds a callback to DSPy's settings: https://dspy.ai/tutorials/observability/. DSPy's threads
(`dspy.Parallel`, `dspy.Evaluate`, `Module.batch`) begin without the context of the program, and no
hook sees that. So `ParallelExecutor.execute`, which starts them, is given functions that carry the
session along.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextvars import ContextVar
from functools import update_wrapper
from typing import Protocol, cast

from lllm.instrumentation.frameworks.dspy_recorder import DSPyRecorder
from lllm.instrumentation.frameworks.framework_host import FrameworkHost
from lllm.store.log_store import LogStore


class _ExecutorClass(Protocol):
    execute: Callable[..., object]


class DSPyInstrument:
    """Records all programs of DSPy in this process.

    Raises:
        ConfigError: dspy is not installed.
    """

    def __init__(self) -> None:
        self._host = FrameworkHost("dspy")
        callbacks = importlib.import_module("dspy.utils.callback")
        base: type[object] = callbacks.BaseCallback
        active = cast("ContextVar[str | None]", callbacks.ACTIVE_CALL_ID)
        made = type("LllmCallback", (DSPyRecorder, base), {})
        self._recorder: DSPyRecorder = made(self._host, active)
        # Changed without `configure`, which lets only the thread that called it first change it.
        self._settings: dict[str, object] = importlib.import_module(
            "dspy.dsp.utils.settings"
        ).main_thread_config
        self._executor: _ExecutorClass = importlib.import_module(
            "dspy.utils.parallelizer"
        ).ParallelExecutor
        self._original = self._executor.execute
        self._wrapped: Callable[..., object] | None = None

    def on(self, store: LogStore | None, provider: str | None) -> None:
        """Begin to record."""
        self._host.turn_on(store, provider)
        self._set(recorded=True)
        if self._wrapped is None:
            self._original = self._executor.execute
            self._wrapped = self._carrying(self._original)
            self._executor.execute = self._wrapped

    def off(self) -> None:
        """Stop recording; programs in progress are recorded to their end."""
        self._host.turn_off()
        self._set(recorded=False)
        # If another library has wrapped the method since, it stays, and carries nothing.
        if self._wrapped is not None and self._executor.execute is self._wrapped:
            self._executor.execute = self._original
            self._wrapped = None

    def _set(self, *, recorded: bool) -> None:
        found = self._settings.get("callbacks")
        others = (
            [one for one in found if one is not self._recorder] if isinstance(found, list) else []
        )
        self._settings["callbacks"] = [*others, self._recorder] if recorded else others

    def _carrying(self, original: Callable[..., object]) -> Callable[..., object]:
        def execute(executor: object, function: Callable[..., object], data: object) -> object:
            carried = self._recorder.carry(function) if self._host.is_on else function
            return original(executor, carried, data)

        update_wrapper(execute, original)
        return execute
