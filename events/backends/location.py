"""Parses the location of a store: a path, a path with `~`, or an `sqlite:///` URL.

A text with a scheme is never taken for a path: a user who writes `s3://bucket` does not mean a
folder called `s3:`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from lllm.events.errors import ConfigError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?=//)|(file):", re.IGNORECASE)
_SQLITE = "sqlite"
MEMORY = ":memory:"


def sqlite_path(given: str | os.PathLike[str]) -> str:
    """Convert the location of an SQLite store into a path, or ":memory:".

    Args:
        given: A path, or a URL as in SQLAlchemy
            (https://docs.sqlalchemy.org/en/20/core/engines.html#sqlite): `sqlite:///runs.db` is
            relative to the working directory, `sqlite:////srv/runs.db` is absolute, `sqlite://` is
            in memory.

    Returns:
        The path with `~` expanded, or ":memory:".

    Raises:
        ConfigError: The URL has another scheme, a host or options, or `~` names an unknown user.
    """
    text = os.fspath(given)
    if scheme_of(text) != _SQLITE:
        return text if text == MEMORY else os.fspath(local_path(given))
    rest = text[len("sqlite://") :]
    if not rest or rest == f"/{MEMORY}":
        return MEMORY
    if not rest.startswith("/") or len(rest) == 1 or "?" in rest:
        raise ConfigError(
            f"{text!r} is not a URL of an SQLite file: write sqlite:///runs.db for one in the "
            "working directory, sqlite:////srv/runs.db for one elsewhere, without host or options."
        )
    return os.fspath(local_path(rest[1:]))


def file_of(location: str) -> Path | None:
    """Find the file or folder that a store's location names.

    Args:
        location: A path or URL of a store, as a user wrote it.

    Returns:
        The path; None for the URL of a server.

    Raises:
        ConfigError: It is an invalid URL of an SQLite file, or `~` names an unknown user.
    """
    if scheme_of(location) in (None, _SQLITE):
        return Path(sqlite_path(location))
    return None


def shown_location(log: object, location: str) -> str:
    """Make the text by which messages and pages name a store; it has no password.

    Args:
        log: The open log.
        location: The path or URL by which it was opened, as a user wrote it.

    Returns:
        The log's own name for a store on a server; otherwise the location.
    """
    name = getattr(log, "path", None)
    return name if isinstance(name, str) and file_of(location) is None else location


def local_path(given: str | os.PathLike[str]) -> Path:
    """Convert a text into a path, with `~` and `~user` expanded.

    Args:
        given: A path, as a user wrote it.

    Returns:
        The path, with `~` replaced by the home folder.

    Raises:
        ConfigError: It is a URL, or `~` names an unknown user.
    """
    text = os.fspath(given)
    scheme = scheme_of(text)
    if scheme is not None:
        # The text after the scheme may contain a password, so the message does not repeat it.
        raise ConfigError(
            f"{scheme}: is no kind of store that opens here. Give a path, as runs.db or logs/, "
            "or sqlite:///runs.db for an SQLite file; write ./ in front of a name that has a colon."
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{text!r}: {error} Write the path in full.") from None


def scheme_of(text: str) -> str | None:
    """Find the scheme of a URL.

    Args:
        text: A path or URL, as a user wrote it.

    Returns:
        The scheme in lower case; None for a path.
    """
    found = _SCHEME.match(text)
    return found[found.lastindex or 0].lower() if found else None
