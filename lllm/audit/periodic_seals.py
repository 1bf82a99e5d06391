"""Writes checkpoints of a log to a folder elsewhere, again and again, while a service runs.

A file is named by the size and the root of the tree, as `000000012345-9f86d081884c7d65`, so several
processes can use one folder, and nothing is written twice; a timestamp has `.tsr` behind that name.
Whatever fails is logged once, and tried again the next time: the program itself never notices. No
timestamp and no cosignature is asked for where there is nothing new.
"""

from __future__ import annotations

import _thread
import logging
import os
import threading
from pathlib import Path

import msgspec

from lllm.audit.anchoring import SealAnchors, anchored
from lllm.audit.checkpoint import LogCheckpoint
from lllm.audit.keys import PrivateKey, read_private_key
from lllm.audit.sealing import AsksRows, Sealed, refuse_beside_store, sealed
from lllm.audit.timestamp import SUFFIX, token_path
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
        anchors: Who else vouches for the seals.
    """

    seconds: float
    folder: Path
    key: PrivateKey | Path | None
    anchors: SealAnchors = SealAnchors()

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
    anchors: SealAnchors | None,
    backend: LogBackend,
) -> SealPlan | None:
    """Check how a store is to be sealed.

    Args:
        every: How long to wait between two seals; None for no seals.
        to: The folder for the files, which is made if it does not exist.
        key: The private key that signs them, or its file; None for no signature.
        anchors: Who else vouches for them; None for nobody.
        backend: The log, beside which neither belongs.

    Returns:
        The plan, None for no seals.

    Raises:
        ConfigError: One option is missing or invalid.
        AuditError: The folder or the key is beside the store, or the key can't be read.
        MissingExtra: A key is given, and the extra `audit` is not installed.
    """
    if every is None and to is None and key is None and anchors is None:
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
    anchors = anchors or SealAnchors()
    if anchors.witnesses and key is None:
        raise ConfigError("Witnesses cosign what is signed: give seal_key, too.")
    if seconds < _LEAST:
        raise ConfigError(f"seal_every is {every!r}; seals are made every {_LEAST} s at most.")
    folder = Path(to).absolute()
    of = key if key is None or isinstance(key, PrivateKey) else Path(key).absolute()
    store = getattr(backend, "path", None)
    if isinstance(store, Path):
        refuse_beside_store(folder / "seal", store, "A seal")
        if isinstance(of, Path):
            refuse_beside_store(of, store, "The private key")
    plan = SealPlan(seconds, folder, of, anchors)
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
                key = self._plan.private_key()
                if self._is_new(sealed(self._log, self._ask, key).checkpoint):
                    self._write(anchored(self._log, self._ask, key, self._plan.anchors))
                self._said = ""
        except Exception as error:  # a disk may be full, a key gone, the log out of reach
            if str(error) != self._said:
                self._said = str(error)
                _logger.warning("the log could not be sealed: %s", error)

    def _is_new(self, checkpoint: LogCheckpoint) -> bool:
        """True if the folder has no seal of this checkpoint yet."""
        if self._last == checkpoint or checkpoint.size == 0:
            return False
        folder = self._plan.folder
        make_folder(folder, parents=True)
        name = _name(checkpoint)
        there = {one.name for one in folder.glob(f"{checkpoint.size:012d}-*")}
        if there - {name, name + SUFFIX}:
            raise AuditError(
                f"{folder} has a seal of {checkpoint.size:,} events with another root: the log was "
                "altered, or this is the folder of another. `lllm verify --checkpoint` tells more."
            )
        if name in there:
            self._last = checkpoint
        return name not in there

    def _write(self, made: Sealed) -> None:
        path = self._plan.folder / _name(made.checkpoint)
        if _write_whole(path, made.content.encode()) and made.timestamp is not None:
            _write_whole(token_path(path), made.timestamp)
        self._last = made.checkpoint


def _name(checkpoint: LogCheckpoint) -> str:
    return f"{checkpoint.size:012d}-{checkpoint.root[:8].hex()}"


def _write_whole(path: Path, content: bytes) -> bool:
    """Write a file that is there whole or not at all, and stays when the power fails.

    Returns False if it is there already: then another process has sealed the same, and the
    timestamp is to be that of its file.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{_thread.get_ident()}")
    try:
        with open(draft, "xb", opener=open_new_output) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            os.rename(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True
