"""The benchmark of replays measures sessions of the sizes that it names."""

from __future__ import annotations

from pathlib import Path

from benchmarks import replays
from lllm import LogStore, SQLiteBackend
from lllm.invokers.scripted import tool_call


def test_session_size(tmp_path: Path) -> None:
    """A session of the mass replay has about 20 events, and each one replays as it was."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        answers = ["On Monday."] * (replays.ASKS * 2)
        first, second = (replays.asking(answers, store) for _ in range(2))
        session = first(replays.ASKS, return_session=True)
        assert 18 <= len(list(store.events(session.session_id))) <= 24
        assert second.replay(session.session_id, record=False) == "On Monday."


def test_long_session(tmp_path: Path) -> None:
    """All the tools' results together have the tokens that the figure names."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        live = replays.reading([tool_call("read_page", {"number": 1}), "Words."], store)
        session = live("Summarize the book.", return_session=True)
        assert live.replay(session.session_id, record=False) == "Words."
    page = str(replays.read_page(1))
    assert len(page) * replays.TOOL_CALLS >= replays.TOKENS * 4


def test_captured_calls(tmp_path: Path) -> None:
    """Without peers, a captured call is measured beside the bare client alone."""
    figures = list(replays._captured(tmp_path / "captured", 3, None))
    assert [one.unit for one in figures] == ["ms", "x its time"]
    assert all(one.value.median > 0 for one in figures)
