"""Parses the URL of a log in PostgreSQL; a password in it is never shown.

The URL is libpq's (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING),
with three more options: `?schema=` names the schema of the log, `?partition_by=month` partitions
its payloads if it is made, and `?jsonb=on` begins to keep payloads as jsonb, too, unless the store
knows whether it does. What the URL leaves out is taken from where libpq takes it: service files,
the environment, the file of passwords.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import msgspec

from lllm.events.backends.postgres.connection import require_psycopg
from lllm.events.concurrency.late_imports import importing
from lllm.events.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMES = ("postgresql", "postgres")
SCHEMA = "lllm"  # the schema of a log whose URL names none
_SWITCH = {"on": True, "off": False}
_LONGEST = 57  # bytes of a schema's name; the channel is named after it, in 63 bytes


class ServerURL(msgspec.Struct, frozen=True):
    """Where a log in PostgreSQL is.

    Attributes:
        conninfo: The connection string for libpq; it may contain a password.
        schema: The name of the schema of the log.
        shown: The URL without anything secret, for messages.
        partition_by: How payloads are partitioned if the log is made, or None.
        jsonb: Whether payloads are kept as jsonb, too; None if the URL does not say it.
    """

    conninfo: str
    schema: str
    shown: str
    partition_by: str | None = None
    jsonb: bool | None = None


def parse_server_url(url: str, schema: str | None = None) -> ServerURL:
    """Parse the URL of a log in PostgreSQL.

    Args:
        url: The URL, as "postgresql://ada@db.example:5432/logs?schema=team".
        schema: The schema, which takes precedence over the URL's; None for the URL's.

    Returns:
        The parts of the URL.

    Raises:
        ConfigError: The URL or the name of the schema is invalid.
        MissingExtra: psycopg is not installed.
    """
    require_psycopg()
    with importing():
        from psycopg import Error, pq

    rest, named = _without_option(url, "schema")
    rest, partition_by = _without_option(rest, "partition_by")
    rest, jsonb = _without_option(rest, "jsonb")
    if jsonb not in ("", "on", "off"):
        raise ConfigError(f"jsonb={jsonb} in the URL of the log: it is on or off.")
    schema = schema or named or SCHEMA
    if len(schema.encode(errors="replace")) > _LONGEST or not schema.isprintable():
        raise ConfigError(
            f"{schema!r} can't be the schema of a log: give it a name of at most {_LONGEST} bytes."
        )
    if rest.partition("://")[0].lower() not in SCHEMES:
        raise ConfigError("The URL of a log in PostgreSQL begins with postgresql://.")
    try:
        if "@" in rest.partition("?")[0].partition("://")[2].partition("/")[2]:
            raise ValueError("a slash in a password ends the part of the URL that it belongs to")
        found = pq.Conninfo.parse(rest.encode())
    except (Error, ValueError):
        # The message of libpq repeats the part that it can't read, which may be the password.
        raise ConfigError(
            "The URL of the log in PostgreSQL can't be read. Write it as "
            "postgresql://user@host:5432/database?schema=lllm; special characters in it are "
            "written as %XX, and options are those of libpq."
        ) from None
    options = {one.keyword.decode(): one.val.decode() for one in found if one.val is not None}
    shown = _shown(options, schema)
    return ServerURL(_conninfo(options), schema, shown, partition_by or None, _SWITCH.get(jsonb))


def _without_option(url: str, name: str) -> tuple[str, str]:
    """Take an option that libpq does not know out of a URL."""
    base, mark, query = url.partition("?")
    options = query.split("&") if mark else []
    named = [unquote(one[len(name) + 1 :]) for one in options if one.startswith(f"{name}=")]
    others = [one for one in options if not one.startswith(f"{name}=")]
    return base + ("?" + "&".join(others) if others else ""), named[-1] if named else ""


def _conninfo(options: Mapping[str, str]) -> str:
    """Write options as a connection string, with those that lllm needs."""
    given = {"fallback_application_name": "lllm", **options, "client_encoding": "UTF8"}
    return " ".join(f"{name}={_quoted(value)}" for name, value in given.items())


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _shown(options: Mapping[str, str], schema: str) -> str:
    user = quote(options["user"]) + "@" if options.get("user") else ""
    host, port = options.get("host", ""), options.get("port", "")
    service = f"&service={quote(options['service'])}" if "service" in options else ""
    return (
        f"postgresql://{user}{quote(host, safe=',:')}{':' + port if port else ''}"
        f"/{quote(options.get('dbname', ''))}?schema={quote(schema)}{service}"
    )
