"""Sends a store once, or until it is stopped, for `lllm otel send`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec

from lllm.events.backend import LogBackend
from lllm.events.errors import LogReadOnly, StoreError
from lllm.otel.delivery import Output, Undelivered, Wait
from lllm.otel.exporter import Exporter
from lllm.otel.json_format import JsonFormat
from lllm.otel.open_exporter import (
    file_name,
    file_output,
    http_output,
    open_exporter,
    receiver_name,
)
from lllm.otel.otlp_format import OtlpFormat, Rejected, Signal
from lllm.otel.sent_position import sender_lock
from lllm.otel.settings import OtelExport
from lllm.store.read_model import ReadModel

PATIENCE = 60.0  # seconds for which a receiver is tried that can't be reached

_POLL = 0.5  # seconds between two looks at the log
_LOOK_FOR_DEAD = 30.0  # seconds between two looks for sessions whose process died
_REMEMBER = 60.0  # seconds after which a position is stored although nothing was sent


class SendOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a store is sent.

    Attributes:
        path: The file to append to; None to send to a receiver.
        follow: True to go on until Ctrl-C, and to wait for a receiver for as long as it takes.
        again: True to begin at the start of the log.
        dry_run: True to send nothing, and only count.
    """

    path: Path | None = None
    follow: bool = False
    again: bool = False
    dry_run: bool = False


class SendReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent.

    Attributes:
        to: The name of the receiver or file.
        spans: Spans that it accepted.
        logs: Log records that it accepted.
        rejected: Spans and log records that it refused for good.
        behind: How many positions of the log are still to be sent.
        failure: Why not everything was sent; empty if it was.
    """

    to: str
    spans: int
    logs: int
    rejected: int
    behind: int
    failure: str = ""


def send_store(
    log: LogBackend,
    rows: ReadModel,
    look_for_dead: Callable[[], None],
    settings: OtelExport,
    options: SendOptions,
    tell: Callable[[str], None],
) -> SendReport:
    """Send what a receiver does not have yet.

    Args:
        log: The log of the store.
        rows: The rows of the store.
        look_for_dead: Brings the rows up to date, and finds sessions whose process died.
        settings: Where and what to send.
        options: How to send it.
        tell: Is called with what the user should know meanwhile.

    Returns:
        What was sent.

    Raises:
        StoreError: Another process sends this store to the same receiver.
        LogReadOnly: The store can't remember what was sent.
        ConfigError: A setting is invalid.
        LogError: The store can't be read or written.
        OSError: The file can't be written.
    """
    path, dry_run = options.path, options.dry_run
    name = receiver_name(settings) if path is None else file_name(settings, path)
    is_new = path is not None and not path.exists()
    # Without a place for the position, a new file gets all of the log.
    remembers = not (rows.database.read_only and is_new)
    if rows.database.read_only and remembers and not dry_run:
        raise LogReadOnly(
            f"{rows.database.path} can't be written, and what is sent is remembered in it. With "
            "--file and a new file, nothing has to be remembered."
        )
    with ExitStack() as stack:
        output: Output
        if not dry_run and remembers:
            _be_only_sender(rows, name, stack)
        if dry_run:
            output = _Nowhere()
        elif path is None:
            output = http_output(settings)
        else:
            output = stack.enter_context(closing(file_output(settings, path)))
        wait: Wait | None = None if dry_run else _sleep
        patience = None if options.follow else PATIENCE
        exporter = open_exporter(
            log, rows, settings, output, name, wait=wait, patience=patience, tell=tell,
            remembers=remembers, from_start=options.again or is_new,
        )[0]  # fmt: skip
        failure = _send(exporter, log, look_for_dead, follow=options.follow)
    counts = exporter.counts
    return SendReport(
        to=name, spans=counts.spans, logs=counts.logs, rejected=counts.rejected,
        behind=max(log.head() - exporter.sent.position, 0), failure=failure,
    )  # fmt: skip


class _Nowhere:
    """The output of a dry run."""

    form: OtlpFormat = JsonFormat({})

    def send(self, signal: Signal, records: list[bytes]) -> Rejected:
        """Take records; a dry run never calls this."""
        raise AssertionError((signal, len(records)))


def _be_only_sender(rows: ReadModel, name: str, stack: ExitStack) -> None:
    lock = sender_lock(rows.database, name)
    if lock is not None:
        stack.callback(lock.close)
        if not lock.acquire(wait=False):
            raise StoreError(
                f"Another process sends this store to {name}. Stop it first, or give --name for a "
                "second sender."
            )


def _send(
    exporter: Exporter, log: LogBackend, look_for_dead: Callable[[], None], *, follow: bool
) -> str:
    """Send; return why not everything was sent."""
    try:
        look_for_dead()
        exporter.send()
        exporter.remember()
        if follow:
            _follow(exporter, log, look_for_dead)
    except Undelivered as error:
        return str(error)
    except KeyboardInterrupt:
        if not follow:
            raise
    return ""


def _follow(exporter: Exporter, log: LogBackend, look_for_dead: Callable[[], None]) -> None:
    looked = stored = time.monotonic()
    reached = -1
    while True:
        time.sleep(_POLL)
        now = time.monotonic()
        if now - looked > _LOOK_FOR_DEAD:
            looked = now
            look_for_dead()
        if (head := log.head()) != reached:
            exporter.send(upto=head)
            reached = head
        if now - stored > _REMEMBER:
            stored = now
            exporter.remember()


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False
