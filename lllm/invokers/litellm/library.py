"""Imports LiteLLM when it is first needed, and resets its connections after loops and forks.

Importing LiteLLM takes seconds, and by default downloads a price list that lllm does not use. It
caches connections process-wide, those of an event loop by the loop's id (`LLMClientCache` in its
caching/llm_caching_handler.py). A later loop may get the same id, and with it the connections of a
closed loop. So lllm closes them together with their loop.
"""

from __future__ import annotations

import asyncio
import os
import sys
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from inspect import isawaitable
from typing import Protocol, cast

from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.late_imports import importing

_NAME = "litellm"

_called_by_agent: ContextVar[bool] = ContextVar("lllm_litellm_agent", default=False)
_WORKER = "litellm.litellm_core_utils.logging_worker"


class Library(Protocol):
    """The functions of the LiteLLM package that lllm uses.

    Their results are typed as `object`, because their classes may change with the next version.
    """

    suppress_debug_info: bool

    completion: Callable[..., object]
    acompletion: Callable[..., Awaitable[object]]
    stream_chunk_builder: Callable[..., object]


def is_loaded() -> bool:
    """True if `library` returns without importing anything."""
    return library.cache_info().currsize > 0


@contextmanager
def calls_of_agent() -> Iterator[None]:
    """A `with` in which an agent of lllm calls LiteLLM, and records the call itself."""
    token = _called_by_agent.set(True)
    try:
        yield
    finally:
        _called_by_agent.reset(token)


def is_called_by_agent() -> bool:
    """True if an agent of lllm makes the call, which it records itself."""
    return _called_by_agent.get()


@cache
def library() -> Library:
    """Get the LiteLLM package, importing it if needed."""
    if _NAME not in sys.modules:
        # otherwise it uses the network
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    with importing():
        found = cast(Library, import_module(_NAME))
    found.suppress_debug_info = True  # otherwise it prints to stdout whenever a call fails
    register_after_fork(_connections)
    return found


async def on_loop() -> Library:
    """Get the package for the running event loop; its connections are closed with the loop."""
    found = library() if is_loaded() else await asyncio.to_thread(library)
    await _connections.close_with(asyncio.get_running_loop())
    return found


class _Connections:
    """The HTTP clients that LiteLLM caches."""

    def __init__(self) -> None:
        self._closers: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, AsyncGenerator[None, None]
        ] = weakref.WeakKeyDictionary()
        self._inherited: list[object] = []

    async def close_with(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the clients of a running loop when it ends.

        An async generator is left open on purpose: asyncio.run closes open async generators before
        it closes its loop (`loop.shutdown_asyncgens`).
        """
        if loop not in self._closers:
            self._closers[loop] = closer = _until_closed(weakref.ref(loop), id(loop))
            await anext(closer)

    def after_fork(self) -> None:
        """Make the child use new clients, because two processes can't share a connection.

        The parent's clients are kept open, because their connections belong to the parent.
        """
        self._closers = weakref.WeakKeyDictionary()
        self._inherited.append(dict(_clients()))
        _clients().clear()
        attributes = vars(sys.modules[_NAME])
        # LiteLLM makes these again when they are needed
        for name in ("module_level_client", "module_level_aclient"):
            self._inherited.append(attributes.pop(name, None))


_connections = _Connections()


def _clients() -> dict[object, object]:
    kept = getattr(sys.modules[_NAME], "in_memory_llm_clients_cache", None)
    found = getattr(kept, "cache_dict", None)
    return found if isinstance(found, dict) else {}


async def _until_closed(
    loop: weakref.ref[asyncio.AbstractEventLoop], loop_id: int
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        with suppress(Exception):  # callbacks of the user's, which run after a call
            await import_module(_WORKER).GLOBAL_LOGGING_WORKER.clear_queue()
        shared = [*_clients().values(), vars(sys.modules[_NAME]).get("module_level_aclient")]
        for client in shared:  # these belong to no loop, and open a session for each
            session = _inside(client, "client", "_transport", "client")
            if session is not None and getattr(session, "_loop", None) is loop():
                await _close(session)
        for key in [key for key in _clients() if str(key).endswith(f"-{loop_id}")]:
            await _close(_clients().pop(key, None))


def _inside(thing: object, *names: str) -> object:
    for name in names:
        thing = getattr(thing, name, None)
    return thing


async def _close(client: object) -> None:
    close = getattr(client, "aclose", None) or getattr(client, "close", None)
    with suppress(Exception):  # the client is not needed any more
        closing = close() if callable(close) else None
        if isawaitable(closing):
            await closing


def keys() -> list[str]:
    """List the credentials that LiteLLM may send, from the environment and its settings.

    Each provider has its own variables (https://docs.litellm.ai/docs/providers), so they are
    recognised by their names: any that contains key, token, secret or password.
    """
    attributes = vars(sys.modules[_NAME]) if _NAME in sys.modules else {}
    settings = {name: value for name, value in list(attributes.items()) if name.islower()}
    return [*_secret(os.environ), *_secret(settings)]


def _secret(named: Mapping[str, object]) -> list[str]:
    endings = ("_key", "_token", "_secret", "_password", "_credentials")
    return [
        value
        for name, value in list(named.items())
        if isinstance(value, str) and name.lower().endswith(endings)
    ]
