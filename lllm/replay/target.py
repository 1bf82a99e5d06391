"""The code that recorded sessions run through: named as `module:name`, called as it was then."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import cast

from lllm.agents.tactic import Tactic
from lllm.events.errors import ConfigError
from lllm.packages.registry import tactic_path
from lllm.replay.open_replay import recorded_call, recorded_options, recorded_task
from lllm.replay.recorded_session import RecordedSession
from lllm.replay.replay import Replay
from lllm.sessions.decorator import DECORATED, DecoratedTactic
from lllm.sessions.host import SessionHost
from lllm.store.log_store import session_host


class ReplayTarget:
    """A tactic, or a function under `@store.tactic`, that recorded sessions are replayed with.

    Args:
        code: The tactic or function.
        name: How it was named, for messages.

    Raises:
        ConfigError: It is neither.
    """

    def __init__(self, code: object, name: str) -> None:
        if not isinstance(code, Tactic) and not callable(code):
            raise ConfigError(
                f"{name} gives a tactic, or a function under @store.tactic; {code!r} is neither."
            )
        self._code = code

    @property
    def tactic_path(self) -> str | None:
        """The stable path whose sessions it can replay; None for a function without one."""
        if isinstance(self._code, Tactic):
            return tactic_path(type(self._code))
        decorated = decorated_tactic(self._code)
        return None if decorated is None else decorated.path

    @property
    def own_host(self) -> SessionHost | None:
        """Its own store, whose `redact` recorded requests passed; None where it has none."""
        if isinstance(self._code, Tactic):
            store = self._code.log_store
            return None if store is None else session_host(store)
        decorated = decorated_tactic(self._code)
        return None if decorated is None else decorated.host

    def recorded_call(self, recording: RecordedSession) -> Callable[[], object]:
        """Make the call that a recorded session is of.

        Args:
            recording: The session.

        Returns:
            A function that makes it; what it returns is a coroutine or generator where the code is.

        Raises:
            ReplayError: The session is of another tactic, or its task can't be made again.
        """
        if isinstance(self._code, Tactic):
            return recorded_call(self._code, tactic_path(type(self._code)), recording)
        function = cast("Callable[..., object]", self._code)
        signature = inspect.signature(function)
        options = recorded_options(recording)
        arguments = dict(options) if isinstance(options, Mapping) else {}
        first = next(iter(signature.parameters), None)
        if first is not None and first not in arguments:
            arguments[first] = recorded_task(function, recording)
        given = signature.bind_partial()
        given.arguments.update(
            {name: arguments[name] for name in signature.parameters if name in arguments}
        )
        return partial(function, *given.args, **given.kwargs)

    def replay(self, replay: Replay) -> None:
        """Call it as it was called in a recorded session, to its end.

        Args:
            replay: Of the session, not entered yet.

        Raises:
            ReplayError: The session is of another tactic, or its task can't be made again.
            ReplayDivergence: The code does something else than it did.
            ReplayInterrupted: The recording ends before the code does.
        """
        call = self.recorded_call(replay.recording)
        with replay:
            _exhaust(call())


def decorated_tactic(function: object) -> DecoratedTactic | None:
    """What a function under `@store.tactic` is known by; None for anything else.

    Args:
        function: It, also under other decorators that use functools.wraps.
    """
    found = getattr(function, DECORATED, None)
    return found if isinstance(found, DecoratedTactic) else None


def _exhaust(result: object) -> None:
    """Have a coroutine or generator run to its end."""
    if inspect.isawaitable(result):
        awaited = result

        async def wait() -> None:
            await awaited

        asyncio.run(wait())
    elif isinstance(result, AsyncIterator):
        steps = result

        async def step() -> None:
            async for _ in steps:
                pass

        asyncio.run(step())
    elif inspect.isgenerator(result):
        for _ in cast("Iterator[object]", result):
            pass


def load_target(name: str) -> ReplayTarget:
    """Import the code that sessions are replayed with.

    Args:
        name: As "my_module:make_tactic". A class or another callable is called without arguments
            and gives the tactic or function; a tactic, or a function under `@store.tactic`, is
            taken as it is.

    Returns:
        The code.

    Raises:
        ConfigError: There is no such module or name, it can't be imported, or it gives neither a
            tactic nor a function. Whatever the user's code raised is the cause.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ConfigError(f"--using names the code as my_module:make_tactic; {name!r} does not.")
    try:
        found: object = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        ready = isinstance(found, Tactic) or decorated_tactic(found) is not None
        if callable(found) and not ready:
            found = found()
        return ReplayTarget(found, name)
    except (KeyboardInterrupt, ConfigError):
        raise
    except BaseException as error:  # of code of the user's, which may even end the process
        where = _last_line(error)
        raise ConfigError(
            f"{name} can't be used: {type(error).__name__}: {error}{where}"
        ) from error


def _last_line(error: BaseException) -> str:
    """Where in the user's code an error was raised, for one line of a message."""
    frame = error.__traceback__
    ours = (sys.modules[__name__].__file__, importlib.__file__)
    found = ""
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if file not in ours and not file.startswith("<"):
            found = f" ({file}, line {frame.tb_lineno})"
        frame = frame.tb_next
    return found
