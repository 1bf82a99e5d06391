"""Plays recorded events on a terminal, with their original pauses, and reacts to keys."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TextIO

from rich.console import Console
from rich.text import Text

from lllm.cli.render.events import EventLines
from lllm.cli.render.formats import counted, nanoseconds
from lllm.cli.render.session_tree import family
from lllm.events.envelope import Recorded
from lllm.store.log_store import LogStore

LONGEST = 3.0  # seconds; a longer pause is shortened
_SECOND = 10**9
Key = Literal["pause", "step", "quit"]
_KEYS: dict[bytes, Key] = {b" ": "pause", b"s": "step", b"q": "quit", b"\x04": "quit"}

# Waits for a key for a number of seconds, or forever for None; None if no key was pressed.
Keys = Callable[[float | None], Key | None]


class Player:
    """Shows events on the terminal with their original pauses.

    Args:
        console: The console for messages other than events.
        lines: Prints the events.
        keys: Waits for a key; None if there is no keyboard.
        speed: The speed relative to the original; 2 halves all pauses.
    """

    def __init__(
        self, console: Console, lines: EventLines, keys: Keys | None, speed: float
    ) -> None:
        self._console = console
        self._lines = lines
        self._keys = keys
        self._speed = speed
        self._stopped = False

    def play(self, events: Sequence[Recorded]) -> None:
        """Show events one after another, until the end or until a key stops it.

        Args:
            events: The events, in order.
        """
        keys = "" if self._keys is None else "; space stops and goes on, s steps, q ends it"
        self._say(
            f"{counted(len(events), 'event')}, {self._speed:g} times as fast as it happened, "
            f"pauses of at most {LONGEST:g} seconds{keys}"
        )
        before: int | None = None
        for event in events:
            if before is not None and not self._wait(event.time - before):
                return
            self._lines.show(event)
            before = event.time

    def _wait(self, pause: int) -> bool:
        """Wait for the length of a pause.

        Args:
            pause: Nanoseconds between two events; negative if a clock was set back.

        Returns:
            False if the user pressed the key that quits.
        """
        seconds = max(0, pause) / _SECOND / self._speed
        if seconds > LONGEST and not self._stopped:
            self._say(f"{nanoseconds(pause)} later")
        until = time.monotonic() + min(seconds, LONGEST)
        while True:
            left = max(0.0, until - time.monotonic())
            if self._keys is None:
                time.sleep(left)
                return True
            key = self._keys(None if self._stopped else left)
            if key == "quit":
                return False
            if key == "step":
                self._stopped = True
                return True
            if key == "pause":
                self._stopped = not self._stopped
                self._say("stopped" if self._stopped else "going on")
            if not self._stopped and time.monotonic() >= until:
                return True

    def _say(self, what: str) -> None:
        self._console.print(Text(f"-- {what}", "dim"))


@contextmanager
def terminal_keys(keyboard: TextIO) -> Iterator[Keys | None]:
    """A `with` in which single key presses can be read from the terminal.

    Args:
        keyboard: The input that the keys come from.

    Yields:
        A function that waits for a key; None if the input is not a terminal.
    """
    if not keyboard.isatty():
        yield None
        return
    import termios
    import tty

    descriptor = keyboard.fileno()
    before = termios.tcgetattr(descriptor)

    def wait(seconds: float | None) -> Key | None:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        if not ready:
            return None
        typed = os.read(descriptor, 1)
        # an empty read means that the terminal is gone
        return _KEYS.get(typed.lower()) if typed else "quit"

    try:
        tty.setcbreak(descriptor)
        yield wait
    except KeyboardInterrupt:
        return
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def events_of(store: LogStore, session_id: str) -> list[Recorded]:
    """Read the events of a session and its descendants, and later events about them.

    Args:
        store: The store that has the session.
        session_id: The id of the session.

    Returns:
        The events, in the order of the log.
    """
    ids = [one.session_id for one in family(store.load_session(session_id))]
    events = [event for one in ids for event in store.events(one)]
    return sorted(events, key=lambda event: event.position)
