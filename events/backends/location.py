"""Parses the location of a store: a path, a path with `~`, or an `sqlite:///` URL.

A name with a scheme is never taken for a path: a folder called `s3:` is not what anybody means who
writes `s3://bucket`.
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
    """The path of an SQLite store, or ":memory:".

    Args:
        given: A path, or a URL as SQLAlchemy has them: `sqlite:///runs.db` is relative to the
            working directory, `sqlite:////srv/runs.db` absolute, `sqlite://` in memory
            (https://docs.sqlalchemy.org/en/20/core/engines.html#sqlite).

    Raises:
        ConfigError: For a URL of another scheme or with options, and for a `~` that is nobody's.
    """
    text = os.fspath(given)
    if scheme_of(text) != _SQLITE:
        return text if text == MEMORY else os.fspath(local_path(given))
    rest = text[len("sqlite://") :]
    if not rest or rest == f"/{MEMORY}":
        return MEMORY
    if not rest.startswith("/") or len(rest) == 1 or "?" in rest:
        raise ConfigError(
            f"{text!r} is no URL of an SQLite file: write sqlite:///runs.db for one in the working "
            "directory, sqlite:////srv/runs.db for one elsewhere, without a host or options."
        )
    return os.fspath(local_path(rest[1:]))


def local_path(given: str | os.PathLike[str]) -> Path:
    """The path that a text names, with `~` and `~user` expanded.

    Args:
        given: A path.

    Raises:
        ConfigError: For a URL, and for a `~` that is nobody's.
    """
    text = os.fspath(given)
    scheme = scheme_of(text)
    if scheme is not None:
        # What follows the scheme may be a password, and is not repeated.
        raise ConfigError(
            f"{scheme}: is no kind of store that opens here. Give a path, as runs.db or logs/, "
            "or sqlite:///runs.db for an SQLite file; write ./ in front of a name that has a colon."
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{text!r}: {error} Write the path in full.") from None


def scheme_of(text: str) -> str | None:
    """The scheme of a URL in lower case, None for a path.

    Args:
        text: What a user wrote.
    """
    found = _SCHEME.match(text)
    return found[found.lastindex or 0].lower() if found else None
