"""Recordings of every version of the events are replayed by today's code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lllm import LogStore
from lllm.events.model import EVENTS
from tests.support.golden_recordings import FOLDER, TASK, desk

RECORDINGS = sorted(FOLDER.glob("*.jsonl"))
# What is no part of a session that was exported.
ELSEWHERE = {
    "session.annotated", "session.erased", "session.held", "session.released",
    "session.interrupted", "session.archived", "session.restored", "error.recorded", "log.gap",
}  # fmt: skip


@pytest.mark.parametrize("file", RECORDINGS, ids=[one.stem for one in RECORDINGS])
def test_it_is_replayed(file: Path, store: LogStore) -> None:
    """What the program asks is what it asked then, and it delivers the same."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    [end] = [one for one in lines if one["type"] == "session.succeeded"]
    with store.replay(file) as replay:
        delivery = desk(store, [])(TASK)
    assert delivery == end["data"]["delivery"]
    assert {one.verdict for one in replay.requests} == {"same"}
    assert not replay.divergences


def test_every_version_is_there() -> None:
    """A new type or version of an event needs a recording: see tests/support/golden_recordings."""
    recorded = {
        (one["type"], one["version"])
        for file in RECORDINGS
        for one in map(json.loads, file.read_text(encoding="utf-8").splitlines())
    }
    needed = {
        (name, version)
        for name, kind in EVENTS.items()
        if name not in ELSEWHERE
        for version in range(1, kind.version + 1)
    }
    assert needed <= recorded
