"""Stores of one place that share nothing, as those of two processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from lllm.events.backends.jsonl.shared_folder import folders
from lllm.events.backends.sqlite.shared_database import files

T = TypeVar("T")


@contextmanager
def another_process() -> Iterator[None]:
    """What is opened inside shares nothing with what was opened before."""
    before = files._entries, folders._entries
    files._entries, folders._entries = {}, {}
    try:
        yield
    finally:
        files._entries, folders._entries = before


def apart(open_it: Callable[[], T]) -> T:
    """What another process would have that opens something."""
    with another_process():
        return open_it()
