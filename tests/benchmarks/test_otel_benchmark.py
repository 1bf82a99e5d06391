"""The benchmark of received spans measures what it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import otel_imports


@pytest.mark.slow
def test_it_receives_and_imports(tmp_path: Path) -> None:
    found = list(otel_imports.figures(tmp_path / "otel", quick=True))
    assert [one.area for one in found] == ["otel", "otel"]
    assert all(one.value.median > 0 for one in found)
