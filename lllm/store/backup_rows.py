"""Builds the rows in the backup of a log that is in no file, so that it opens by itself."""

from __future__ import annotations

from contextlib import closing

from lllm.events.backend import LogBackend
from lllm.store.read_model import ReadModel


def build_rows(copy: LogBackend) -> None:
    """Build the rows of lllm's views. Nothing is appended to the log, whatever process died.

    Args:
        copy: The open log of the copy.

    Raises:
        LogError: The rows can't be written.
    """
    with closing(ReadModel(copy, copy, ())) as rows:
        rows.build_stale()
        rows.catch_up()
