"""Where and how a store is sent: the settings, and the environment variables of OpenTelemetry.

The variables are those of
https://opentelemetry.io/docs/specs/otel/protocol/exporter/. An argument has precedence over them.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import msgspec

from lllm.events.errors import ConfigError
from lllm.invokers.http.opener import shown_url
from lllm.otel.otlp_format import Signal

Protocol = Literal["http/protobuf", "http/json"]

DEFAULT_ENDPOINT = "http://localhost:4318"
_PATHS: Mapping[Signal, str] = {"traces": "/v1/traces", "logs": "/v1/logs"}
_LEAST_BATCH = 1_000  # bytes
_LEAST_SECRET = 6  # characters; shorter parts of a header are words


class OtelExport(msgspec.Struct, frozen=True, kw_only=True):
    """Settings for sending a store to an OpenTelemetry backend.

    Attributes:
        endpoint: The address of the receiver, as "http://127.0.0.1:4318"; `/v1/traces` and
            `/v1/logs` are appended. None for OTEL_EXPORTER_OTLP_ENDPOINT, or port 4318 of this
            machine.
        headers: HTTP headers, such as an API key; they are added to those of
            OTEL_EXPORTER_OTLP_HEADERS.
        messages: True to send what users, models and tools said, and the tasks and results of
            sessions.
        message_bytes: The greatest length of an attribute with messages, in bytes. What is longer
            is cut, and says so.
        logs: False to send spans alone, to a backend that takes no log records.
        name: The name under which the store remembers what was sent; None for the endpoint.
        service_name: The resource attribute `service.name`; None for OTEL_SERVICE_NAME, or "lllm".
        protocol: "http/protobuf" or "http/json"; None for OTEL_EXPORTER_OTLP_PROTOCOL, or
            protobuf.
        gzip: False to send requests that are not compressed.
        batch_bytes: The greatest length of a request before compression, in bytes. A single span
            may be longer.
        close_seconds: How long closing the store waits for what is still to be sent, in seconds.
            The rest is sent when the store is next opened.
    """

    endpoint: str | None = None
    headers: dict[str, str] = {}
    messages: bool = False
    message_bytes: int = 65_536
    logs: bool = True
    name: str | None = None
    service_name: str | None = None
    protocol: Protocol | None = None
    gzip: bool = True
    batch_bytes: int = 1_048_576
    close_seconds: float = 5.0

    def __repr__(self) -> str:
        shown = None if self.endpoint is None else shown_url(self.endpoint)
        return f"OtelExport(endpoint={shown!r}, headers={sorted(self.headers)!r})"


class Receiver(msgspec.Struct, frozen=True):
    """A receiver, as the settings and the environment name it.

    Attributes:
        urls: The address for each signal, without credentials.
        headers: The HTTP headers for each signal, with credentials.
        protocol: The form of the requests.
        resource: What is sent about the program.
        certificate: A file with the certificates of authorities to trust; None for the system's.
        secrets: What must not be in a message: passwords, and the values of headers.
    """

    urls: Mapping[Signal, str]
    headers: Mapping[Signal, Mapping[str, str]]
    protocol: Protocol
    resource: Mapping[str, str]
    certificate: Path | None = None
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Receiver({self.urls['traces']!r})"


def receiver_of(settings: OtelExport, environment: Mapping[str, str] = os.environ) -> Receiver:
    """Find the receiver that the settings or the environment name.

    Args:
        settings: The settings.
        environment: The environment variables.

    Returns:
        The receiver.

    Raises:
        ConfigError: A setting or a variable is invalid; no header or password is in its message.
    """
    if settings.message_bytes < 1 or settings.batch_bytes < _LEAST_BATCH:
        raise ConfigError(
            f"otel: message_bytes is at least 1, and batch_bytes at least {_LEAST_BATCH:,}."
        )
    urls: dict[Signal, str] = {}
    headers: dict[Signal, Mapping[str, str]] = {}
    secrets: set[str] = set()
    for signal in _PATHS:
        urls[signal], login = _url(settings, signal, environment)
        given = _headers(signal, environment) | _checked(settings.headers)
        headers[signal] = _basic(login) | given
        secrets |= {login.partition(":")[2], *headers[signal].values()}
        secrets |= {part for value in given.values() for part in value.split()}
    certificate = environment.get("OTEL_EXPORTER_OTLP_CERTIFICATE")
    return Receiver(
        urls, headers, _protocol(settings, environment), resource_of(settings, environment),
        Path(certificate) if certificate else None,
        tuple(sorted((one for one in secrets if len(one) >= _LEAST_SECRET), key=len, reverse=True)),
    )  # fmt: skip


def resource_of(
    settings: OtelExport, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Find what is sent about the program, by OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME.

    Args:
        settings: The settings.
        environment: The environment variables.

    Returns:
        The attributes; `service.name` is always among them.

    Raises:
        ConfigError: OTEL_RESOURCE_ATTRIBUTES is invalid.
    """
    name = "OTEL_RESOURCE_ATTRIBUTES"
    found = {"service.name": "lllm"} | _pairs(environment.get(name, ""), name)
    service = settings.service_name or environment.get("OTEL_SERVICE_NAME")
    return found | ({"service.name": service} if service else {})


