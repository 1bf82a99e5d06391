"""Seals a log at regular intervals while a service runs, into a folder outside of the store.

A file is named by the size and the root of the tree, for example `000000012345-9f86d081884c7d65`.
Several processes can use one folder, and nothing is written twice. A timestamp's file has `.tsr` at
the end of that name. A failure is logged once, and the next seal tries again; the user's program is
never disturbed. If there are no new events, no timestamp and no cosignature is requested.
"""

from __future__ import annotations

import _thread
import logging
import os
import threading
from pathlib import Path

import msgspec

from lllm.audit.anchoring import SealAnchors, anchored, check_anchors
from lllm.audit.checkpoint import LogCheckpoint
from lllm.audit.keys import PrivateKey, read_private_key
from lllm.audit.outside_store import refuse_beside_store
from lllm.audit.sealing import AsksRows, Sealed, sealed
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
        seconds: The time from one seal to the next, in seconds.
        folder: The folder for the seals.
        key: The private key, or the path of its file; None for seals without a signature.
        anchors: Who else vouches for the seals; None for nobody.
    """

    seconds: float
    folder: Path
    key: PrivateKey | Path | None
    anchors: SealAnchors = SealAnchors()

    def private_key(self) -> PrivateKey | None:
        """Read the private key that signs the seals; None if they are not signed.

        Raises:
            AuditError: The file has no private key, or others than its owner may read it.
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
    """Check the options that say how a store is sealed.

    Args:
        every: The time between two seals; None for no seals.
        to: The folder for the files; it is made if it does not exist.
        key: The private key that signs the seals, or the path of its file; None for no signature.
        anchors: Who else vouches for the seals; None for nobody.
        backend: The log to seal. Neither the folder nor the key may be beside it.

    Returns:
        The plan; None for no seals.

    Raises:
        ConfigError: An option is missing or invalid.
        AuditError: The folder or the key is beside the store, or the key or a certificate can't be
            read.
        MissingExtra: A key or a timestamp is given, and the extra `audit` is not installed.
    """
    if every is None and to is None and key is None and anchors is None:
        return None
    if every is None or to is None:
        raise ConfigError(
            "To seal a store, give both a time and a folder: LogStore(..., seal_every=600, "
            "seal_to='elsewhere/seals')."
        )
    try:
        seconds = duration_nanoseconds(every) / 1e9
    except (TypeError, ValueError) as error:
        raise ConfigError(f"seal_every: {error}") from error
    anchors = anchors or SealAnchors()
    if anchors.witnesses and key is None:
        raise ConfigError("Witnesses cosign only signed seals: give seal_key, too.")
    if seconds < _LEAST:
        raise ConfigError(f"seal_every is {every!r}; seals are made every {_LEAST} s at most.")
    folder = Path(to).absolute()
    of = key if key is None or isinstance(key, PrivateKey) else Path(key).absolute()
    store = getattr(backend, "path", None)
    if isinstance(store, Path):
        refuse_beside_store(folder / "seal", store, "A seal")
        if isinstance(of, Path):
            refuse_beside_store(of, store, "The private key")
    check_anchors(anchors)
    plan = SealPlan(seconds, folder, of, anchors)
    try:
        plan.private_key()  # what is wrong with it is said now
    except OSError as error:
        raise AuditError(f"The private key {of} can't be read: {error.strerror}.") from error
    return plan


class PeriodicSeals:
    """Seals a log at regular intervals, in a thread of its own.

    Args:
        plan: Where and how often to seal, and who vouches.
        log: The log to seal.
        ask: Asks the database of views, as in `sealed`.
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
        """Forget the thread after a fork: a child has none, and `begin` starts a new one."""
        self._lock = ThreadLock()
        self._stop = None
        self._last = None

    def begin(self) -> None:
        """Start the thread if it does not run."""
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
        """Stop the thread, and seal the events since the last seal."""
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
                "altered, or the folder belongs to another log. `lllm verify --checkpoint` says "
                "more."
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
    """Write a file completely or not at all, so that it survives a power failure.

    Returns False if the file exists already: then another process made the same seal, and the
    timestamp must be the one of that file.
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
