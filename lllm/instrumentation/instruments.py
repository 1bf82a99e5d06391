"""Switches process-wide changes to Python or to libraries on and off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import ConfigError


class Instrument(Protocol):
    """A process-wide change; switching it on or off twice does nothing."""

    def on(self) -> None:
        """Switch it on."""

    def off(self) -> None:
        """Switch it off."""


def _threads() -> Instrument:
    from lllm.sessions.threads import ThreadsInstrument

    return ThreadsInstrument()


_KNOWN: dict[str, Callable[[], Instrument]] = {"threads": _threads}
_made: dict[str, Instrument] = {}
_making = ThreadLock()


def instrument(*names: str) -> None:
    """Switch on a process-wide change that lets lllm record more: `instrument("threads")`.

    With "threads", each new thread, and all work submitted to a ThreadPoolExecutor, runs in the
    session of the code that started it, and counts in its budget. Use it for threads that a library
    starts. For your own threads, `store.carry` and `Executor` do the same without changing anything
    for others. A second call does nothing. `uninstrument` undoes it.

    Args:
        *names: The names of the changes; "threads" is the only one.

    Raises:
        ConfigError: A name is unknown, or none is given; nothing is changed then.
    """
    for one in _instruments_of(names):
        one.on()


def uninstrument(*names: str) -> None:
    """Undo `instrument`; does nothing if it was not called.

    Threads and work that have started already stay in their session.

    Args:
        *names: The names of the changes to undo.

    Raises:
        ConfigError: A name is unknown, or none is given; nothing is changed then.
    """
    for one in _instruments_of(names):
        one.off()


def _instruments_of(names: tuple[str, ...]) -> list[Instrument]:
    known = ", ".join(f'"{name}"' for name in _KNOWN)
    wrong = next((name for name in names if name not in _KNOWN), None)
    if not names:
        raise ConfigError(f"Say what to instrument: {known}.")
    if wrong is not None:
        raise ConfigError(f"There is no instrument {wrong!r}; there is {known}.")
    with _making.held():
        for name in names:
            if name not in _made:
                _made[name] = _KNOWN[name]()
        return [_made[name] for name in names]
