"""Switches on and off changes that lllm makes to Python or to libraries, process-wide."""

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
    """Switch on a process-wide change, by which lllm records more: `instrument("threads")`.

    "threads" has every thread that is started, and all work that is submitted to a
    ThreadPoolExecutor, run in the session that is running there and then, and spend of its budget.
    It is for threads that a library starts; for one's own, `store.carry` and Executor change
    nothing of others. Instrumenting twice does nothing more. `uninstrument` undoes it.

    Args:
        *names: What to change; "threads" is what there is.

    Raises:
        ConfigError: For a name that is not known, or none at all; nothing is changed then.
    """
    for one in _instruments_of(names):
        one.on()


def uninstrument(*names: str) -> None:
    """Undo `instrument`; does nothing if it was not called.

    Threads and work that have begun go on in their session.

    Args:
        *names: What to undo.

    Raises:
        ConfigError: For a name that is not known, or none at all; nothing is changed then.
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
