"""Rows and the checkpoint that says how far they go are written together, or not at all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from lllm.testing.writers import fork
from tests.support.echo import echo
from tests.survival.places import KINDS, Kind, Place

pytestmark = pytest.mark.slow


def die(*_: object) -> None:
    """Be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("kind", KINDS)
def test_killed_between_rows_and_checkpoint(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed when it has written rows, and not yet how far they go, has changed
    nothing: the next one counts each event once, as a rebuild does."""
    place = Place(kind, tmp_path)
    with place.store() as store:
        echo(store)("first")

    def in_child() -> None:
        monkeypatch.setattr("lllm.projections.engine.apply_events.advance", die)
        echo(place.store())("second")

    assert fork(in_child) == -signal.SIGKILL
    with place.store() as store:
        assert [one.state for one in store.list_sessions()] == ["success", "success"]
        assert store.export_cost_summary()["session_count"] == 2
        assert store.rebuild(check=True).difference is None
