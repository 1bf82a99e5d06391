"""Imports the code that sessions are replayed with, and calls it as it was recorded."""

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
    """Wraps the tactic, or function under `@store.tactic`, with which sessions are replayed.

    Args:
        code: The tactic or function.
        name: The name that the user gave for the code, for messages.

    Raises:
        ConfigError: `code` is neither a tactic nor a function.
    """

    def __init__(self, code: object, name: str) -> None:
        if not isinstance(code, Tactic) and not callable(code):
            raise ConfigError(
                f"{name} gives a tactic, or a function under @store.tactic; {code!r} is neither."
            )
        self._code = code

    @property
    def tactic_path(self) -> str | None:
        """The stable path of the tactic whose sessions it can replay; None for a plain function."""
        if isinstance(self._code, Tactic):
            return tactic_path(type(self._code))
        decorated = decorated_tactic(self._code)
        return None if decorated is None else decorated.path

    @property
    def own_host(self) -> SessionHost | None:
        """The store of the code, whose `redact` was applied to recordings; None without a store."""
        if isinstance(self._code, Tactic):
            store = self._code.log_store
            return None if store is None else session_host(store)
        decorated = decorated_tactic(self._code)
        return None if decorated is None else decorated.host

    def recorded_call(self, recording: RecordedSession) -> Callable[[], object]:
        """Prepare the call that a recorded session began with.

        Args:
            recording: The recorded session, which has the task and the options of the call.

        Returns:
            A function that makes the call. It returns a coroutine or generator if the code is one.

        Raises:
            ReplayError: The session is a call of another tactic, or its task can't be restored.
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
        """Call the code inside a replay, as in the recorded session, and run it to its end.

        Args:
            replay: The replay of the session, whose `with` block is not entered yet.

        Raises:
            ReplayError: The session is a call of another tactic, or its task can't be restored.
            ReplayDivergence: The code does something else than in the recording.
            ReplayInterrupted: The recording ends before the code does.
        """
        call = self.recorded_call(replay.recording)
        with replay:
            _exhaust(call())


def decorated_tactic(function: object) -> DecoratedTactic | None:
    """Find the tactic that `@store.tactic` made of a function; None if it made none.

    Args:
        function: Any object. Further decorators around the function are fine if they use
            functools.wraps.
    """
    found = getattr(function, DECORATED, None)
    return found if isinstance(found, DecoratedTactic) else None


def _exhaust(result: object) -> None:
    """Run a coroutine or generator to its end; do nothing for other results."""
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
        name: The module and the name in it, such as "my_module:make_tactic". A tactic, or a
            function under `@store.tactic`, is used directly. A class or another callable is called
            without arguments, and must return a tactic or function.

    Returns:
        The imported code, ready to be called in replays.

    Raises:
        ConfigError: There is no such module or name, the import fails, or the result is neither a
            tactic nor a function. An error that the user's code raised is the cause.
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
    except BaseException as error:  # the user's code may raise anything, even SystemExit
        where = _last_line(error)
        raise ConfigError(
            f"{name} can't be used: {type(error).__name__}: {error}{where}"
        ) from error


def _last_line(error: BaseException) -> str:
    """Name the file and line in the user's code at which an error was raised, for a message."""
    frame = error.__traceback__
    ours = (sys.modules[__name__].__file__, importlib.__file__)
    found = ""
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if file not in ours and not file.startswith("<"):
            found = f" ({file}, line {frame.tb_lineno})"
        frame = frame.tb_next
    return found
