"""The store that a command is about: found by its path or URL, and never made by looking for it."""

from __future__ import annotations

import os

from lllm.events.buffered import OnError
from lllm.store.log_store import LogStore

VARIABLE = "LLLM_STORE"


def open_store(location: str, *, on_error: OnError = "hold") -> LogStore:
    """The store at a path or URL. What this user can't write is opened to be read only.

    on_error: as LogStore's. Raises as LogStore.open.
    """
    return LogStore.open(location, make=False, on_error=on_error)


def named_in_environment() -> str | None:
    """The path that LLLM_STORE names."""
    return os.environ.get(VARIABLE) or None