def _url(settings: OtelExport, signal: Signal, environment: Mapping[str, str]) -> tuple[str, str]:
    """Find the address for a signal, without its user and password, and these."""
    whole = environment.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    if settings.endpoint is None and whole:
        parts, path = _split(whole), ""  # a variable for one signal has the whole address
    else:
        endpoint = settings.endpoint or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        parts, path = _split(endpoint or DEFAULT_ENDPOINT), _PATHS[signal]
    base = parts.path.rstrip("/") if path else parts.path
    for known in _PATHS.values() if path else ():
        base = base.removesuffix(known)
    login, _, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, host, base + path, parts.query, "")), unquote(login)


def _basic(login: str) -> dict[str, str]:
    """Make the header of a user and password: https://www.rfc-editor.org/rfc/rfc7617."""
    if not login:
        return {}
    return {"authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"An endpoint is a URL such as http://127.0.0.1:4318; {shown_url(url)!r} is none."
        )
    try:
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"The endpoint {shown_url(url)!r} has no valid port.") from error
    if port == 4317:
        raise ConfigError(
            "Port 4317 is that of OTLP over gRPC, and lllm sends OTLP over HTTP. Receivers take it "
            "at port 4318."
        )
    return parts


def _headers(signal: Signal, environment: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("OTEL_EXPORTER_OTLP_HEADERS", f"OTEL_EXPORTER_OTLP_{signal.upper()}_HEADERS"):
        found |= _pairs(environment.get(name, ""), name)
    return _checked(found)


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    """Check headers, and write their names in lower case. The values are in no message."""
    for name, value in headers.items():
        is_name = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
        if not is_name or not value.isprintable() or not _is_latin(value):
            raise ConfigError(f"otel: the header {name!r} has an invalid name or value.")
    return {name.lower(): value for name, value in headers.items()}


def _is_latin(text: str) -> bool:
    return all(ord(letter) < 256 for letter in text)


def _pairs(text: str, variable: str) -> dict[str, str]:
    """Parse "key=value,key=value", percent-encoded; the values are in no message."""
    found: dict[str, str] = {}
    for number, pair in enumerate(filter(str.strip, text.split(",")), 1):
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise ConfigError(
                f"{variable}: entry {number} is not KEY=VALUE. Entries are separated by commas; a "
                "comma inside a value is written as %2C."
            )
        found[unquote(name.strip())] = unquote(value.strip())
    return found


def _protocol(settings: OtelExport, environment: Mapping[str, str]) -> Protocol:
    named = settings.protocol or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if named == "http/protobuf":
        return "http/protobuf"
    if named == "http/json":
        return "http/json"
    raise ConfigError(
        f"lllm sends OTLP as 'http/protobuf' or 'http/json', not as {named!r}: give `protocol`, or "
        "change OTEL_EXPORTER_OTLP_PROTOCOL."
    )
