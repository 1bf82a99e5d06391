"""What the tests of all frameworks start from: a store with an instrument on, and its events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lllm
from lllm import LogStore, SQLiteBackend
from lllm.events import codec

USED = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 8},
}


@contextmanager
def recording(framework: str, folder: Path) -> Iterator[LogStore]:
    """A store, `runs.db` in the folder, in which the framework's runs are recorded."""
    with (
        LogStore(SQLiteBackend(folder / "runs.db")) as opened,
        lllm.instrument(framework, log_store=opened, provider="openai"),
    ):
        yield opened


def events(store: LogStore, kind: type[Any]) -> list[Any]:
    """The events of one type in the whole log."""
    found = (codec.decode(one) for one in store.log.read())
    return [one for one in found if isinstance(one, kind)]
