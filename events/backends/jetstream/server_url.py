"""Parses the URL of a log in NATS JetStream; a password in it is never shown.

The URL names one server of the cluster or several, and the stream:
`nats://user:password@one:4222,two:4222/stream?replicas=3&rows=rows.sqlite`.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from lllm.events.errors import ConfigError

SCHEMES = ("nats", "tls")
STREAM = "lllm"  # the stream of a log whose URL names none
_NAME = re.compile("[A-Za-z0-9_-]{1,64}")
_OPTIONS = ("replicas", "rows", "creds", "monitor", "sync")
_FORM = "nats://host:4222/stream?replicas=3"


class JetStreamURL(msgspec.Struct, frozen=True):
    """Where a log in JetStream is.

    Attributes:
        servers: The URLs of the servers, without names and passwords.
        user: The user's name; None if there is none.
        password: The password; None if there is none.
        stream: The name of the stream.
        replicas: How many servers keep a copy of a stream that is made; None for the default.
        rows: The SQLite file for the rows of lists and costs; None for memory.
        creds: The file with the credentials of the user; None if there is none.
        monitors: The monitoring addresses of the servers, as "http://one:8222".
        sync: True if the user says that all servers have `sync_interval: always`.
        shown: The URL without anything secret, for messages.
    """

    servers: tuple[str, ...]
    user: str | None
    password: str | None
    stream: str
    replicas: int | None
    rows: Path | None
    creds: Path | None
    monitors: tuple[str, ...]
    sync: bool
    shown: str


def parse_jetstream_url(url: str, stream: str | None = None) -> JetStreamURL:
    """Parse the URL of a log in JetStream.

    Args:
        url: The URL, as "nats://one:4222,two:4222/runs?replicas=3".
        stream: The stream, which takes precedence over the URL's; None for the URL's.

    Returns:
        The parts of the URL.

    Raises:
        ConfigError: The URL, an option or the name of the stream is invalid.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise ConfigError(f"The URL of a log in JetStream is written as {_FORM}.")
    address, _, query = rest.partition("?")
    place, _, path = address.partition("/")
    login, at, hosts = place.rpartition("@")
    if not hosts:
        raise ConfigError(f"The URL of the log in JetStream names no server: write {_FORM}.")
    name = stream or unquote(path) or STREAM
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} can't be the stream of a log: use at most 64 letters, digits, - and _."
        )
    options = dict(parse_qsl(query, keep_blank_values=True))
    for option in options:
        if option not in _OPTIONS:
            raise ConfigError(
                f"The URL of a log in JetStream has no option {option!r}; it has "
                f"{', '.join(_OPTIONS)}."
            )
    user, colon, password = login.partition(":")
    return JetStreamURL(
        servers=tuple(f"{scheme}://{host}" for host in hosts.split(",") if host),
        user=unquote(user) if at else None,
        password=unquote(password) if colon else None,
        stream=name,
        replicas=_replicas(options.get("replicas")),
        rows=_path(options.get("rows")),
        creds=_path(options.get("creds")),
        monitors=_monitors(options.get("monitor")),
        sync=_sync(options.get("sync")),
        shown=f"{scheme}://{quote(unquote(user)) + '@' if at else ''}{hosts}/{name}",
    )


def _replicas(text: str | None) -> int | None:
    if text is None:
        return None
    if text not in ("1", "3", "5"):
        raise ConfigError(f"replicas is 1, 3 or 5, not {text!r}")
    return int(text)


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser() if text else None


def _monitors(text: str | None) -> tuple[str, ...]:
    addresses = tuple((text or "").split(",")) if text else ()
    for address in addresses:
        if not address.startswith(("http://", "https://")):
            raise ConfigError(f"monitor has addresses such as http://one:8222, not {address!r}")
    return addresses


def _sync(text: str | None) -> bool:
    if text not in (None, "always"):
        raise ConfigError(f'sync is "always", or left out; not {text!r}')
    return text is not None
