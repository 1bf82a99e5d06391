"""Switches the recording of LiteLLM on and off, in the whole process.

    lllm.instrument("litellm", log_store=store)

It adds a custom logger: https://docs.litellm.ai/docs/observability/custom_callback
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol, cast

from lllm.instrumentation.frameworks.framework_host import FrameworkHost
from lllm.instrumentation.frameworks.litellm_recorder import LiteLLMRecorder
from lllm.store.log_store import LogStore

# LiteLLM copies `litellm.callbacks` to the other lists when a call begins.
_LISTS = (
    "callbacks", "input_callback", "success_callback", "failure_callback",
    "_async_input_callback", "_async_success_callback", "_async_failure_callback",
)  # fmt: skip


class _CallbackManager(Protocol):
    add_litellm_callback: Callable[[object], None]
    remove_callback_from_list_by_object: Callable[..., None]


class LiteLLMInstrument:
    """Records all calls of LiteLLM in this process.

    Raises:
        ConfigError: litellm is not installed.
    """

    def __init__(self) -> None:
        self._host = FrameworkHost("litellm")
        self._library = importlib.import_module("litellm")
        base: type[object] = importlib.import_module(
            "litellm.integrations.custom_logger"
        ).CustomLogger
        made = type("LllmLogger", (LiteLLMRecorder, base), {})
        self._logger: LiteLLMRecorder = made(self._host)

    @property
    def _manager(self) -> _CallbackManager:
        return cast(_CallbackManager, self._library.logging_callback_manager)

    def on(self, store: LogStore | None, provider: str | None) -> None:
        """Begin to record."""
        self._host.turn_on(store, provider)
        self._manager.add_litellm_callback(self._logger)

    def off(self) -> None:
        """Stop recording; calls in progress are recorded to their end."""
        self._host.turn_off()
        self._logger.wait()
        for name in _LISTS:
            found = getattr(self._library, name, None)
            self._manager.remove_callback_from_list_by_object(
                found, self._logger, require_self=False
            )
