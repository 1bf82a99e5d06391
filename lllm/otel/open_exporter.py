"""Makes the exporter that the settings describe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lllm.events.backend import LogBackend
from lllm.invokers.http.opener import shown_url
from lllm.otel.delivery import Delivery, Output, Wait
from lllm.otel.exporter import Exporter, ExportSettings
from lllm.otel.file_output import FileOutput
from lllm.otel.json_format import JsonFormat
from lllm.otel.otlp_format import OtlpFormat
from lllm.otel.otlp_post import HttpOutput
from lllm.otel.settings import OtelExport, Receiver, receiver_of, resource_of
from lllm.otel.step_spans import SpanOptions
from lllm.store.read_model import ReadModel


def check_export(settings: OtelExport) -> None:
    """Check settings, and that what they need is installed.

    Args:
        settings: The settings.

    Raises:
        ConfigError: A setting or an environment variable is invalid.
        MissingExtra: The extra `otel` is not installed, and protobuf is to be sent.
    """
    _format_of(receiver_of(settings))


def http_output(settings: OtelExport) -> HttpOutput:
    """Make the output that sends requests to the receiver.

    Args:
        settings: The settings.

    Returns:
        The output; nothing is sent yet.

    Raises:
        ConfigError: A setting or an environment variable is invalid.
        MissingExtra: The extra `otel` is not installed, and protobuf is to be sent.
    """
    receiver = receiver_of(settings)
    return HttpOutput(receiver, _format_of(receiver), compress=settings.gzip)


def file_output(settings: OtelExport, path: Path) -> FileOutput:
    """Make the output that writes to a file.

    Args:
        settings: The settings.
        path: The file.

    Returns:
        The output; the caller closes it.

    Raises:
        ConfigError: An environment variable is invalid.
        OSError: The file can't be opened.
    """
    return FileOutput(path, resource_of(settings))


def receiver_name(settings: OtelExport) -> str:
    """Find the name under which a store remembers what a receiver has.

    Args:
        settings: The settings.

    Returns:
        The name, without credentials.

    Raises:
        ConfigError: A setting or an environment variable is invalid.
    """
    return settings.name or shown_url(receiver_of(settings).urls["traces"])


def file_name(settings: OtelExport, path: Path) -> str:
    """Find the name under which a store remembers what a file has."""
    return settings.name or f"file:{path.absolute()}"


def open_exporter(
    log: LogBackend,
    rows: ReadModel,
    settings: OtelExport,
    output: Output,
    name: str,
    *,
    wait: Wait | None,
    patience: float | None = None,
    tell: Callable[[str], None],
    remembers: bool = True,
    from_start: bool = False,
) -> tuple[Exporter, Delivery | None]:
    """Make an exporter.

    Args:
        log: The log to read.
        rows: The rows of the store.
        settings: What is sent.
        output: Where it is sent.
        name: The name under which the store remembers what was sent.
        wait: Waits between two tries; None to send nothing, and only count.
        patience: See `Delivery`.
        tell: See `Delivery`.
        remembers: See `ExportSettings`.
        from_start: See `ExportSettings`.

    Returns:
        The exporter, and its delivery.

    Raises:
        LogError: The store can't be read.
    """
    delivery = None if wait is None else Delivery(output, wait, patience=patience, tell=tell)
    options = SpanOptions(settings.messages, settings.message_bytes)
    what = ExportSettings(name, options, settings.logs, settings.batch_bytes, remembers, from_start)
    return Exporter(log, rows, what, output.form, delivery), delivery


def _format_of(receiver: Receiver) -> OtlpFormat:
    if receiver.protocol == "http/json":
        return JsonFormat(receiver.resource)
    from lllm.otel.protobuf_format import ProtobufFormat

    return ProtobufFormat(receiver.resource)
