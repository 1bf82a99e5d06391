"""Takes requests of OTLP, keeps them on disk, and makes sessions of them in a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
from typing import NamedTuple

from lllm.events.errors import LllmError
from lllm.importing.otlp.decode_json import decode
from lllm.importing.otlp.decode_protobuf import decode_logs, decode_traces
from lllm.importing.otlp.importer import IDLE, MOST_BYTES, SETTLE, ImportedOtlp, OtlpImporter
from lllm.importing.otlp.signals import SignalError, Signals
from lllm.importing.otlp.spool import Spool
from lllm.store.methods.store_parts import StoreParts

MOST_QUEUED = 32 << 20
"""Bytes of requests that wait to be read; beyond it, more are refused until there is room."""
MOST_SPOOLED = 1 << 30
"""Bytes of requests on disk; beyond it, more are refused until there is room."""
_POLL = 0.2  # seconds between two looks for traces that can be written
_AGAIN = 1.0  # seconds until a write that failed is tried again

_logger = logging.getLogger("lllm.otlp")


class FloodedError(Exception):
    """There is no room for a request at the moment; the client is to send it again."""


class Accepted(NamedTuple):
    """What became of a request.

    Attributes:
        rejected: The number of spans or records that can't be imported.
        why: Why the first of them can't be; "" if there is none.
    """

    rejected: int
    why: str


class OtlpReceiver:
    """Takes requests; what it accepts survives the death of the process.

    Args:
        store: The store, which must raise what can't be written (`on_error="raise"`).
        spool: Where requests are kept until their content is in the log. What is in it from before
            is imported first.
        settle: Seconds of silence after which a trace is written that has its root.
        idle: Seconds of silence after which a trace without its root, and the records of a coding
            agent, are written.
        most_bytes: About how many bytes of spans may wait in memory.
        most_queued: Bytes of requests that may wait to be read.
        most_spooled: Bytes of requests that may wait on disk.
    """

    def __init__(
        self,
        store: StoreParts,
        spool: Spool,
        *,
        settle: float = SETTLE,
        idle: float = IDLE,
        most_bytes: int = MOST_BYTES,
        most_queued: int = MOST_QUEUED,
        most_spooled: int = MOST_SPOOLED,
    ) -> None:
        self._store = store
        self._spool = spool
        self._importer = OtlpImporter(store, settle=settle, idle=idle, most_bytes=most_bytes)
        self._most_queued = most_queued
        self._most_spooled = most_spooled
        self._queue: queue.SimpleQueue[tuple[int, int, Signals]] = queue.SimpleQueue()
        self._count = threading.Lock()
        self._queued = 0
        self._stopping = threading.Event()
        self._told: set[str] = set()
        self._reported = 0
        self._thread = threading.Thread(target=self._run, name="lllm-otlp", daemon=True)

    def start(self) -> None:
        """Begin to make sessions."""
        self._thread.start()

    def reserve(self, size: int) -> None:
        """Take room for a request that begins to arrive.

        Raises:
            FloodedError: There is none.
        """
        with self._count:
            is_first = not self._queued  # a request that is larger than all room passes alone
            if self._queued + size > self._most_queued and not is_first:
                raise FloodedError(f"{self._queued:,} bytes of requests wait to be read")
            if self._spool.size + size > self._most_spooled:
                raise FloodedError(f"{self._spool.size:,} bytes of requests wait on disk")
            self._queued += size

    def free(self, size: int) -> None:
        """Give back room that `reserve` took."""
        with self._count:
            self._queued -= size

    def accept(self, kind: str, body: bytes, reserved: int) -> Accepted:
        """Take a request; when this returns, it is on disk.

        Args:
            kind: "traces protobuf", "traces json", "logs protobuf" or "logs json".
            body: The request, uncompressed.
            reserved: The room that was taken for it, which is given back.

        Returns:
            What became of it.

        Raises:
            SignalError: It is no such request.
            LogUnavailable: It can't be kept.
        """
        try:
            signals = _decode(kind, body)
            token = self._spool.put(kind, body) if signals.spans or signals.logs else None
        except BaseException:
            self.free(reserved)
            raise
        if token is None:
            self.free(reserved)
        else:
            self._queue.put((token, reserved, signals))
        why = signals.faults[0] if signals.faults else ""
        return Accepted(signals.rejected_spans + signals.rejected_logs, why)

    def _run(self) -> None:
        self._read_spool()
        while not (self._stopping.is_set() and self._queue.empty()):
            try:
                token, reserved, signals = self._queue.get(timeout=_POLL)
            except queue.Empty:
                self._write()
                continue
            self._importer.add(signals, token=token)
            self.free(reserved)
            self._write()

    def _read_spool(self) -> None:
        """Import what an earlier process had acknowledged."""
        for token, kind, body in self._spool.kept():
            if self._stopping.is_set():
                return
            try:
                self._importer.add(_decode(kind, body), token=token)
            except SignalError as error:
                self._importer.leave_out(f"request {token} in {self._spool.path}: {error}")
                self._spool.remove([token])
            self._write()

    def _write(self, *, rooted: bool = False) -> None:
        """Write what is complete; where the store can't be written, wait and try again later."""
        try:
            self._importer.write_ready(rooted=rooted)
        except LllmError as error:
            if str(error) not in self._told:
                self._told.add(str(error))
                _logger.error("%s What was received waits in %s.", error, self._spool.path)
            self._stopping.wait(_AGAIN)
            return
        if not self._store.log.is_holding:
            self._spool.remove(self._importer.take_done())
        self._report()

    def _report(self) -> None:
        left_out = self._importer.result().left_out
        for why in left_out[self._reported :]:
            _logger.warning("%s", why)
        self._reported = len(left_out)

    def stop(self) -> ImportedOtlp:
        """Import what was accepted, and write the traces that have their roots.

        Traces without their roots wait on disk for the next time.

        Returns:
            All that was imported.
        """
        self._stopping.set()
        self._thread.join()
        self._write(rooted=True)
        return self._importer.result()

    @property
    def waiting(self) -> int:
        """The number of traces and conversations that are not written yet."""
        return self._importer.waiting


def _decode(kind: str, body: bytes) -> Signals:
    signal, _, form = kind.partition(" ")
    if form == "json":
        return decode(body)
    return decode_traces(body) if signal == "traces" else decode_logs(body)
