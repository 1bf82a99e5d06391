"""A page of a store with a few sessions, for all tests of a module."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from lllm import LogStore, SQLiteBackend
from tests.support.web_page import Served, answer_with_tool, hostile_session, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


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


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real browser without a window. `.ci/run` installs it; elsewhere it may be missing."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        if os.environ.get("LLLM_TEST_BROWSER"):
            pytest.fail(f"no browser: none of {', '.join(_NAMES)} is on the PATH")
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()
