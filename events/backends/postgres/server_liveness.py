"""Finds out which processes that write to a log in PostgreSQL are alive, on any machine.

A process holds an advisory lock on a connection of its own, which the server releases when the
connection ends, and says every 20 seconds that it lives. It is dead if its lock is free and nothing
was heard of it for a minute, in the server's time. The lock alone is not enough: it is free, too,
while a living process connects again. After a restart of the server, or when a standby takes over,
all processes get a minute to connect again.

A thread does this, so nobody waits for the network. A wrong verdict is undone by the next event of
the process.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from lllm.events.backends.postgres.binary_values import BOOLEAN, TEXT
from lllm.events.backends.postgres.connection import ServerConnection, Statement
from lllm.events.backends.postgres.errors import ServerRefused
from lllm.events.backends.postgres.read_events import Ask
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.robust_locks import RobustLock
from lllm.events.errors import LogUnavailable

SILENCE = 60  # seconds without a word after which a process whose lock is free is dead
_EVERY = 20.0  # seconds between two words
_AGAIN = 2.0  # seconds between two attempts to connect
_WAIT = 5.0  # seconds for connecting, or for an answer
_LEAVING = 1.0  # the same for the last word
_FRESH = 1.0  # seconds for which an answer of the server is used again
_OWNER = re.compile("pg-[0-9a-f]{32}")
# The server notices within a minute that a machine has vanished.
_KEEPALIVES = (
    "SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4"
)


class ServerLiveness:
    """The processes that write to one log.

    Args:
        schema: The name of the schema, quoted.
        connect: Makes a connection, until a time of the monotonic clock.
        ask: Executes a statement on any connection.
    """

    def __init__(self, schema: str, connect: Callable[[float], ServerConnection], ask: Ask) -> None:
        self._connect = connect
        self._ask = ask
        self._lives = Statement(f"SELECT {schema}.writer_lives($1, $2)", (TEXT, BOOLEAN))
        self._leaves = Statement(f"SELECT {schema}.writer_leaves($1)", (TEXT,))
        self._known = Statement(
            f"SELECT known, dead FROM {schema}.known_writers(make_interval(secs => {SILENCE}))"
        )
        self._users = 0
        register_after_fork(self)
        self._begin()

    def _begin(self) -> None:
        self._lock = RobustLock()  # reentrant: a signal handler may call this, too
        self._owner: str | None = None
        self._known_owner: str | None = None  # that the server was told before an append
        self._unfinished = False
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._found: Mapping[str, bool] = {}
        self._found_at = -_FRESH

    def after_fork(self) -> None:
        """Make the child another process, which is known when it first writes."""
        self._begin()

    def use(self) -> None:
        """Count one more store; see `WriterLiveness`."""
        with self._lock:
            self._users += 1

    def owner(self) -> str:
        """The name of this process; a thread makes it known. See `WriterLiveness`."""
        owner = self._owner
        if owner is not None:
            return owner
        with self._lock:
            if self._owner is None:
                self._owner = f"pg-{secrets.token_hex(16)}"
                self._ending = threading.Event()
                self._thread = threading.Thread(
                    target=self._live, args=(self._owner, self._ending), daemon=True
                )
                try:
                    self._thread.start()
                except RuntimeError as error:  # the interpreter exits, or there are too many
                    self._owner = self._thread = None
                    raise LogUnavailable(f"no thread can be started: {error}") from error
            return self._owner

    def make_known(self, connection: ServerConnection, until: float) -> None:
        """Make this process known before its first append, since a process nobody knows never dies.

        Args:
            connection: The connection that is about to append.
            until: The time of the monotonic clock at which the connection is given up.

        Raises:
            LogUnavailable: The server does not answer.
        """
        owner = self._owner
        if owner is not None and owner != self._known_owner:
            with suppress(ServerRefused):  # a role that may only append: nobody knows it, then
                connection.execute(self._lives, (owner.encode(), b"\x00"), until)
            self._known_owner = owner

    def _live(self, owner: str, ending: threading.Event) -> None:
        """Say again and again that this process lives."""
        connection: ServerConnection | None = None
        name, wait = owner.encode(), 0.0
        while not ending.wait(wait):
            wait = _EVERY
            until = time.monotonic() + _WAIT
            try:
                if connection is None or connection.lost:
                    connection = self._connect(until)
                    connection.run(_KEEPALIVES, until)
                    connection.execute(self._lives, (name, b"\x01"), until)
                else:
                    connection.execute(self._lives, (name, b"\x00"), until)
            except LogUnavailable:
                wait = _AGAIN
        if connection is not None:
            with suppress(LogUnavailable):
                if not self._unfinished:
                    connection.execute(self._leaves, (name,), time.monotonic() + _LEAVING)
            connection.close()

    def _states(self) -> Mapping[str, bool]:
        """Ask who is known, and whether each is dead."""
        now = time.monotonic()
        if now - self._found_at >= _FRESH:
            found = self._ask(self._known, ())
            self._found = {
                (found.get_value(row, 0) or b"").decode(): found.get_value(row, 1) == b"\x01"
                for row in range(found.ntuples)
            }
            self._found_at = now
        return self._found

    def can_tell(self, owner: str, on_host: str) -> bool:
        """True if the server knows the process; see `WriterLiveness`."""
        del on_host  # the server knows the processes of all machines
        with suppress(LogUnavailable):
            return owner in self._states()
        return False

    def is_elsewhere(self, owner: str) -> bool:
        """True if the server does not know the process; see `WriterLiveness`."""
        if owner == self._owner:
            return False
        with suppress(LogUnavailable):
            return bool(owner) and owner not in self._states()
        return False

    def is_dead(self, owner: str, on_host: str) -> bool:
        """True if the process is known to be dead; see `WriterLiveness`."""
        del on_host
        if owner == self._owner:
            return False
        with suppress(LogUnavailable):
            return self._states().get(owner, False)
        return False

    def forget(self, owner: str) -> None:
        """Forget a dead process; see `WriterLiveness`."""
        if _OWNER.fullmatch(owner):
            with suppress(LogUnavailable):
                self._ask(self._leaves, (owner.encode(),))

    def close(self, *, keep_file: bool = False) -> None:
        """Count one store less, and end the thread after the last; see `WriterLiveness`."""
        with self._lock:
            self._users = max(0, self._users - 1)
            self._unfinished |= keep_file
            if self._users or self._owner is None:
                return
            thread, self._thread, self._owner = self._thread, None, None
            self._ending.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_LEAVING + 0.5)
