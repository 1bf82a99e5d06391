"""Switches the recording of LangChain and LangGraph on and off, in the whole process.

    lllm.instrument("langchain", log_store=store)

It registers two callback handlers with LangChain: the recorder, and one that writes on event loops
what the recorder has staged. https://reference.langchain.com/python/langchain_core/callbacks/
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

from lllm.events.errors import BudgetExceeded, LogError
from lllm.instrumentation.frameworks.framework_host import FrameworkHost
from lllm.instrumentation.frameworks.langchain_recorder import LangChainRecorder
from lllm.instrumentation.recording_errors import isolate_recording_errors
from lllm.store.log_store import LogStore

H = TypeVar("H")


class LangChainCommitter:
    """The callback handler that writes, on an event loop, what a LangChainRecorder has staged.

    LangChain awaits its coroutines before it goes on, and after the recorder was called.

    Args:
        recorder: The recorder.
    """

    run_inline = False

    def __init__(self, recorder: LangChainRecorder) -> None:
        self._recorder = recorder

    async def _write(self, *_: object, run_id: object, **__: object) -> None:
        unwritten = self._recorder.unwritten.pop(run_id, None)
        if unwritten is not None:
            failing = unwritten.ended is not None and unwritten.ended.error is not None
            with isolate_recording_errors(unwritten.session.scope, failing=failing):
                await unwritten.awrite()

    on_chain_start = on_chain_end = on_chain_error = _write
    on_chat_model_start = on_llm_start = on_llm_end = on_llm_error = _write
    on_tool_start = on_tool_end = on_tool_error = _write


class LangChainInstrument:
    """Records all runs of LangChain in this process.

    The two handlers are registered once, and stay registered; they do nothing while it is off.

    Raises:
        ConfigError: langchain-core is not installed.
    """

    def __init__(self) -> None:
        self._host = FrameworkHost("langchain")
        recorder = _handler(LangChainRecorder, lambda: not self._host.is_on, self._host)
        committer = _handler(LangChainCommitter, lambda: not recorder.unwritten, recorder)
        # A default is seen in every context, also in threads that begin with an empty one.
        self._variables = (
            ContextVar("lllm_langchain", default=recorder),
            ContextVar("lllm_langchain_writes", default=committer),
        )
        hooks = importlib.import_module("langchain_core.tracers.context")
        for variable in self._variables:
            hooks.register_configure_hook(variable, True)

    def on(self, store: LogStore | None, provider: str | None) -> None:
        """Begin to record."""
        self._host.turn_on(store, provider)

    def off(self) -> None:
        """Stop recording; runs in progress are recorded to their end."""
        self._host.turn_off()


def _handler(kind: type[H], is_idle: Callable[[], bool], given: object) -> H:
    """Make a handler of LangChain's own class, which knows the callbacks that lllm does not use.

    is_idle: True while LangChain need not call the handler.
    given: The argument of the handler.
    """
    base = importlib.import_module("langchain_core.callbacks.base").BaseCallbackHandler
    idle = property(lambda _: is_idle())
    some = dict.fromkeys(("ignore_agent", "ignore_chain", "ignore_chat_model", "ignore_llm"), idle)
    never = dict.fromkeys(("ignore_custom_event", "ignore_retriever", "ignore_retry"), True)
    raises = {"raise_error": property(lambda _: _is_wanted(sys.exc_info()[1]))}
    made: Callable[[object], H] = type(kind.__name__, (kind, base), {**some, **never, **raises})
    return made(given)


def _is_wanted(error: BaseException | None) -> bool:
    """True if an error that a handler has raised is for the caller; LangChain logs all others."""
    return isinstance(error, BudgetExceeded | LogError)
