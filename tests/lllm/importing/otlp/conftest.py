from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import lllm


@pytest.fixture
def store(tmp_path: Path) -> Iterator[lllm.LogStore]:
    with lllm.LogStore(lllm.SQLiteBackend(tmp_path / "runs.db")) as opened:
        yield opened
