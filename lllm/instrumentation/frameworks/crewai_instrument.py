"""Switches the recording of CrewAI on and off, in the whole process.

    lllm.instrument("crewai", log_store=store)

CrewAI's event bus calls its handlers from threads, in any order, and some after the crew has
returned: https://docs.crewai.com/en/concepts/event-listener. There a captured client could not be
told which call it makes, and no event would be written before its model is called. So the method
`emit` of the bus, to which every event is given, is replaced by one that records first.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import update_wrapper
from typing import Protocol

from lllm.instrumentation.frameworks.crewai_recorder import CrewAIRecorder, CrewEvent
from lllm.instrumentation.frameworks.framework_host import FrameworkHost
from lllm.store.log_store import LogStore


class _Bus(Protocol):
    emit: Callable[[object, CrewEvent], object]


class CrewAIInstrument:
    """Records all crews, flows and agents of CrewAI in this process.

    Raises:
        ConfigError: crewai is not installed.
    """

    def __init__(self) -> None:
        self._host = FrameworkHost("crewai")
        self._recorder = CrewAIRecorder(self._host)
        self._bus: _Bus = importlib.import_module("crewai.events.event_bus").crewai_event_bus
        self._original = self._bus.emit
        self._wrapped: Callable[[object, CrewEvent], object] | None = None

    def on(self, store: LogStore | None, provider: str | None) -> None:
        """Begin to record."""
        self._host.turn_on(store, provider)
        if self._wrapped is None:
            self._original = self._bus.emit
            self._wrapped = self._recording(self._original)
            self._bus.emit = self._wrapped

    def off(self) -> None:
        """Stop recording; crews in progress are recorded to their end."""
        self._host.turn_off()
        self._restore()

    def _restore(self) -> None:
        """Restore the method once nothing that is recorded is in progress."""
        # If another library has wrapped the method since, it stays, and records nothing.
        if self._recorder.is_idle and self._wrapped is not None and self._bus.emit is self._wrapped:
            self._bus.emit = self._original
            self._wrapped = None

    def _recording(
        self, original: Callable[[object, CrewEvent], object]
    ) -> Callable[[object, CrewEvent], object]:
        def emit(source: object, event: CrewEvent) -> object:
            result = original(source, event)  # which gives the event its place in the tree
            self._recorder.take(source, event)
            if not self._host.is_on:
                self._restore()
            return result

        update_wrapper(emit, original)
        return emit
