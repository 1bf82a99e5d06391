"""A page of a store with a few sessions, for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lllm import LogStore, SQLiteBackend
from tests.support.web_page import Served, answer_with_tool, hostile_session, served


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page of a store with a session that succeeded, one that failed, and hostile ones."""
    store = LogStore(SQLiteBackend(tmp_path_factory.mktemp("web") / "runs.db"))
    with store:
        answer_with_tool(store, customer="alice")
        answer_with_tool(store, "Z-99", customer="bob")
        hostile_session(store)
        with served(store) as running:
            yield running
