"""The benchmark of audits measures what it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import audits


@pytest.mark.slow
def test_figures(tmp_path: Path) -> None:
    """Each figure that has a bar is measured, on a small store."""
    found = list(audits.figures(tmp_path / "audit", 10, rounds=1))
    assert [one.unit for one in found] == [
        "µs more", "% slower", "ms", "ms", "bytes", "ms", "events/s", "events/s",
    ]  # fmt: skip
    assert all(one.bar is not None for one in found)
    assert all(one.value.median > 0 for one in found[2:])
