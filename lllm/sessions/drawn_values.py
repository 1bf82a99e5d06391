"""Draws times, ids and random numbers that are recorded, so that a replay gives the same ones.

Code that reads the clock or draws random numbers makes other requests in each run. Values drawn
here are recorded, and a replay of the session returns the recorded values.
"""

from __future__ import annotations

import datetime as dt
import random as _random
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from lllm.events.errors import ReplayError, SessionEnded, WrongProcess
from lllm.events.model import DrawnKind, ValueDrawn
from lllm.sessions.current_session import running

T = TypeVar("T", dt.datetime, uuid.UUID, float)

_AT_ONCE = 1_000  # values of one session that an event loop may hold back before they are written


def now() -> dt.datetime:
    """Read the clock; a replay of the session gives the recorded time.

    Returns:
        The time in UTC, to the microsecond. It is recorded only inside a session.

    Raises:
        ReplayDivergence: The code draws more values than the recording has.
        ReplayInterrupted: The recording ends before this call.
    """
    return _draw("now", lambda: dt.datetime.now(dt.UTC), dt.datetime.isoformat, _as_time)


def uuid4() -> uuid.UUID:
    """Make a random id; a replay of the session gives the recorded one.

    Returns:
        An id as from `uuid.uuid4`. It is recorded only inside a session.

    Raises:
        ReplayDivergence: The code draws more values than the recording has.
        ReplayInterrupted: The recording ends before this call.
    """
    return _draw("uuid4", uuid.uuid4, str, lambda text: uuid.UUID(str(text)))


def random() -> float:
    """Draw a random number; a replay of the session gives the recorded one.

    For more than one number, seed a generator of your own: `random.Random(lllm.random())`.

    Returns:
        A number from 0.0 up to, but not including, 1.0, as from `random.random`. It is recorded
        only inside a session.

    Raises:
        ReplayDivergence: The code draws more values than the recording has.
        ReplayInterrupted: The recording ends before this call.
    """
    return _draw("random", _random.random, float, float)


def _draw(
    kind: DrawnKind,
    make: Callable[[], T],
    write: Callable[[T], str | float],
    read: Callable[[str | float], T],
) -> T:
    scope, tool = running()
    if scope is None or not scope.recorder.is_open:
        return make()
    recorder, replaying = scope.recorder, scope.replaying
    recorded = None if replaying is None else replaying.drawn(kind, tool)
    try:
        value = make() if recorded is None else read(recorded)
    except (ValueError, TypeError) as error:
        raise ReplayError(
            f"The recorded value of lllm.{kind}() can't be read: {recorded!r} ({error}). Does the "
            "`redact` of the store change it?"
        ) from error
    # another thread, or a fork, has ended the session meanwhile
    with suppress(SessionEnded, WrongProcess):
        recorder.stage(ValueDrawn(kind=kind, value=write(value), tool=tool))
        # An event loop must not wait for the log: the value is written with the session's next
        # events.
        if not _on_event_loop() or recorder.ordinal("value") % _AT_ONCE == 0:
            recorder.commit()
    return value


def _on_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")  # if it was never imported, there is no loop
    return asyncio is not None and asyncio._get_running_loop() is not None


def _as_time(text: str | float) -> dt.datetime:
    return dt.datetime.fromisoformat(str(text)).astimezone(dt.UTC)
