"""Opens the store that a command names; a store that does not exist is never created."""

from __future__ import annotations

import os

from lllm.events.buffered import OnError
from lllm.store.log_store import LogStore

VARIABLE = "LLLM_STORE"


def open_store(location: str, *, on_error: OnError = "hold") -> LogStore:
    """Open the store at a path or URL; read-only if the user can't write it.

    Args:
        location: The path or URL.
        on_error: What to do if the log can't be written: "hold" events in memory, or "raise".

    Returns:
        The store; the caller closes it.

    Raises:
        StoreError: There is no store at `location`.
        LogError: The store can't be opened.
    """
    return LogStore.open(location, make=False, on_error=on_error)


def named_in_environment() -> str | None:
    """Get the path or URL in LLLM_STORE; None if it is not set."""
    return os.environ.get(VARIABLE) or None
