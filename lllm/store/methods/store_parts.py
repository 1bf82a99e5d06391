"""The attributes that all methods of a store use."""

from __future__ import annotations

from lllm.events.backend import LogBackend
from lllm.events.buffered import BufferedLog
from lllm.events.redaction.redact import Redact
from lllm.packages.registry import Runtime
from lllm.pricing.user_prices import PriceTable
from lllm.store.read_model import ReadModel
from lllm.store.session_host import StoreSessionHost
from lllm.store.session_reader import SessionReader


class StoreParts:
    """What an open LogStore is made of; the classes of its methods inherit this."""

    _host: StoreSessionHost
    _rows: ReadModel
    _reader: SessionReader
    _runtime: Runtime
    backend: LogBackend
    """The backend that the store was made on."""
    log: BufferedLog
    """The log that is written to; it keeps events in memory while the backend can't be written."""
    partition: str
    """The owner of all sessions that this store writes."""
    redact: Redact | None
    """Your function that changes payloads before they are written; None without one."""
    prices: PriceTable | None
    """Your own prices; None without any."""
    read_only: bool
    """True if the store was opened for reading only."""
