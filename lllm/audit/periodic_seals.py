"""Writes checkpoints of a log to a folder elsewhere, again and again, while a service runs.

A file is named by the size and the root of the tree, as `000000012345-9f86d081884c7d65`, so several
processes can use one folder, and nothing is written twice. Whatever fails is logged once, and tried
again the next time: the program itself never notices.
"""

from __future__ import annotations

import _thread
import logging
import os
import threading
from pathlib import Path

import msgspec

from lllm.audit.checkpoint import LogCheckpoint
from lllm.audit.keys import PrivateKey, read_private_key
from lllm.audit.sealing import AsksRows, Sealed, refuse_beside_store, sealed
from lllm.durations import Duration, duration_nanoseconds
from lllm.events.backend import LogBackend
from lllm.events.concurrency.fork_handlers import register_after_fork
from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import AuditError, ConfigError
from lllm.events.files.own_files import make_folder, open_new_output, sync_folder

_logger = logging.getLogger("lllm.store")

_LEAST = 0.01  # seconds


class SealPlan(msgspec.Struct, frozen=True):
    """Where and how often a store is sealed.

    Attributes:
        seconds: From one seal to the next.
        folder: The folder for the files.
        key: The private key, or its file; None for seals without a signature.
    """

    seconds: float
    folder: Path
    key: PrivateKey | Path | None

    def private_key(self) -> PrivateKey | None:
        """Read the key.

        Raises:
            AuditError: The file holds none, or others than its owner may read it.
            MissingExtra: The extra `audit` is not installed.
            OSError: The file can't be read.
        """
        return read_private_key(self.key) if isinstance(self.key, Path) else self.key


def seal_plan(
    every: Duration | None,
    to: str | os.PathLike[str] | None,
    key: PrivateKey | str | os.PathLike[str] | None,
    backend: LogBackend,
) -> SealPlan | None:
    """Check how a store is to be sealed.

    Args:
        every: How long to wait between two seals; None for no seals.
        to: The folder for the files, which is made if it does not exist.
        key: The private key that signs them, or its file; None for no signature.
        backend: The log, beside which neither belongs.

    Returns:
        The plan, None for no seals.

    Raises:
        ConfigError: One option is missing or invalid.
        AuditError: The folder or the key is beside the store, or the key can't be read.
        MissingExtra: A key is given, and the extra `audit` is not installed.
    """
    if every is None and to is None and key is None:
        return None
    if every is None or to is None:
        raise ConfigError(
            "Seals need a time and a place: "
            "LogStore(..., seal_every=600, seal_to='elsewhere/seals')."
        )
    try:
        seconds = duration_nanoseconds(every) / 1e9
    except (TypeError, ValueError) as error:
        raise ConfigError(f"seal_every: {error}") from error
    if seconds < _LEAST:
        raise ConfigError(f"seal_every is {every!r}; seals are made every {_LEAST} s at most.")
    folder = Path(to).absolute()
    of = key if key is None or isinstance(key, PrivateKey) else Path(key).absolute()
    store = getattr(backend, "path", None)
    if isinstance(store, Path):
        refuse_beside_store(folder / "seal", store, "A seal")
        if isinstance(of, Path):
            refuse_beside_store(of, store, "The private key")
    plan = SealPlan(seconds, folder, of)
    try:
        plan.private_key()  # what is wrong with it is said now
    except OSError as error:
        raise AuditError(f"The private key {of} can't be read: {error.strerror}.") from error
    return plan


class PeriodicSeals:
    """Seals a log again and again in a thread of its own.

    Args:
        plan: Where and how often.
        log: The log.
        ask: As of `sealed`.
    """

    def __init__(self, plan: SealPlan, log: LogBackend, ask: AsksRows) -> None:
        self._plan = plan
        self._log = log
        self._ask = ask
        self._lock = ThreadLock()
        self._stop: threading.Event | None = None
        self._closed = False
        self._said = ""
        self._last: LogCheckpoint | None = None
        register_after_fork(self)

    def after_fork(self) -> None:
        """Forget the thread, which the child does not have; `begin` starts one there, too."""
        self._lock = ThreadLock()
        self._stop = None
        self._last = None

    def begin(self) -> None:
        """Start the thread, unless it runs."""
        if self._stop is not None or self._closed:
            return
        with self._lock.held():
            if self._stop is None and not self._closed:
                stop = threading.Event()
                try:
                    _thread.start_new_thread(self._run, (stop,))
                except RuntimeError:  # the interpreter ends, or there are too many threads
                    return
                self._stop = stop

    def close(self) -> None:
        """Stop, and seal what came since the last time."""
        self._closed = True
        stop, self._stop = self._stop, None
        if stop is not None:
            stop.set()
            self._seal(None)

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(self._plan.seconds):
            self._seal(stop)

    def _seal(self, stop: threading.Event | None) -> None:
        try:
            with self._lock.held():
                if stop is not None and stop.is_set():
                    return  # the log may be closed by now
                self._write(sealed(self._log, self._ask, self._plan.private_key()))
                self._said = ""
        except Exception as error:  # a disk may be full, a key gone, the log out of reach
            if str(error) != self._said:
                self._said = str(error)
                _logger.warning("the log could not be sealed: %s", error)

    def _write(self, made: Sealed) -> None:
        checkpoint = made.checkpoint
        if self._last == checkpoint or checkpoint.size == 0:
            return
        folder = self._plan.folder
        make_folder(folder, parents=True)
        size = f"{checkpoint.size:012d}-"
        name = f"{size}{checkpoint.root[:8].hex()}"
        there = [one.name for one in folder.glob(f"{size}*")]
        if any(one != name for one in there):
            raise AuditError(
                f"{folder} has a seal of {checkpoint.size:,} events with another root: the log was "
                "altered, or this is the folder of another. `lllm verify --checkpoint` tells more."
            )
        if name not in there:
            _write_whole(folder, name, made.content)
        self._last = checkpoint


def _write_whole(folder: Path, name: str, content: str) -> None:
    """Write a file that is there whole or not at all, and stays when the power fails."""
    draft = folder / f".{name}.{os.getpid()}.{_thread.get_ident()}"
    try:
        with open(draft, "x", encoding="utf-8", newline="\n", opener=open_new_output) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, folder / name)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(folder)
